"""DHCPv4 options from an operator's text to bytes: typed, length-checked, never re-parsed (CVE-2021-40085)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from dataplane.dhcp.catalogue import BLANK_ALLOWED, BY_NAME, KINDS, RESERVED, Kind
from dataplane.dhcp.constants import BOOT_FILE, INFINITE_LEASE
from dataplane.dhcp.routes import encode_routes
from dataplane.model import ExtraDhcpOpt

# Neutron's database columns.
MAX_NAME: Final = 64
MAX_VALUE: Final = 255
# Every byte of an option costs room in a message of 576 bytes; one value may not take it all.
MAX_ENCODED: Final = 255

IPXE_BOOT_FILE_NAME: Final = "bootfile-name-alt"
"""ML2/OVN's name for the boot file of clients that already run iPXE."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SEPARATOR: Final = re.compile(r"[,\s]+")
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2})+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class PortOption(NamedTuple):
    """An option that an operator set for a port."""

    code: int
    """The option's number; 255 stands for the field siaddr."""
    value: bytes | None
    """None takes the option away."""
    ipxe: bool | None = None
    """True: only for clients that run iPXE; False: only for others; None: for all."""
    applies: bool = True
    """False: carries a tag that no client of ours ever has."""


def from_extra(option: ExtraDhcpOpt) -> PortOption:
    """Read a port's `extra_dhcp_opts` entry for IPv4.

    `opt_name` is a dnsmasq name or a number (`67`, `bootfile-name`, `option:bootfile-name`), after any number of tags
    (`tag:ipxe,` or `tag:!ipxe,`; other tags are never set, so `tag:x,` never applies and `tag:!x,` always does).
    Raises ValueError with the reason in an operator's words.
    """
    name, value = option.opt_name.strip(), option.opt_value
    if len(name) > MAX_NAME:
        raise ValueError(f"an option name has at most {MAX_NAME} characters")
    if len(value or "") > MAX_VALUE:
        raise ValueError(f"an option value has at most {MAX_VALUE} characters")
    if _CONTROL.search(name) or _CONTROL.search(value or ""):
        raise ValueError("control characters are not allowed")
    name, ipxe, applies = _strip_tags(name)
    code = code_of(name)
    if name.lower() == IPXE_BOOT_FILE_NAME and ipxe is None:
        ipxe = True
    return PortOption(code, encode(code, value), ipxe, applies)


def _strip_tags(name: str) -> tuple[str, bool | None, bool]:
    """The name without its tags, the value of the tag `ipxe` that is asked for, and whether other tags allow it."""
    ipxe: bool | None = None
    applies = True
    while name.startswith("tag:"):
        tag, comma, name = name[4:].partition(",")
        if not comma or not tag.strip("!"):
            raise ValueError("a tag is followed by a comma and the option's name")
        wanted = not tag.startswith("!")
        if tag.lstrip("!") == "ipxe":
            applies = applies and ipxe in (None, wanted)
            ipxe = wanted
        elif wanted:
            applies = False
        name = name.strip()
    return name, ipxe, applies


def code_of(name: str) -> int:
    """The number of an option by dnsmasq's name, ML2/OVN's name (also with underscores) or a number as text.

    Raises ValueError for unknown names, numbers beyond 1 to 255 and the protocol's own options.
    """
    if name.startswith("option6:"):
        raise ValueError("this is a DHCPv6 option: give it ip_version 6")
    word = name.removeprefix("option:").lower().replace("_", "-")
    if word.isascii() and word.isdigit():
        code = int(word)
        if not 0 < code <= 255:
            raise ValueError("an option's number is 1 to 255")
    elif word == IPXE_BOOT_FILE_NAME:
        code = BOOT_FILE
    elif word in BY_NAME:
        code = BY_NAME[word]
    else:
        raise ValueError(f'unknown option "{name}"')
    if code in RESERVED:
        raise ValueError(f"option {code} belongs to the protocol and cannot be set")
    return code


def encode(code: int, value: str | None) -> bytes | None:
    """The bytes of an option's value; None for a blank one that takes the option away.

    Raises ValueError with the reason if the text does not fit the option's type.
    """
    text = (value or "").strip()
    if not text:
        if code in BLANK_ALLOWED:
            return None
        raise ValueError("a blank value is allowed only for router and classless-static-route")
    kind = KINDS.get(code)
    data = _guess(text) if kind is None else _ENCODERS[kind](text)
    if not data:
        raise ValueError("the value holds nothing")
    if len(data) > MAX_ENCODED:
        raise ValueError(f"the value takes {len(data)} bytes, {MAX_ENCODED} are allowed")
    return data


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATOR.split(text) if word]


