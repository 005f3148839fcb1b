"""What both capture twins share: bounds, what can be wrong with a file, and the headers that are written."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 262144
"""Bytes of the longest record that is believed, as libpcap has it."""
INTERFACES: Final = 4096
"""Interfaces of a section that are kept."""

FAULTS: Final[dict[str, str]] = {
    "not_a_capture": "the file begins neither as pcap nor as pcapng",
    "header_short": "the file ends inside its header",
    "version": "the format's version is not 2.x (pcap) or 1.x (pcapng)",
    "link_type": "the file holds no Ethernet frames",
    "record_short": "the file ends inside a record",
    "record_length": f"a record announces more than {LONGEST} bytes",
    "block_length": "a block's length is too small for it, no multiple of 4, or not the same at its end",
    "byte_order": "a section's byte order mark is wrong",
    "option_length": "an option runs past its block or has the wrong length",
    "time_resolution": "an interface's time resolution is finer than 10^-19 or 2^-63 seconds",
    "interfaces": f"a section describes more than {INTERFACES} interfaces",
    "interface_unknown": "a packet is of an interface that was not described",
    "packet_length": "a packet runs past its block",
}
"""Stable fault to its one-line meaning."""

PCAP_HEADER: Final = bytes.fromhex("4d3cb2a1 02000400 00000000 00000000 00000400 01000000")
"""Little-endian, nanoseconds, Ethernet."""
PCAPNG_HEADER: Final = bytes.fromhex(
    "0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000"
    "01000000 20000000 01000000 00000400 0900010009000000 00000000 20000000"
)
"""A section of unknown length with one Ethernet interface whose times are nanoseconds."""


class CaptureError(ValueError):
    """A file is no sound capture: `fault` is a key of `FAULTS`, `offset` the byte where the record or block begins."""

    def __init__(self, fault: str, offset: int) -> None:
        self.fault, self.offset = fault, offset
        super().__init__(f"{FAULTS[fault]} (at byte {offset})")
