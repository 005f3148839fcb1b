"""Tunnels and endpoints: their fields are checked, their tables bounded, and they may change at any time."""

from __future__ import annotations

import random
import threading
from types import ModuleType
from typing import Any

import pytest

from fastpath.reasons import Reason
from fastpath.vxlan_errors import TableFullError
from tests.twins import TUNNELS, VTEPS, stages
from tests.vxlan_frames import FAR, FAR6, INNER, NEAR6, TUNNEL, TUNNEL6, Kit, Outer

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"vni": 1 << 24}, "vni is 0 to 16777215"),
    ({"vni": True}, "vni is"),
    ({"port": 0}, "port is 1 to 65535"),
    ({"ttl": 0}, "ttl is 1 to 255"),
    ({"ttl": "copy"}, "ttl is"),
    ({"dscp": 64}, "dscp is 0 to 63"),
    ({"df": "yes"}, "df is True, False or 'inherit'"),
    ({"df": 1}, "df is"),
    ({"ecn": "normal"}, "ecn is 'copy' or 'compatible'"),
    ({"checksum": True}, "checksum is 'zero' or 'full' or 'local'"),
    ({"vlan": 4095}, "vlan is 1 to 4094"),
    ({"mtu": 67}, "mtu is 68 to 1048576"),
    ({"flow_label": 1 << 20}, "flow_label is 0 to 1048575"),
    ({"gbp": -1}, "gbp is 0 to 65535"),
    ({"source": "10.0.0"}, "source: "),
    ({"source": b"12345"}, "source: "),
    ({"source": 5}, "source: text or bytes"),
    ({"destination": NEAR6}, "source and destination: one is IPv4, the other IPv6"),
    ({"source_mac": "02:00"}, "source_mac: a MAC address has 6 bytes"),
    ({"destination_mac": b"12345"}, "destination_mac: a MAC address has 6 bytes"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
@pytest.mark.parametrize("twin", TUNNELS)
def test_wrong_fields_of_a_tunnel(twin: ModuleType, fields: dict[str, Any], message: str) -> None:
    tunnels = twin.Tunnels(2)
    with pytest.raises(ValueError, match=message):
        tunnels.add(**TUNNEL | fields)
    number = tunnels.add(**TUNNEL)
    with pytest.raises(ValueError, match=message):
        tunnels.replace(number, **TUNNEL | fields)
    assert (number, len(tunnels)) == (0, 1)


@pytest.mark.parametrize("twin", TUNNELS)
def test_tunnels_come_and_go(twin: ModuleType) -> None:
    tunnels = twin.Tunnels(3)
    assert [tunnels.add(**each) for each in (TUNNEL, TUNNEL6, TUNNEL)] == [0, 1, 2]
    with pytest.raises(TableFullError, match="takes 3 entries"):
        tunnels.add(**TUNNEL)
    tunnels.remove(1)
    assert (len(tunnels), 1 in tunnels, 2 in tunnels, 3 in tunnels, "1" in tunnels) == (2, False, True, False, False)
    for number in (1, 3, -1, 1 << 40):
        with pytest.raises(KeyError):
            tunnels.remove(number)
        with pytest.raises(KeyError):
            tunnels.replace(number, **TUNNEL)
    assert tunnels.add(**TUNNEL) == 1
    assert tunnels.capacity == 3
    for capacity in (0, 1 << 21, "5"):
        with pytest.raises(ValueError, match="capacity is 1 to"):
            twin.Tunnels(capacity)
    with pytest.raises(TypeError):
        tunnels.replace(0, vni=5)
    with pytest.raises(TypeError, match="colour"):
        tunnels.replace(0, **TUNNEL, colour="blue")


@pytest.mark.parametrize("twin", VTEPS)
def test_wrong_fields_of_an_endpoint(twin: ModuleType) -> None:
    for fields, message in (
        ({"port": 65536}, "port is 1 to 65535"),
        ({"reserved": "maybe"}, "reserved is 'strict', 'ignore' or 'count'"),
        ({"addresses": ["fe80::1%eth0", "x"]}, "addresses: "),
        ({"capacity": 0}, "capacity is 1 to"),
    ):
        with pytest.raises(ValueError, match=message):
            twin.Vtep(**fields)
    vtep = twin.Vtep()
    for arguments, message in (
        ((-1, 5), "vni is"),
        ((1 << 24, 5), "vni is"),
        ((5, 1 << 32), "network is"),
        ((5, 5, ["no"]), "sources: "),
    ):
        with pytest.raises(ValueError, match=message):
            vtep.allow(*arguments)
    with pytest.raises(KeyError):
        vtep.forbid(5)
    assert (len(vtep), vtep.entries) == (0, 0)


@pytest.mark.parametrize("twin", VTEPS)
def test_an_endpoints_table_is_bounded(twin: ModuleType) -> None:
    vtep = twin.Vtep(addresses=[FAR, FAR6, FAR], capacity=7)
    vtep.allow(1, 1, [FAR, FAR, FAR6])
    assert (vtep.entries, vtep.capacity, 1 in vtep, 2 in vtep) == (5, 7, True, False)
    with pytest.raises(TableFullError):
        vtep.allow(2, 2, [FAR, FAR6])
    vtep.allow(2, 2, [FAR])
    with pytest.raises(TableFullError):
        vtep.allow(3, 3)
    vtep.allow(2, 3)
    vtep.allow(3, 3)
    assert (len(vtep), vtep.entries) == (3, 7)
    vtep.forbid(1)
    assert vtep.entries == 4
    with pytest.raises(TableFullError):
        twin.Vtep(addresses=[FAR, FAR6], capacity=1)


@pytest.mark.parametrize("twin", [*TUNNELS, *VTEPS])
def test_counters_are_a_buffer_that_cannot_be_written(twin: ModuleType) -> None:
    table = (getattr(twin, "Tunnels", None) or twin.Vtep)()
    counters = table.counters
    assert (counters.format, counters.itemsize, len(counters), counters.readonly) == ("Q", 8, len(Reason), True)
    assert table.counts() == dict.fromkeys(Reason, 0)


@pytest.mark.parametrize("stage", stages("vxlan"))
def test_allowing_and_forbidding_at_random(stage: ModuleType) -> None:
    """After any changes, the table knows what a dictionary knows."""
    chance = random.Random(4)
    kit = Kit.of(stage)
    vtep = kit.vtep()
    known: dict[int, tuple[int, list[str] | None]] = {}
    sources = [f"192.0.2.{i}" for i in range(1, 6)]
    frames = {(vni, source): Outer(vni=vni, source=source).build() for vni in range(40) for source in sources}
    batch = kit.batch(len(frames), huge=False)
    for _ in range(12):
        for _ in range(20):
            vni = chance.randrange(40)
            if vni in known and chance.random() < 0.5:
                vtep.forbid(vni)
                del known[vni]
            else:
                some = None if chance.random() < 0.3 else chance.sample(sources, chance.randrange(5))
                known[vni] = (chance.getrandbits(32), some)
                vtep.allow(vni, *known[vni])
        batch.fill(frames.values())
        stage.decap(batch, vtep)
        for i, (vni, source) in enumerate(frames):
            network, some = known.get(vni, (0, []))
            if vni not in known:
                assert batch.verdict[i] == Reason.VNI_UNKNOWN
            elif some is not None and source not in some:
                assert batch.verdict[i] == Reason.VTEP_NOT_ALLOWED
            else:
                assert (batch.verdict[i], batch.tunnel[i]) == (0, network)
    assert vtep.entries == sum(1 + len(some or ()) for _, some in known.values())


@pytest.mark.parametrize("stage", stages("vxlan"))
def test_tables_may_change_while_another_thread_uses_them(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    vtep, tunnels = kit.vtep(), kit.tunnels(64)
    vtep.allow(1, 1, [FAR])
    tunnels.add(**TUNNEL | {"vni": 1})
    stop = threading.Event()
    wrong: list[object] = []

    def work() -> None:
        batch = kit.batch(64, huge=False)
        while not stop.is_set():
            batch.fill([INNER] * 64)
            if stage.encap(batch, tunnels) != 64 or stage.decap(batch, vtep) != 64 or batch.frame(63) != INNER:
                wrong.append(list(batch.verdict[:64]))

    thread = threading.Thread(target=work)
    thread.start()
    for i in range(2, 400):
        vtep.allow(i, i, [FAR, FAR6])
        if i > 20:
            vtep.forbid(i - 10)
        if len(tunnels) == 64:
            for number in range(1, 64):
                tunnels.remove(number)
        tunnels.add(**TUNNEL6)
    stop.set()
    thread.join()
    assert not wrong
    assert vtep.counts()[Reason.PASS] == tunnels.counts()[Reason.PASS]
