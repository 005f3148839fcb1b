"""What can be set of the guest-facing server."""

from __future__ import annotations

import msgspec

from metadata.limits import Window


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times; times in seconds. The defaults let the 28 requests of a booting guest pass many times over."""

    hold_seconds: float = 8.0
    """How long a request of an unknown caller waits; below the 10 s that cloud-init and Ignition wait."""
    retry_after: int = 1
    """Value of Retry-After with a 503."""
    held_per_network: int = 64
    """Requests waiting in one network; one more is answered 503 at once."""
    connections_per_network: int = 1024
    """Open connections in one network; one more is answered 503 and closed."""
    connections_per_port: int = 32
    """Open connections of one port, those of both families together; one more is answered 503 and closed."""
    rate: float = 4.0
    """Requests a second that a port may make in the long run; more are answered 429. 0: no limit."""
    burst: int = 120
    """Requests that a port may make at once."""
    windows: tuple[Window, Window] | None = None
    """Neutron's base and burst window, instead of the two above."""
    header_bytes: int = 8192
    """Request line and headers of one request."""
    body_bytes: int = 16384
    header_timeout: float = 10.0
    """From the first byte of a request (or the connection) to its last."""
    idle_timeout: float = 30.0
    """A kept connection without a request."""
    write_timeout: float = 30.0
    """A guest that does not take its answer."""
    answer_timeout: float = 90.0
    """A backend that does not answer; it has shorter times of its own."""
    linger_seconds: float = 2.0
    """After an error, how long what the guest still sends is read and dropped, so that the answer reaches it."""
    pipelined: int = 16
    """Requests that one connection may have sent ahead."""
    sweep_seconds: float = 0.5
    """How often the times above are looked at."""
    defer_accept_seconds: int = 1
    """TCP_DEFER_ACCEPT: a connection without data stays in the kernel that long; 0: off.

    Not longer than a request takes to follow its connection: all that wait there fill one queue, whosever they are, and
    when it is full the kernel keeps no SYN, so that nobody on the network can be told apart.
    """
