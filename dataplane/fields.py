"""Rules of single values: each takes a value, gives its canonical form, or raises ValueError with the reason.

`Findings` runs rules over records and keeps every mistake with its path.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeVar

import msgspec

from dataplane.errors import Mistake
from dataplane.model import Ip, Mac, Record

R = TypeVar("R", bound=Record)
Rule = Callable[[Any], Any]
Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

# What standards and the kernel say.
DEVICE_NAME_BYTES = 15  # IFNAMSIZ - 1
NAMESPACE_NAME_BYTES = 255  # NAME_MAX: the name of a file below /run/netns
DOMAIN_BYTES = 253  # RFC 1035 2.3.4, in text form
# Chosen: the Neutron and Nova APIs' limit of names and values.
TEXT_CHARACTERS = 255

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_DEVICE = re.compile(r"[!-.0-9;-~]+")  # visible ASCII without '/' and ':', see dev_valid_name() of Linux
_NAMESPACE = re.compile(r"[A-Za-z0-9_.@:+-]+")
_VISIBLE = re.compile(r"[!-~]+")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_EC2_ID = re.compile(r"i-[0-9A-Fa-f]{8,17}")
_DOTS = (".", "..")


class Findings:
    """Collects mistakes while records are brought into canonical form."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def add(self, path: str, reason: str) -> None:
        """Note one mistake."""
        self.mistakes.append(Mistake(path, reason))

    def fields(self, record: R, path: str, rules: Mapping[str, Rule]) -> R:
        """Apply the rule of each named field (to each element of a tuple); None is left alone.

        Gives the record with canonical values; a value that breaks its rule is noted and stays as it was.
        """
        changes: dict[str, Any] = {}
        for name, rule in rules.items():
            value = getattr(record, name)
            if value is None:
                continue
            if isinstance(value, tuple):
                new: Any = tuple([self._value(item, rule, path, name, i) for i, item in enumerate(value)])
            else:
                new = self._value(value, rule, path, name)
            if new != value:
                changes[name] = new
        return msgspec.structs.replace(record, **changes) if changes else record

    def each(self, record: R, path: str, name: str, canonical: Callable[[Findings, Any, str], Any]) -> R:
        """Apply `canonical(findings, element, path)` to each record of the tuple field `name`."""
        old = getattr(record, name)
        new = tuple([canonical(self, item, f"{path}.{name}[{index}]") for index, item in enumerate(old)])
        return msgspec.structs.replace(record, **{name: new}) if new != old else record

    def _value(self, value: Any, rule: Rule, path: str, name: str, index: int | None = None) -> Any:
        try:
            return rule(value)
        except ValueError as error:
            self.add(f"{path}.{name}" + (f"[{index}]" if index is not None else ""), str(error))
            return value


def optional(rule: Rule) -> Rule:
    """The same rule, with the empty text allowed."""
    return lambda value: rule(value) if value != "" else value


def between(low: int, high: int) -> Rule:
    """A whole number of an inclusive range."""

    def rule(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"{value} is not between {low} and {high}")
        return value

    return rule


def identifier(value: str) -> str:
    """An id that is safe in file names, paths and labels."""
    if not _ID.fullmatch(value):
        raise ValueError("an id is 1 to 64 letters, digits, '_', '.', '-', and begins with a letter or digit")
    return value


def text(value: str) -> str:
    """One line of at most 255 characters, maybe empty."""
    if len(value) > TEXT_CHARACTERS:
        raise ValueError(f"is longer than {TEXT_CHARACTERS} characters")
    if _CONTROL.search(value):
        raise ValueError("contains a control character")
    return value


def label(value: str) -> str:
    """One line of 1 to 255 characters."""
    if not value:
        raise ValueError("is empty")
    return text(value)


def visible(value: str) -> str:
    """A word of visible ASCII (it may become a header or a metric label); maybe empty."""
    if value and not _VISIBLE.fullmatch(value):
        raise ValueError("contains a character that is not visible ASCII")
    return text(value)