def _address(text: str) -> bytes:
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        raise ValueError(f'"{text}" is not an IPv4 address') from None


def _addresses(text: str) -> bytes:
    return b"".join([_address(word) for word in _words(text)])


def _address_pairs(text: str) -> bytes:
    data = _addresses(text)
    if len(data) % 8:
        raise ValueError("addresses come in pairs")
    return data


def _bytes(text: str) -> bytes:
    if _HEXADECIMAL.fullmatch(text):
        return bytes(int(octet, 16) for octet in text.split(":"))
    return text.encode()


def _flag(text: str) -> bytes:
    if text.lower() not in ("0", "1", "false", "true"):
        raise ValueError("must be 0 or 1")
    return b"\x01" if text.lower() in ("1", "true") else b"\x00"


def _integer(size: int, *, signed: bool = False) -> Callable[[str], bytes]:
    low = -(1 << (size * 8 - 1)) if signed else 0
    high = (1 << (size * 8 - signed)) - 1

    def encoder(text: str) -> bytes:
        try:
            number = int(text, 16 if text.lower().startswith("0x") else 10)
        except ValueError:
            raise ValueError(f'"{text}" is not a number') from None
        if not low <= number <= high:
            raise ValueError(f"must be {low} to {high}")
        return number.to_bytes(size, "big", signed=signed)

    return encoder


def _seconds(text: str) -> bytes:
    if text.lower() in ("infinite", "-1"):
        return INFINITE_LEASE.to_bytes(4, "big")
    digits, unit = (text[:-1], text[-1].lower()) if text[-1].isalpha() else (text, "s")
    if not (digits.isascii() and digits.isdigit()) or unit not in _SECONDS:
        raise ValueError(f'"{text}" is not a time: seconds, or a number with s, m, h, d or w, or infinite')
    seconds = int(digits) * _SECONDS[unit]
    if not 0 < seconds <= INFINITE_LEASE:
        raise ValueError(f"a time is 1 to {INFINITE_LEASE} seconds")
    return seconds.to_bytes(4, "big")


def encode_name(name: str) -> bytes:
    """A domain name in DNS wire format without compression (RFC 1035 section 3.1).

    Raises ValueError for empty or over-long labels (63) and names (255).
    """
    labels = name.rstrip(".").split(".")
    if not name.isascii() or not all(0 < len(label) <= 63 for label in labels):
        raise ValueError(f'"{name}" is not a domain name')
    data = b"".join(bytes((len(label),)) + label.encode() for label in labels) + b"\0"
    if len(data) > 255:
        raise ValueError(f'"{name}" is longer than 255 bytes')
    return data


def _names(text: str) -> bytes:
    return b"".join(encode_name(word) for word in _words(text))


def _sip(text: str) -> bytes:
    try:
        return b"\x01" + _addresses(text)
    except ValueError:
        return b"\x00" + _names(text)


def _routes(text: str) -> bytes:
    words = _words(text)
    if len(words) % 2:
        raise ValueError("routes are pairs of destination and gateway")
    try:
        return encode_routes(zip(words[::2], words[1::2], strict=True))
    except ValueError as error:
        raise ValueError(f"not a route: {error}") from None


def _guess(text: str) -> bytes:
    """As dnsmasq does for a number it has no type for: addresses, hexadecimal, a number, or the text."""
    try:
        return _addresses(text)
    except ValueError:
        pass
    if text.isascii() and text.isdigit() and int(text) <= INFINITE_LEASE:
        number = int(text)
        return number.to_bytes(1 if number <= 0xFF else 2 if number <= 0xFFFF else 4, "big")
    return _bytes(text)


_ENCODERS: Final[dict[Kind, Callable[[str], bytes]]] = {
    "address": _address,
    "addresses": _addresses,
    "address-pairs": _address_pairs,
    "bytes": _bytes,
    "flag": _flag,
    "i32": _integer(4, signed=True),
    "names": _names,
    "routes": _routes,
    "seconds": _seconds,
    "sip": _sip,
    "text": str.encode,
    "u8": _integer(1),
    "u16": _integer(2),
    "u32": _integer(4),
}
