"""The DHCPv4 message format: bytes to `Message` and back (RFC 2131 section 2, RFC 2132, RFC 3396).

`decode` checks everything that later code relies on: any bytes give a `Message` or a `WireError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dataplane.dhcp.constants import (
    ANY,
    BOOTP,
    BOOTREPLY,
    BOOTREQUEST,
    CLIENT_ID,
    COOKIE,
    END,
    ETHERNET,
    FILE,
    HEADER_BYTES,
    LEASE_TIME,
    MAC_BYTES,
    MAX_CLIENT_ID_BYTES,
    MAX_MESSAGE_SIZE,
    MAX_OPTIONS,
    MESSAGE_TYPE,
    OPTIONS_START,
    OVERLOAD,
    OVERLOAD_FILE,
    OVERLOAD_SNAME,
    PAD,
    RELAY_AGENT,
    REQUESTED_ADDRESS,
    SERVER_ID,
    SNAME,
)
from dataplane.errors import WireError

DROP_REASONS: Final[dict[str, str]] = {
    "short": "the message ends before its options",
    "bad_op": "op is neither BOOTREQUEST nor BOOTREPLY",
    "bad_htype": "the hardware type is not Ethernet",
    "bad_hlen": "the hardware address length is not 6",
    "no_cookie": "the magic cookie of RFC 2131 is missing",
    "no_end": "an options field has no END option",
    "option_overrun": "an option runs past the field it is in",
    "too_many_options": "the message has more options than any client sends",
    "bad_option_length": "an option of a fixed length has another one",
    "bad_overload": "option 52 is not 1, 2 or 3",
    "client_id_too_long": "the client identifier is longer than 255 bytes",
    "bad_relay_option": "a sub-option of option 82 runs past its end",
}
"""Stable drop reason to its one-line meaning."""

_FIXED_LENGTHS: Final = (
    (MESSAGE_TYPE, 1),
    (REQUESTED_ADDRESS, 4),
    (SERVER_ID, 4),
    (LEASE_TIME, 4),
    (MAX_MESSAGE_SIZE, 2),
)
_FIXED_PART: Final = bytes((ETHERNET, MAC_BYTES))
_EMPTY_CHADDR_TAIL: Final = bytes(10)


class Message:
    """A decoded message: the payload as it came, and its options.

    Addresses are 4 raw bytes. `options` maps an option code to its value with repeated options already joined
    (RFC 3396), in the order in which they were first met; PAD, END and option 52's effect are resolved.
    """

    __slots__ = ("message_type", "options", "payload")

    def __init__(self, payload: bytes, message_type: int, options: dict[int, bytes]) -> None:
        self.payload = payload
        self.message_type = message_type
        """Value of option 53, or 0 (`BOOTP`) without it."""
        self.options = options

    @property
    def op(self) -> int:
        """1: from a client, 2: from a server."""
        return self.payload[0]

    @property
    def hops(self) -> int:
        """How many relay agents have passed the message on."""
        return self.payload[3]

    @property
    def xid(self) -> bytes:
        """Transaction id, 4 bytes."""
        return self.payload[4:8]

    @property
    def secs(self) -> int:
        """Seconds since the client began."""
        return int.from_bytes(self.payload[8:10], "big")

    @property
    def flags(self) -> int:
        """Bit 15 is BROADCAST."""
        return int.from_bytes(self.payload[10:12], "big")

    @property
    def ciaddr(self) -> bytes:
        """The address that the client already uses."""
        return self.payload[12:16]

    @property
    def yiaddr(self) -> bytes:
        """The address that the server gives."""
        return self.payload[16:20]

    @property
    def siaddr(self) -> bytes:
        """Server of the next boot step."""
        return self.payload[20:24]

    @property
    def giaddr(self) -> bytes:
        """The relay agent's address."""
        return self.payload[24:28]

    @property
    def chaddr(self) -> bytes:
        """The client's MAC, 6 bytes."""
        return self.payload[28:34]

    @property
    def sname(self) -> bytes:
        """The server name field, 64 bytes."""
        return self.payload[SNAME]

    @property
    def file(self) -> bytes:
        """The boot file field, 128 bytes."""
        return self.payload[FILE]