def domain(value: str) -> str:
    """A host or domain name (RFC 1123 2.1, with '_'), maybe with the final dot, maybe empty."""
    if value and (len(value) > DOMAIN_BYTES + value.endswith(".") or not _DOMAIN.fullmatch(value)):
        raise ValueError(f"{value!r} is not a host or domain name")
    return value


def device(value: str) -> str:
    """A name that the kernel takes for a network device."""
    if len(value) > DEVICE_NAME_BYTES:
        raise ValueError(f"a device name has at most {DEVICE_NAME_BYTES} characters")
    if value in _DOTS or not _DEVICE.fullmatch(value):
        raise ValueError(f"{value!r} is not a device name")
    return value


def namespace(value: str) -> str:
    """A name below /run/netns; it can never lead out of that folder."""
    if value in _DOTS or len(value) > NAMESPACE_NAME_BYTES or not _NAMESPACE.fullmatch(value):
        raise ValueError(f"{value!r} is not a namespace name")
    return value


def uuid(value: str) -> str:
    """A UUID with hyphens; canonical: lower case (RFC 9562)."""
    if not _UUID.fullmatch(value):
        raise ValueError(f"{value!r} is not a UUID")
    return value.lower()


def owner(value: str) -> str:
    """The id of a port's owner: any text, a UUID in canonical form so that it finds its instance."""
    return value.lower() if _UUID.fullmatch(value) else text(value)


def ec2_id(value: str) -> str:
    """An instance id as EC2 writes it: `i-` and 8 to 17 hexadecimal digits."""
    if not _EC2_ID.fullmatch(value):
        raise ValueError(f"{value!r} is not i- and 8 to 17 hexadecimal digits")
    return value.lower()


def mac(value: str) -> Mac:
    """A unicast MAC that is not zero; canonical: lower case with colons."""
    if not _MAC.fullmatch(value):
        raise ValueError(f"{value!r} is not a MAC address")
    canonical = value.lower().replace("-", ":")
    if int(canonical[1], 16) & 1:
        raise ValueError(f"{canonical} is a multicast or broadcast address")
    if canonical == "00:00:00:00:00:00":
        raise ValueError("a MAC address of zeros is nobody's")
    return Mac(canonical)


def ip(value: str) -> Ip:
    """An IPv4 or IPv6 address; canonical: compressed, lower case."""
    return Ip(value if _IPV4.fullmatch(value) else str(parse_ip(value)))


def ipv4(value: str) -> Ip:
    """An IPv4 address."""
    if not _IPV4.fullmatch(value):
        raise ValueError(f"{value!r} is not an IPv4 address")
    return Ip(value)


def prefix(value: str) -> str:
    """An address range in CIDR form without host bits."""
    return str(parse_prefix(value))


def address_or_prefix(value: str) -> str:
    """An address, or a range in CIDR form."""
    return prefix(value) if "/" in value else ip(value)


def base64_text(value: str) -> str:
    """Standard base64 (RFC 4648 4); canonical: without white space."""
    canonical = "".join(value.split())
    try:
        base64.b64decode(canonical, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    return canonical


def json_value(value: Any) -> Any:
    """Data that JSON can carry there and back: no dates, no keys that are not text, no infinite numbers."""
    try:
        same = msgspec.json.decode(msgspec.json.encode(value)) == value
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        same = False
    if not same:
        raise ValueError("holds something that JSON cannot carry")
    return value


def parse_ip(value: str) -> Address:
    """The address as a number; no zone and no IPv4-mapped form, which are second names of other addresses."""
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError(f"{value!r}: zones and IPv4-mapped addresses are not allowed")
    return address


@lru_cache(maxsize=4096)
def parse_prefix(value: str) -> Prefix:
    """The range as numbers."""
    if "/" not in value:
        raise ValueError(f"{value!r} has no prefix length, such as 10.0.0.0/24")
    try:
        loose = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not an address range in CIDR form") from None
    if str(loose.network_address) != str(ip_address(value.partition("/")[0])):
        raise ValueError(f"{value} has host bits set, did you mean {loose}?")
    return loose
