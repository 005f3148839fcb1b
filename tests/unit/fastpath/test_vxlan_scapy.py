"""scapy builds the same outer headers, and finds in ours what was put in."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN

from fastpath.reasons import Reason
from tests.twins import stages
from tests.vxlan_frames import FAR, FAR6, INNER, NEAR, NEAR6, TUNNEL, TUNNEL6, VNI, Kit, ethernet, ip4, ip6, tcp, udp

pytestmark = pytest.mark.parametrize("stage", stages("vxlan"))

FRAMES = [INNER, ethernet(ip6(tcp(b"x" * 99), 6, tos=2)), ethernet(bytes(28), kind=0x0806), ethernet(ip4(udp()), (7,))]
TUNNELS: list[tuple[dict[str, Any], Any]] = [
    (TUNNEL | {"ecn": "compatible", "dscp": 10}, IP(src=FAR, dst=NEAR, flags="DF", id=0, ttl=64, tos=40)),
    (TUNNEL6 | {"ecn": "compatible", "ttl": 7, "flow_label": 0x12345}, IPv6(src=FAR6, dst=NEAR6, hlim=7, fl=0x12345)),
]


@pytest.mark.parametrize(("fields", "ip"), TUNNELS, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("checksum", ["zero", "full"])
@pytest.mark.parametrize("vlan", [None, 9])
@pytest.mark.parametrize("gbp", [None, 0x1234])
def test_same_bytes(stage: ModuleType, fields: dict[str, Any], ip: Any, checksum: str, vlan: Any, gbp: Any) -> None:
    tunnel = stage.Tunnel(**fields, checksum=checksum, vlan=vlan, gbp=gbp)
    for frame in FRAMES:
        ours = tunnel.encap(frame)
        found = Ether(ours)
        port = found[UDP].sport
        assert 49152 <= port <= 65535
        base = Ether(src=TUNNEL["source_mac"], dst=TUNNEL["destination_mac"])
        base = base / Dot1Q(vlan=vlan) if vlan else base
        vxlan = VXLAN(vni=VNI, flags=8) if gbp is None else VXLAN(vni=VNI, flags=0x88, gpid=gbp)
        # Without a checksum of its own, scapy works one out.
        udp_header = UDP(sport=port, dport=4789) if checksum == "full" else UDP(sport=port, dport=4789, chksum=0)
        assert ours == bytes(base / ip / udp_header / vxlan / frame)
        assert found[VXLAN].vni == VNI
        assert bytes(found[VXLAN].payload) == frame


def test_what_scapy_sends_is_taken(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    vtep = kit.vtep(addresses=[NEAR, NEAR6])
    vtep.allow(VNI, 3, [FAR, FAR6])
    sent = [
        bytes(
            Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
            / tag
            / ip
            / UDP(sport=60000, dport=4789)
            / VXLAN(vni=VNI, flags=8)
            / frame
        )
        for ip in (IP(src=FAR, dst=NEAR), IPv6(src=FAR6, dst=NEAR6))
        for frame in FRAMES
        for tag in (Dot1Q(vlan=5), Dot1Q(vlan=5) / Dot1Q(vlan=6))
    ]
    batch = kit.filled(sent)
    assert stage.decap(batch, vtep) == len(sent)
    assert batch.frames() == [frame for _ in range(2) for frame in FRAMES for _ in range(2)]
    broken = [frame[:-1] + bytes([frame[-1] ^ 1]) for frame in sent]
    batch = kit.filled(broken)
    assert stage.decap(batch, vtep) == 0
    assert set(batch.verdict[: len(sent)]) == {Reason.UDP_CHECKSUM}
