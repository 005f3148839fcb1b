"""What goes in comes out, through any tunnel, at every level the same."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath import _select, _vxlan_py
from fastpath._checksum_py import internet_checksum
from fastpath.reasons import Reason
from tests.twins import COMPILED_LEVELS
from tests.vxlan_frames import FAR, FAR6, TUNNEL, TUNNEL6, VNI, Kit, checked, ethernet, ip4, ip6, tcp, udp

LEVELS: list[ModuleType] = [_vxlan_py, *(_select.stage("vxlan", level) for level in COMPILED_LEVELS)]
TOS = st.integers(0, 255)
PORTS = st.integers(0, 65535)


@st.composite
def inner_frames(draw: st.DrawFn) -> bytes:
    """Frames of guests, most of them whole."""
    kind = draw(st.sampled_from(["tcp", "udp", "other", "junk"]))
    payload = draw(st.binary(max_size=80))
    if kind == "junk":
        # The source MAC must be one.
        return bytes(6) + b"\x02" + bytes(5) + payload + bytes(2)
    make, tos, ttl = draw(st.sampled_from([ip4, ip6])), draw(TOS), draw(st.integers(0, 255))
    if kind == "other":
        packet = make(payload, draw(st.sampled_from([1, 47, 50, 58, 132])), tos=tos, ttl=ttl)
    else:
        head = (tcp if kind == "tcp" else udp)(payload, draw(PORTS), draw(PORTS))
        packet = checked(make(head, 6 if kind == "tcp" else 17, tos=tos, ttl=ttl))
    return ethernet(packet, tuple(draw(st.lists(st.integers(1, 4094), max_size=2))))


@st.composite
def tunnels(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of a tunnel to ourselves."""
    return {
        **draw(st.sampled_from([TUNNEL, TUNNEL6])),
        "ttl": draw(st.sampled_from([1, 64, 255, "inherit"])),
        "dscp": draw(st.sampled_from([0, 46, 63, "inherit"])),
        "ecn": draw(st.sampled_from(["copy", "compatible"])),
        "df": draw(st.sampled_from([True, False, "inherit"])),
        "checksum": draw(st.sampled_from(["zero", "full", "local"])),
        "vlan": draw(st.sampled_from([None, 1, 4094])),
        "gbp": draw(st.sampled_from([None, 0, 65535])),
        "flow_label": draw(st.sampled_from(["hash", 0, 0xFFFFF])),
    }


@settings(deadline=None)
@given(st.lists(inner_frames(), min_size=1, max_size=20), tunnels(), st.integers(1, 12))
def test_there_and_back(frames: list[bytes], fields: dict[str, Any], times: int) -> None:
    frames = frames * times
    sent: list[bytes] | None = None
    for stage in LEVELS:
        kit = Kit.of(stage)
        table, vtep = kit.tunnels(), kit.vtep(zero_checksum6=True, gbp=True)
        table.add(**fields)
        vtep.allow(VNI, 5, [FAR, FAR6])
        batch = kit.filled(frames)
        stage.encap(batch, table)
        dropped = [i for i in range(len(frames)) if batch.verdict[i]]
        for i in dropped:
            # A hop limit of zero is the one thing that may stop a frame of a guest here.
            assert (batch.verdict[i], fields["ttl"]) == (Reason.HOP_LIMIT, "inherit")
        out = batch.frames()
        sent = sent or out
        assert out == sent
        for i, frame in enumerate(out):
            at = 18 if fields["vlan"] else 14
            if frame[at] == 0x45 and i not in dropped:
                assert internet_checksum(frame[at : at + 20]) == 0
        stage.decap(batch, vtep)
        assert [i for i in range(len(frames)) if batch.verdict[i]] == dropped
        # Congestion that was there before is there after.
        assert batch.frames() == frames
