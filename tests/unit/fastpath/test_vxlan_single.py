"""Single frames and lists: the same as batches, for people with a capture and five minutes."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

import pytest

import fastpath
from fastpath import _vxlan_py, vxlan
from fastpath.reasons import Reason
from fastpath.vxlan_errors import DroppedError
from tests.twins import COMPILED_LEVELS, stages
from tests.vxlan_frames import FAR, INNER, NEAR, TUNNEL, TUNNEL6, VNI, Kit, Outer, checked, ethernet, ip4, ip6, tcp, udp

STAGES = pytest.mark.parametrize("stage", stages("vxlan"))
FRAMES = [INNER, ethernet(ip6(tcp(), 6)), ethernet(bytes(28), kind=0x0806), INNER + bytes(1400), INNER[:14]]


@STAGES
@pytest.mark.parametrize("fields", [TUNNEL, TUNNEL6, TUNNEL | {"vlan": 5, "checksum": "full", "df": False}])
def test_a_frame_alone_is_as_in_a_batch(stage: ModuleType, fields: dict[str, Any]) -> None:
    kit = Kit.of(stage)
    tunnels = kit.tunnels()
    tunnels.add(**fields)
    batch = kit.filled(FRAMES)
    stage.encap(batch, tunnels)
    wanted = batch.frames()
    tunnel = stage.Tunnel(**fields)
    assert tunnel.encap_list(FRAMES) == wanted
    tunnel = stage.Tunnel(**fields)
    assert [tunnel.encap(frame) for frame in FRAMES] == wanted
    tunnel = stage.Tunnel(**fields)
    assert [stage.encapsulate(frame, tunnel) for frame in FRAMES] == wanted
    assert [stage.decapsulate(frame) for frame in wanted] == [(VNI, frame) for frame in FRAMES]
    vnis, offsets, lengths = stage.decap_list(wanted)
    assert [each.typecode for each in (vnis, offsets, lengths)] == ["I"] * 3
    assert list(vnis) == [VNI] * len(FRAMES)
    assert [wanted[i][offsets[i] : offsets[i] + lengths[i]] for i in range(len(FRAMES))] == FRAMES


@STAGES
def test_frames_that_are_dropped(stage: ModuleType) -> None:
    tunnel = stage.Tunnel(**TUNNEL, mtu=1500, ttl="inherit")
    for frame, reason in (
        (INNER[:13], Reason.INNER_SHORT),
        (INNER + bytes(1500), Reason.TOO_LONG),
        (ethernet(ip4(udp(), ttl=0)), Reason.HOP_LIMIT),
    ):
        for call in (tunnel.encap, lambda frame: tunnel.encap_list([INNER, frame])):
            with pytest.raises(DroppedError, match=reason.name) as caught:
                call(frame)
            assert caught.value.reason is reason
    for frame, reason in ((b"", Reason.TRUNCATED), (Outer(port=1).build(), Reason.UDP_PORT)):
        with pytest.raises(DroppedError, match=reason.name):
            stage.decapsulate(frame)
        vnis, offsets, lengths = stage.decap_list([Outer().build(), frame])
        assert (list(vnis), list(offsets), list(lengths)) == ([VNI, 0], [50, reason], [len(INNER), 0])


@STAGES
def test_what_is_no_frame(stage: ModuleType) -> None:
    tunnel = stage.Tunnel(**TUNNEL)
    for wrong in (None, "text", 5, bytearray(INNER)):
        for call in (
            tunnel.encap,
            stage.decapsulate,
            lambda frame: tunnel.encap_list([frame]),
            lambda frame: stage.decap_list([frame]),
            lambda frame: stage.encapsulate(frame, tunnel),
        ):
            with pytest.raises(TypeError, match="bytes"):
                call(wrong)
    assert [list(each) for each in stage.decap_list([])] == [[], [], []]
    assert list(stage.decap_list((Outer().build(),))[0]) == [VNI]


@STAGES
def test_an_endpoints_rules_hold_for_single_frames(stage: ModuleType) -> None:
    vtep = Kit.of(stage).vtep(addresses=[NEAR])
    vtep.allow(VNI, 7, [FAR])
    good, other = Outer().build(), Outer(source="192.0.2.9").build()
    assert stage.decapsulate(good, vtep) == (VNI, INNER)
    with pytest.raises(DroppedError, match="VTEP_NOT_ALLOWED"):
        stage.decapsulate(other, vtep)
    assert list(stage.decap_list([good, other], vtep)[2]) == [len(INNER), 0]
    assert not any(vtep.counters)


@STAGES
def test_congestion_is_marked_in_the_copy_only(stage: ModuleType) -> None:
    inner, marked = (ethernet(checked(ip4(tcp(), 6, tos=tos))) for tos in (2, 3))
    frame = Outer(inner, tos=3).build()
    assert stage.decapsulate(frame) == (VNI, marked)
    before = bytes(bytearray(frame))
    _, offsets, lengths = stage.decap_list([frame])
    assert frame[offsets[0] :][: lengths[0]] == inner
    assert frame == before


def test_short_names() -> None:
    assert (fastpath.encap, fastpath.decap) == (vxlan.encapsulate, vxlan.decapsulate)
    tunnel = vxlan.Tunnel(**TUNNEL)
    assert fastpath.decap(fastpath.encap(INNER, tunnel)) == (VNI, INNER)
    with pytest.raises(AttributeError, match="dekap"):
        fastpath.dekap  # noqa: B018


@pytest.mark.parametrize("level", COMPILED_LEVELS)
def test_same_signatures(level: str) -> None:
    from fastpath import _select

    compiled = _select.stage("vxlan", level)  # type: ignore[arg-type]
    for name in ("encap", "decap", "encapsulate", "decapsulate", "decap_list"):
        mine, theirs = (inspect.signature(getattr(each, name)) for each in (compiled, _vxlan_py))
        assert [(each.name, each.default, each.kind) for each in mine.parameters.values()] == [
            (each.name, each.default, each.kind) for each in theirs.parameters.values()
        ]


@pytest.mark.parametrize("stage", stages("vxlan")[1:])
def test_a_million_packets_allocate_nothing(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    tunnels, vtep = kit.tunnels(), kit.vtep(addresses=[NEAR])
    tunnels.add(**TUNNEL)
    vtep.allow(VNI, 0, [FAR])  # the tunnel column holds the network then, and it is the tunnel, too
    batch = kit.batch(20_000, slot=256, headroom=64)
    batch.fill([INNER] * 20_000)

    def turn() -> None:
        for _ in range(10):
            assert stage.encap(batch, tunnels) == stage.decap(batch, vtep) == 20_000

    def growth() -> int:
        before = sys.getallocatedblocks()
        turn()
        return sys.getallocatedblocks() - before

    turn()
    # Threads of whoever runs the tests may allocate at some time, but not each time.
    assert min(growth() for _ in range(5)) < 20
    assert batch.frame(19_999) == INNER
