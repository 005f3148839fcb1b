"""Capture files: both twins against scapy and dpkt, every fault by its name, files as they are found on disks."""

from __future__ import annotations

import inspect
import io
import os
import threading
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any

import dpkt
import pytest
from scapy.utils import PcapNgReader, RawPcapNgReader, RawPcapReader, rdpcap

from fastpath import _capture_py, capture
from fastpath.batch import Batch
from fastpath.capture_errors import FAULTS, CaptureError
from fastpath.reasons import Reason
from tests.capture_files import PACKETS, TIMES, block, everything, interface, option, packet, pcap, pcapng, section
from tests.sources import ROOT
from tests.twins import BUILT, built, needs_build

CAPTURE_C = built("fastpath._capture_c")
TWINS = [pytest.param(_capture_py, id="plain"), pytest.param(CAPTURE_C, id="compiled", marks=needs_build)]
twins = pytest.mark.parametrize("twin", TWINS)


def opened(data: bytes) -> Any:
    """A file for scapy, whose annotations know only names."""
    return io.BytesIO(data)


def read(twin: ModuleType, data: bytes, capacity: int = 4) -> tuple[list[bytes], list[int]]:
    batch, times = Batch(capacity), array("Q", bytes(8 * capacity))
    records = twin.Records(data)
    frames: list[bytes] = []
    stamps: list[int] = []
    while count := records.fill(batch, times):
        frames += batch.frames()
        stamps += times[:count]
    assert records.position == len(data)
    records.close()
    return frames, stamps


