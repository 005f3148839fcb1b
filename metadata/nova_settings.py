"""What can be set of the proxy to Nova."""

from __future__ import annotations

from typing import Literal

import msgspec

Mode = Literal["instance", "provider"]


class NovaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where Nova is, how it is asked, and for how long its answers hold; times in seconds.

    `secrets` are tried in order when Nova answers 403: the present one and, while it is being exchanged, the other.
    """

    url: str
    """`http://host:port` or `https://host:port`, nothing behind it."""
    secrets: tuple[str, ...]
    mode: Mode = "instance"
    """Whether we name the instance, or a load balancer whose networks Nova looks the address up in."""
    provider_id: str = ""
    """Of mode `provider`; `{network_id}` stands for the caller's network."""
    ca_file: str = ""
    """Certificates that Nova's must be signed by; empty: the system's."""
    client_cert: str = ""
    client_key: str = ""
    insecure: bool = False
    """Believe any certificate."""
    connect_timeout: float = 3.0
    timeout: float = 30.0
    """Of a document, what Nova may take for it, from the request to the last byte."""
    vendordata_timeout: float = 60.0
    """Of vendor_data2.json, for which Nova asks further services."""
    password_timeout: float = 30.0
    hold_seconds: float = 8.0
    """How long a request waits for a Nova that cannot be connected to, before it gets 503."""
    retry_after: int = 1
    """Value of Retry-After with that 503."""
    cache_seconds: float = 10.0
    """How long a document is given out again without asking; 0: never."""
    stale_seconds: float = 600.0
    """How long it is given out when Nova fails; 0: never."""
    stale_after: float = 2.0
    """How long Nova may take before a document of that age is given out instead."""
    cache_bytes: int = 64 * 1024 * 1024
    prefetch: bool = True
    """Whether the documents of a booting guest are fetched before it asks for them."""
    response_bytes: int = 4 * 1024 * 1024
    """Greatest answer that is taken."""
    whole_bytes: int = 64 * 1024
    """Greatest answer that is kept and shared; what is larger is passed on as it comes, to one guest."""
    connections: int = 256
    """Requests under way at Nova."""
    connections_per_project: int = 32
    """Of these, how many of one project; what is more waits its turn."""
    waiting_per_project: int = 4096
    """Requests of one project that wait their turn; one more gets 503."""