def decode(payload: bytes) -> Message:
    """Decode the payload of a UDP datagram.

    Options are read from the options field, then `file`, then `sname` when option 52 says so. Each of these fields
    must end with END. Raises WireError with a reason of `DROP_REASONS`, and nothing else.
    """
    if len(payload) <= OPTIONS_START:
        raise WireError("short")
    if payload[0] not in (BOOTREQUEST, BOOTREPLY):
        raise WireError("bad_op")
    if payload[1:3] != _FIXED_PART:
        raise WireError("bad_htype" if payload[1] != ETHERNET else "bad_hlen")
    if payload[HEADER_BYTES:OPTIONS_START] != COOKIE:
        raise WireError("no_cookie")
    options: dict[int, bytes] = {}
    room = _read_options(payload, OPTIONS_START, options, MAX_OPTIONS)
    if OVERLOAD in options:
        overload = options.pop(OVERLOAD)
        if len(overload) != 1 or not 1 <= overload[0] <= OVERLOAD_FILE | OVERLOAD_SNAME:
            raise WireError("bad_overload")
        if overload[0] & OVERLOAD_FILE:
            room = _read_options(payload[FILE], 0, options, room)
        if overload[0] & OVERLOAD_SNAME:
            _read_options(payload[SNAME], 0, options, room)
        options.pop(OVERLOAD, None)  # inside an overloaded field it means nothing
    for code, length in _FIXED_LENGTHS:
        if code in options and len(options[code]) != length:
            raise WireError("bad_option_length")
    if CLIENT_ID in options and len(options[CLIENT_ID]) > MAX_CLIENT_ID_BYTES:
        raise WireError("client_id_too_long")
    if RELAY_AGENT in options:
        relay_suboptions(options[RELAY_AGENT])
    kind = options.get(MESSAGE_TYPE)
    return Message(payload, kind[0] if kind else BOOTP, options)


def _read_options(field: bytes, at: int, options: dict[int, bytes], room: int) -> int:
    """Add the options of `field` from index `at` to `options`; return how many more may come."""
    end = len(field)
    while at < end:
        code = field[at]
        if code == END:
            return room
        at += 1
        if code == PAD:
            continue
        if at >= end:
            raise WireError("option_overrun")
        start = at + 1
        at = start + field[at]
        if at > end:
            raise WireError("option_overrun")
        if room == 0:
            raise WireError("too_many_options")
        room -= 1
        if code in options:
            options[code] += field[start:at]
        else:
            options[code] = field[start:at]
    raise WireError("no_end")


def relay_suboptions(value: bytes) -> dict[int, bytes]:
    """The sub-options of a relay agent option (RFC 3046 section 2.0); of a repeated one, the last.

    Raises WireError("bad_relay_option") if one runs past the end.
    """
    found: dict[int, bytes] = {}
    at, end = 0, len(value)
    while at < end:
        if at + 2 > end or at + 2 + value[at + 1] > end:
            raise WireError("bad_relay_option")
        found[value[at]] = value[at + 2 : at + 2 + value[at + 1]]
        at += 2 + value[at + 1]
    return found


def encode_option(code: int, value: bytes) -> bytes:
    """Code, length and value; a value above 255 bytes is split into several options (RFC 3396)."""
    if len(value) <= 255:
        return bytes((code, len(value))) + value
    return b"".join(encode_option(code, value[at : at + 255]) for at in range(0, len(value), 255))


def encode(
    *,
    op: int = BOOTREQUEST,
    xid: bytes,
    chaddr: bytes,
    options: Iterable[tuple[int, bytes]],
    hops: int = 0,
    secs: int = 0,
    flags: int = 0,
    ciaddr: bytes = ANY,
    yiaddr: bytes = ANY,
    siaddr: bytes = ANY,
    giaddr: bytes = ANY,
    sname: bytes = b"",
    file: bytes = b"",
) -> bytes:
    """Encode a message from its fields, without padding. It is what a client or a relay sends; replies of the server
    come from `template`.

    `xid` and addresses are 4 bytes, `chaddr` 6; `sname` and `file` are filled up with zeros. Raises ValueError for
    fields that do not fit.
    """
    if len(xid) != 4 or len(chaddr) != MAC_BYTES or any(len(ip) != 4 for ip in (ciaddr, yiaddr, siaddr, giaddr)):
        raise ValueError("a transaction id and an address have 4 bytes, a MAC address has 6")
    if len(sname) > 64 or len(file) > 128:
        raise ValueError("sname has at most 64 bytes, file at most 128")
    parts = [
        bytes((op, ETHERNET, MAC_BYTES, hops)),
        xid,
        secs.to_bytes(2, "big"),
        flags.to_bytes(2, "big"),
        ciaddr,
        yiaddr,
        siaddr,
        giaddr,
        chaddr,
        _EMPTY_CHADDR_TAIL,
        sname.ljust(64, b"\0"),
        file.ljust(128, b"\0"),
        COOKIE,
    ]
    parts += [encode_option(code, value) for code, value in options]
    parts.append(bytes((END,)))
    return b"".join(parts)
