"""What packets a case is given, by name: `v4-udp-64`, `v6-tcp-1400`, `mixed-mixed-imix-1m-zipf`, `malformed`.

A name is family, transport and size (bytes of the inner frame, without FCS), then, if they are not the usual, the
number of flows and `zipf`. Headers that need more than 64 bytes get what they need.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

FAMILIES: Final = {"v4": (4,), "v6": (6,), "mixed": (4, 6)}
TRANSPORTS: Final = {"udp": (17,), "tcp": (6,), "mixed": (17, 6)}
IMIX: Final = (64,) * 7 + (576,) * 4 + (1400,)
"""Sizes of twelve packets, the usual mix of 7 : 4 : 1."""
SIZES: Final = {"64": (64,), "512": (512,), "1400": (1400,), "imix": IMIX}
FLOWS: Final = 10_000
MOST_FLOWS: Final = 1 << 20
ZIPF: Final = 0.99
MALFORMED: Final = "malformed"

_NAME = re.compile(
    rf"(?P<family>{'|'.join(FAMILIES)})-(?P<transport>{'|'.join(TRANSPORTS)})-(?P<size>{'|'.join(SIZES)})"
    r"(?:-(?P<flows>[1-9]\d*)(?P<unit>[km]?))?(?P<zipf>-zipf)?"
)
_UNITS = {"": 1, "k": 1000, "m": MOST_FLOWS}


@dataclass(frozen=True)
class Profile:
    """A kind of packets and how many flows they belong to."""

    family: str = "v4"
    transport: str = "udp"
    size: str = "64"
    flows: int = FLOWS
    exponent: float = 0.0
    """Of Zipf's law; 0: every flow is as frequent."""
    malformed: bool = False

    @property
    def kind(self) -> str:
        """What the templates depend on: the name without flows."""
        return MALFORMED if self.malformed else f"{self.family}-{self.transport}-{self.size}"

    def __str__(self) -> str:
        flows = "" if self.flows == FLOWS else f"-{count(self.flows)}"
        return f"{self.kind}{flows}{'-zipf' * bool(self.exponent)}"

    @property
    def frame_bytes(self) -> float:
        """Bytes of a packet on average, before headers that need more."""
        sizes = SIZES[self.size]
        return sum(sizes) / len(sizes)


def count(number: int) -> str:
    """1 to 1m, as in a profile's name; 1m is 1,048,576."""
    if number == MOST_FLOWS:
        return "1m"
    return f"{number // 1000}k" if number >= 1000 and number % 1000 == 0 else str(number)


def parse(name: str) -> Profile:
    """The profile of that name. Raises ValueError saying what names look like."""
    if name == MALFORMED:
        return Profile(malformed=True)
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"{name!r}: a profile is {'|'.join(FAMILIES)}-{'|'.join(TRANSPORTS)}-{'|'.join(SIZES)}[-FLOWS][-zipf], "
            f"or {MALFORMED}; FLOWS is 1 to 1m"
        )
    flows = int(found["flows"]) * _UNITS[found["unit"]] if found["flows"] else FLOWS
    if flows > MOST_FLOWS:
        raise ValueError(f"{name!r}: at most 1m flows, {MOST_FLOWS}")
    return Profile(found["family"], found["transport"], found["size"], flows, ZIPF if found["zipf"] else 0.0)
