"""tshark finds in our tunnels' frames, of every level, what was put in."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastpath import capture
from fastpath.batch import Batch
from tests.twins import stages
from tests.vxlan_frames import INNER, TUNNEL, TUNNEL6, ethernet, ip4, ip6, tcp, udp

FRAMES = [INNER, ethernet(ip6(tcp(b"x" * 99), 6, tos=2)), ethernet(bytes(28), kind=0x0806), ethernet(ip4(udp()), (7,))]
FIELDS = (
    "vlan.id", "ip.src", "ip.dst", "ip.dsfield.dscp", "ip.flags.df", "ip.ttl", "ip.checksum.status", "ipv6.src",
    "ipv6.dst", "ipv6.flow", "udp.srcport", "udp.dstport", "udp.checksum.status", "vxlan.vni", "vxlan.gbp",
    "eth.src", "eth.dst",
)  # fmt: skip
GOOD, ABSENT, NOT_IN_IPV6 = "1", "3", "4"
"""The last one is what RFC 6936 makes an exception of for tunnels."""


def tunnels() -> list[dict[str, Any]]:
    return [
        {**fields, "vni": vni, "checksum": checksum, "vlan": vlan, "gbp": gbp, "dscp": 10}
        for (fields, vni), checksum, (vlan, gbp) in itertools.product(
            [(TUNNEL, 1), (TUNNEL6, 0xFFFFFF)], ["zero", "full", "local"], [(None, None), (9, 0x1234)]
        )
    ]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_what_tshark_sees(tmp_path: Path) -> None:
    levels: list[ModuleType] = [each.values[0] for each in stages("vxlan")]  # type: ignore[attr-defined]
    sent = [
        (fields, frame, level.Tunnel(**fields).encap(frame))
        for level, fields, frame in itertools.product(levels, tunnels(), FRAMES)
    ]
    batch = Batch(len(sent), slot=512, huge=False)
    batch.fill([outer for _, _, outer in sent])
    capture.write(tmp_path / "tunnels.pcapng", batch)
    command = ["tshark", "-r", str(tmp_path / "tunnels.pcapng"), "-T", "json"]
    for option in ("ip.check_checksum:TRUE", "udp.check_checksum:TRUE"):
        command += ["-o", option]
    for field in FIELDS:
        command += ["-e", field]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert len(found) == len(sent)
    for (fields, frame, _), entry in zip(sent, found, strict=True):
        seen = entry["_source"]["layers"]
        assert int(seen["vxlan.vni"][0]) == fields["vni"]
        assert seen.get("vlan.id", []) == [*(["9"] if fields["vlan"] else []), *(["7"] if frame is FRAMES[3] else [])]
        assert [seen["eth.src"][1], seen["eth.dst"][1]] == [frame[6:12].hex(":"), frame[:6].hex(":")]
        assert seen["udp.dstport"][0] == "4789"
        assert 49152 <= int(seen["udp.srcport"][0]) <= 65535
        six = ":" in fields["source"]
        none = NOT_IN_IPV6 if six else ABSENT
        assert seen["udp.checksum.status"][0] == (none if fields["checksum"] == "zero" else GOOD)
        if not six:
            assert (seen["ip.src"][0], seen["ip.dst"][0]) == (fields["source"], fields["destination"])
            assert (seen["ip.dsfield.dscp"][0], seen["ip.flags.df"][0], seen["ip.ttl"][0]) == ("10", "1", "64")
            assert seen["ip.checksum.status"][0] == GOOD
        else:
            assert (seen["ipv6.src"][0], seen["ipv6.dst"][0]) == (fields["source"], fields["destination"])
        if fields["gbp"] is not None:
            assert int(seen["vxlan.gbp"][0]) == fields["gbp"]
