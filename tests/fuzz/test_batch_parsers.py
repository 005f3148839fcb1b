"""The parsers of the batches say the same of any bytes at every level, and nothing outside the bytes is touched."""

from __future__ import annotations

import random
import struct

import pytest

from fastpath import _transport_py
from tests.capture_files import everything, pcap, pcapng
from tests.exchanges import frame as ethernet
from tests.exchanges import mixture
from tests.frames import frame, samples, tcp, udp
from tests.fuzz.batch_targets import TARGETS
from tests.fuzz.bytes_mutator import mutations
from tests.fuzz.stored import stored

STREAM = [
    frame(version, 6, tcp(version, bytes(90), seq=1000 + 90 * k), ident=k) for version in (4, 6) for k in range(3)
]
SOURCE = mixture(random.Random(5), 1)
EXCHANGES = [ethernet(next(SOURCE)[1])[:1400] for _ in range(16)]
SEEDS = {
    "capture": [pcap(), pcap(">", nano=False), pcapng(), pcapng(">"), everything()],
    "checksum": [b"\0" + each for each in samples()],
    "segment": [
        struct.pack("!HB", 300, 0) + each
        for version in (4, 6)
        for each in (frame(version, 6, tcp(version, bytes(1000))), frame(version, 17, udp(version, bytes(1000))))
    ],
    "conntrack": [
        bytes([how]) + b"".join(struct.pack("!H", len(each)) + each for each in many)
        for how in (0, 1, 2, 3)
        for many in (STREAM, EXCHANGES[:8], EXCHANGES[8:16])
    ],
    "coalesce": [
        b"\1" + b"".join(struct.pack("!H", len(each)) + each for each in STREAM),
        b"\3" + b"".join(struct.pack("!H", len(each)) + each for each in [frame(4, 17, udp(4, bytes(50)))] * 3),
    ],
}


def repaired(name: str, data: bytes) -> bytes:
    """With right checksums where a frame can be told, so that a mutant gets past them."""
    start = {"segment": 3, "checksum": 1}.get(name)
    if start is None:
        return data
    view = memoryview(bytearray(data[start:]))
    found = _transport_py.locate(view)
    if found.header:
        _transport_py.header_checksum(view, found)
    if not found.reason and found.field:
        _transport_py.complete(view, found)
    return data[:start] + bytes(view)


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    for mutant in mutations([*SEEDS[name], *stored(name)], share=0.5):
        TARGETS[name](mutant)
        TARGETS[name](repaired(name, mutant))