@twins
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("capacity", [1, 4, 7, 100])
def test_pcap(twin: ModuleType, order: str, capacity: int) -> None:
    assert read(twin, pcap(order), capacity) == (PACKETS, TIMES)
    micro = [time // 1000 * 1000 for time in TIMES]
    assert read(twin, pcap(order, nano=False), capacity) == (PACKETS, micro)
    assert read(twin, pcapng(order), capacity) == (PACKETS, TIMES)


@twins
def test_sections_interfaces_units_and_other_blocks(twin: ModuleType) -> None:
    batch, times = Batch(16), array("Q", bytes(128))
    records = twin.Records(everything())
    assert records.pcapng
    assert records.fill(batch, times) == 5
    assert batch.frames() == [b"micro", b"pico", bytes(64), b"old!", b"binary"]
    assert list(times[:5]) == [1_500_000_000, 7, 0, 2_000_000_000, (5_500_000_000 - 3600 * 10**9) % 2**64]
    assert (records.skipped, records.too_long) == (1, 0)
    assert records.fill(batch) == 0
    assert len(batch) == 0


@twins
def test_same_as_scapy_and_dpkt(twin: ModuleType) -> None:
    for order in "<>":
        data = pcap(order)
        assert [frame for frame, _ in RawPcapReader(opened(data))] == read(twin, data)[0]
        # scapy takes the end of the file for what a packet without bytes gives.
        whole = b"".join([section(order), interface(order), *(packet(p, 5, order) for p in PACKETS if p)])
        assert [frame for frame, _ in RawPcapNgReader(opened(whole))] == read(twin, whole)[0]
        found = list(dpkt.pcapng.Reader(io.BytesIO(whole)))
        assert [frame for _, frame in found] == read(twin, whole)[0]


@twins
def test_frames_that_do_not_fit_are_counted(twin: ModuleType) -> None:
    records = twin.Records(pcap(packets=[bytes(60), bytes(2000), bytes(1920), bytes(1921)]))
    batch = Batch(8)
    assert records.fill(batch) == 2
    assert [len(each) for each in batch.frames()] == [60, 1920]
    assert records.too_long == 2


HEAD = section() + interface()
FAULTY = [
    (b"", "header_short"),
    (b"\x0a\x0d\x0d", "header_short"),
    (b"GIF89a" + bytes(40), "not_a_capture"),
    (bytes.fromhex("34cdb2a1") + bytes(40), "not_a_capture"),
    (pcap()[:23], "header_short"),
    (pcap()[:4] + b"\x03" + pcap()[5:], "version"),
    (pcap(link=101), "link_type"),
    (pcap()[:-1], "record_short"),
    (pcap(packets=[]) + bytes(15), "record_short"),
    (pcap(packets=[]) + bytes(8) + b"\x01\x00\x04\x00" + bytes(1 << 19), "record_length"),
    (section(version=2), "version"),
    (section()[:8] + b"abcd" + section()[12:], "byte_order"),
    (section()[:27], "record_short"),
    (HEAD + bytes(11), "record_short"),
    (HEAD + packet(b"1234")[:-4], "record_short"),
    (HEAD + block(9, b"")[:4] + b"\x08" + bytes(7), "block_length"),
    (HEAD + block(9, b"")[:4] + b"\x0d" + bytes(20), "block_length"),
    (HEAD + block(9, b"")[:-4] + b"\x10\0\0\0", "block_length"),
    (HEAD + block(1, b"1234"), "block_length"),
    (HEAD + block(6, bytes(16)), "block_length"),
    (HEAD + block(3, b""), "block_length"),
    (HEAD + packet(b"1234", length=5), "packet_length"),
    (HEAD + packet(b"1234", length=0xFFFFFFFF), "record_length"),
    (HEAD + block(3, b"\xff\0\0\0"), "packet_length"),
    (section() + packet(b"1234"), "interface_unknown"),
    (section() + block(3, bytes(8)), "interface_unknown"),
    (HEAD + packet(b"1234", number=1), "interface_unknown"),
    (HEAD + section() + packet(b"1234"), "interface_unknown"),
    (section() + interface(options=b"\x09\0\x01\0"), "option_length"),
    (section() + interface(options=option(9, b"12")), "option_length"),
    (section() + interface(options=option(14, b"1234")), "option_length"),
    (section() + interface(options=option(9, b"\x14")), "time_resolution"),
    (section() + interface(options=option(9, b"\xc0")), "time_resolution"),
    (section() + interface() * 4097, "interfaces"),
]


@twins
@pytest.mark.parametrize(("data", "fault"), FAULTY)
def test_faults(twin: ModuleType, data: bytes, fault: str) -> None:
    with pytest.raises(CaptureError) as caught:
        read(twin, data)
    assert caught.value.fault == fault
    assert FAULTS[fault] in str(caught.value)


def test_every_fault_is_tried() -> None:
    assert {fault for _, fault in FAULTY} == set(FAULTS)


@twins
def test_what_comes_before_a_fault_is_handed_out(twin: ModuleType) -> None:
    batch = Batch(16)
    records = twin.Records(pcap()[:-1])
    assert records.fill(batch) == 6
    for _ in range(2):
        with pytest.raises(CaptureError, match="ends inside a record") as caught:
            records.fill(batch)
        assert caught.value.offset == records.position == len(pcap()) - 216
        assert len(batch) == 0


@twins
@pytest.mark.parametrize("pcapng", [False, True])
def test_round_trip(twin: ModuleType, pcapng: bool) -> None:
    batch = Batch(8)
    batch.fill(PACKETS)
    head = twin.PCAPNG_HEADER if pcapng else twin.PCAP_HEADER
    data = head + twin.records(batch, array("Q", TIMES), pcapng)
    assert read(twin, data) == (PACKETS, TIMES)
    assert read(twin, head + twin.records(batch, None, pcapng)) == (PACKETS, [0] * 7)
    batch.verdict[1] = Reason.ECN
    assert read(twin, head + twin.records(batch, None, pcapng))[0] == [PACKETS[0], *PACKETS[2:]]


@twins
def test_misuse(twin: ModuleType) -> None:
    records, batch = twin.Records(pcap()), Batch(4)
    for times, text in ((array("I", [1] * 8), "uint64"), (array("Q", [1] * 3), "times for 3 of 4"),
                        (memoryview(array("Q", [1] * 4)).toreadonly(), "writable"),
                        (memoryview(array("Q", [1] * 8))[::2], "contiguous")):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            records.fill(batch, times)
    records.close()
    records.close()
    with pytest.raises(ValueError, match="closed"):
        records.fill(batch)
    batch.fill([b"1"] * 4)
    with pytest.raises(ValueError, match="times for 1 of 4"):
        twin.records(batch, array("Q", [1]))
    with pytest.raises(TypeError):
        twin.Records("text")


def test_files(tmp_path: Path) -> None:
    batch, times = Batch(3), array("Q", bytes(24))
    for name, data in (("a.pcap", pcap()), ("b.pcapng", pcapng())):
        path = tmp_path / name
        path.write_bytes(data)
        frames = []
        for count in capture.read(path, batch, times):
            assert count == len(batch)
            frames += batch.frames()
        assert frames == PACKETS
        with open(path, "rb") as file, capture.Reader(file) as reader:
            assert reader.format == path.suffix[1:]
            assert reader.fill(batch) == 3
            assert (reader.skipped, reader.too_long) == (0, 0)
        with capture.Reader(io.BytesIO(data)) as reader:
            assert reader.fill(batch) == 3
        with capture.Reader(data) as reader:
            assert reader.fill(batch) == 3
    (tmp_path / "empty").touch()
    with pytest.raises(CaptureError):
        capture.Reader(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        capture.Reader(tmp_path / "none")


def test_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(pcap(),))
    thread.start()
    batch = Batch(8)
    assert list(capture.read(path, batch)) == [7]
    thread.join()


@pytest.mark.parametrize("format", ["pcap", "pcapng"])
def test_scapy_reads_what_is_written(tmp_path: Path, format: capture.Format) -> None:
    batch = Batch(4)
    batch.fill([bytes(60), bytes(61), bytes(1500)])
    path = tmp_path / "out"
    with capture.Writer(path, format) as writer:
        writer.write(batch, array("Q", TIMES))
        writer.write(batch, array("Q", TIMES[3:]))
    found = rdpcap(str(path))
    assert [len(each) for each in found] == [60, 61, 1500] * 2
    assert [int(each.time * 10**9) for each in found] == pytest.approx(TIMES[:6], abs=1000)
    memory = io.BytesIO()
    capture.write(memory, batch, format=format)
    assert memory.getvalue()[:4] in (b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")
    if format == "pcapng":
        assert len(list(PcapNgReader(opened(memory.getvalue())))) == 3
    with pytest.raises(ValueError, match="pcap or pcapng"):
        capture.Writer(path, "erf")  # type: ignore[arg-type]


@pytest.mark.skipif(not BUILT, reason="the extensions are not built")
def test_same_signatures() -> None:
    assert CAPTURE_C is not None
    for mine, theirs in ((_capture_py.Records.fill, CAPTURE_C.Records.fill), (_capture_py.records, CAPTURE_C.records)):
        one, two = (inspect.signature(each).parameters.values() for each in (mine, theirs))
        assert [(p.name, p.default) for p in one] == [(p.name, p.default) for p in two]


def test_every_fault_is_documented() -> None:
    page = (ROOT / "docs" / "fastpath.md").read_text()
    assert [
        f"| `{fault}` | {meaning} |" for fault, meaning in FAULTS.items() if f"| `{fault}` | {meaning} |" not in page
    ] == []
