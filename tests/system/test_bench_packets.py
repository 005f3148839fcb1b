"""The per-packet bench as a process, without a namespace of its own; and the packets and schedules it is made of."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether

from bench.perpacket import native, outer, verify
from bench.perpacket.native import Anchor
from bench.perpacket.profiles import Profile, parse
from bench.results import load
from tests.twins import needs_build

pytestmark = [pytest.mark.system, needs_build]
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", ["v4-udp-64", "v4-tcp-512", "v6-udp-1400", "mixed-mixed-imix-1-zipf"])
def test_packets_are_sound(name: str) -> None:
    verify.sound(native.fill(parse(name), 200, 7).frames()[-verify.SAMPLE :])


@pytest.mark.parametrize("version", [4, 6])
def test_wrapped_packets_are_what_scapy_wraps(version: int) -> None:
    profile = parse("mixed-mixed-imix")
    inner = native.fill(profile, 100, 7).frames()
    frames = native.fill(profile, 100, 7, wrapped=version).frames()
    assert [outer.without_port(frame, version) for frame in frames] == verify.encapsulated(inner, version)


def test_flows_are_distinct_and_keep_their_port() -> None:
    frames = native.fill(Profile(), 5000, 7, each=True).frames()
    assert len({frame[26:38] for frame in frames}) == 5000
    wrapped = native.fill(Profile(flows=3), 300, 7, wrapped=4).frames()
    ports = {(frame[50 + 26 : 50 + 38], frame[34:36]) for frame in wrapped}
    assert len(ports) == 3


def test_laws_of_drawing() -> None:
    def counts(exponent: float) -> Counter[int]:
        drawn = memoryview(native.draws(1000, exponent, 100_000, 7)).cast("I")
        return Counter(drawn)

    uniform, zipf = counts(0.0), counts(0.99)
    assert len(uniform) == 1000
    assert max(uniform.values()) < 200
    # 1 / (1 + 1/2 + ... + 1/1000), about 1 in 7.3.
    assert 0.12 < zipf[0] / 100_000 < 0.15
    assert zipf[0] > zipf[10] > zipf[500]


def test_a_packet_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a slot"):
        native.fill(parse("v4-udp-1400"), 1, 7, slot=512)


def test_a_schedule_gives_chunks_in_order_and_puts_all_back() -> None:
    batch = native.fill(Profile(), 8, 7, each=True)
    before = batch.frames()
    order = bytes(memoryview((ctypes.c_uint32 * 4)(5, 1, 1, 7)))
    schedule = native.schedule(batch, 2, order)
    seen: list[bytes] = []
    schedule.time(lambda: seen.extend(batch.frames()), (), 2)
    assert seen == [before[number] for number in (5, 1, 1, 7)] * 2
    batch.verdict[0] = 9
    schedule.restore()
    assert (batch.frames(), batch.verdict[0]) == (before, 0)
    with pytest.raises(ValueError, match="no multiple"):
        native.schedule(batch, 3)
    with pytest.raises(ValueError, match="packet 8 of 8"):
        native.schedule(batch, 1, bytes(memoryview((ctypes.c_uint32 * 1)(8))))


def test_the_anchor_drops_what_is_wrong() -> None:
    batch = native.fill(parse("malformed"), 256, 7, wrapped=4)
    schedule, anchor = native.schedule(batch, 256), Anchor()
    passed = schedule.run_anchor(anchor.function("anchor_decap"), anchor.state)
    assert passed == batch.verdict.tolist()[:256].count(0) < 128
    # Reserved bits and the VNI's last byte are not the anchor's to judge.
    for frame, verdict in zip(batch.frames(), batch.verdict, strict=False):
        assert verdict or Ether(frame).src == "02:00:00:00:00:03"


def test_a_run_verifies_and_times_every_rung(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    argv = [sys.executable, "-m", "bench", "run", "encap", "decap", "five-tuple", "checksum", "--profile", "v4-udp-64",
            "--profile", "malformed", "--repeat", "2", "--seconds", "0.001", "--json", str(file)]  # fmt: skip
    # As without scripts/private: these cases need no namespace.
    environment = {key: value for key, value in os.environ.items() if key != "NODEPLANE_LAB"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = load(file)
    for case in run.cases:
        assert not case.error
        assert case.verified
        assert {"scapy", "dpkt", "pypacker", "struct", "plain", "baseline", Anchor.name} <= {
            figure.subject for figure in case.figures
        }
    assert run.machine.tsc_ghz > 0
