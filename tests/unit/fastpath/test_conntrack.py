"""Connections: what a packet is to them, how long they last, who has to go, and that a table can be handed over."""

from __future__ import annotations

import inspect
import random
import threading
from types import ModuleType
from typing import Any

import pytest

from fastpath import _conntrack_py, flow
from fastpath._hasher_py import Hasher
from fastpath.batch import Batch
from fastpath.connections import TICK_BITS, TIMEOUTS, ConntrackError, Ct, State, TableInUseError
from fastpath.reasons import Reason
from tests.exchanges import ACK, FIN, RST, SYN, addresses, frame, icmp, ip, tcp, udp, unreachable
from tests.twins import built

CONNTRACK_C = built("fastpath._conntrack_c")
TWINS = [
    pytest.param(_conntrack_py, id="plain"),
    pytest.param(
        CONNTRACK_C, id="compiled", marks=pytest.mark.skipif(CONNTRACK_C is None, reason="the extensions are not built")
    ),
]
pytestmark = pytest.mark.parametrize("twin", TWINS)
SECOND = 10**9
ONE, OTHER = addresses(4)
REPLY, LOOKUP, KNOWN = Ct.REPLY, Ct.LOOKUP, Ct.KNOWN


def see(table: Any, datagrams: list[bytes], now: int = 0, *, commit: bool = True, **named: Any) -> list[int]:
    """What the table says of each, with a commit behind it."""
    batch = batch_of(datagrams)
    table.track(batch, now, **named)
    said = list(batch.ct[: len(datagrams)])
    if commit:
        table.commit(batch, now, **named)
    return said


def batch_of(datagrams: list[bytes]) -> Batch:
    batch = Batch(max(1, len(datagrams)), huge=False)
    batch.fill([frame(each) for each in datagrams])
    flow.keys(batch)
    return batch


def opened(table: Any, port: int = 1000, now: int = 0, version: int = 4, **named: Any) -> None:
    one, other = addresses(version)
    for each in (
        tcp(one, other, port, 80, SYN, seq=100),
        tcp(other, one, 80, port, SYN | ACK, seq=500, ack=101),
        tcp(one, other, port, 80, ACK, seq=101, ack=501),
    ):
        see(table, [each], now, **named)


def out(flags: int, seq: int = 101, ack: int = 501) -> bytes:
    return tcp(ONE, OTHER, 1000, 80, flags, seq=seq, ack=ack)


def back(flags: int, seq: int = 501, ack: int = 101) -> bytes:
    return tcp(OTHER, ONE, 80, 1000, flags, seq=seq, ack=ack)


def test_same_signatures(twin: ModuleType) -> None:
    for name, plain in inspect.getmembers(_conntrack_py.Conntrack):
        if not name.startswith("_"):
            ours = getattr(twin.Conntrack, name)
            if callable(plain):
                assert list(inspect.signature(ours).parameters) == list(inspect.signature(plain).parameters), name


@pytest.mark.parametrize("windows", [False, True])
def test_states_of_tcp(twin: ModuleType, windows: bool) -> None:
    table = twin.Conntrack(10, window_check=windows)
    for datagram, state, lasts in (
        (out(SYN, 100, 0), State.SYN_SENT, "tcp_syn_sent"),
        (back(SYN | ACK, 500, 101), State.SYN_RECV, "tcp_syn_recv"),
        (out(ACK), State.ESTABLISHED, "tcp_established"),
        (out(FIN | ACK), State.FIN_WAIT, "tcp_fin_wait"),
        (back(ACK, 501, 102), State.CLOSE_WAIT, "tcp_close_wait"),
        (back(FIN | ACK, 501, 102), State.LAST_ACK, "tcp_last_ack"),
        (out(ACK, 102, 502), State.TIME_WAIT, "tcp_time_wait"),
    ):
        see(table, [datagram])
        (connection,) = table.connections()
        assert (connection.state, connection.source, connection.source_port) == (state, ONE, 1000)
        # Never shorter than configured, at most two ticks longer; unacknowledged data lasts less.
        assert 0 <= connection.expires_ns - min(TIMEOUTS[lasts], 432_000) * SECOND <= 2 << TICK_BITS
    assert connection.replied
    assert connection.assured


def state_after(twin: ModuleType, *datagrams: bytes) -> Any:
    table = twin.Conntrack(10, window_check=True)
    for each in datagrams:
        see(table, [each])
    (connection,) = table.connections()
    return connection.state


def test_whose_rst_closes(twin: ModuleType) -> None:
    """As Linux 6.18 does it: tests/netns/test_conntrack.py asks the kernel."""
    start = (out(SYN, 100, 0), back(SYN | ACK, 500, 101), out(ACK), out(SYN, 4000, 0))
    # It acknowledges the SYN that was ignored; only who received that can.
    assert state_after(twin, *start, out(RST | ACK, 900_000, 4001)) == State.ESTABLISHED
    assert state_after(twin, *start, back(RST | ACK, 900_000, 4001)) == State.CLOSE
    # What was picked up and is not assured yet is no loss.
    assert state_after(twin, out(ACK, 5, 0), back(ACK, 6, 5), back(RST | ACK, 90, 5)) == State.CLOSE
    assert state_after(twin, *start[:3], back(ACK), out(RST, 700)) == State.ESTABLISHED


def test_what_a_packet_is(twin: ModuleType) -> None:
    table = twin.Conntrack(10)
    ask, answer = udp(ONE, OTHER, 5000, 53), udp(OTHER, ONE, 53, 5000)
    assert see(table, [ask]) == [Ct.NEW | LOOKUP]
    assert see(table, [ask, answer, ask]) == [Ct.NEW | KNOWN, Ct.ESTABLISHED | REPLY | KNOWN, Ct.ESTABLISHED | KNOWN]
    assert see(table, [unreachable(ask), unreachable(answer)]) == [Ct.RELATED | REPLY | KNOWN, Ct.RELATED | KNOWN]
    assert see(table, [unreachable(udp(ONE, OTHER, 5001, 53))]) == [Ct.INVALID]
    assert table.stats["invalid"] == 1


def test_nothing_is_known_before_it_is_committed(twin: ModuleType) -> None:
    table, ask = twin.Conntrack(10), udp(ONE, OTHER, 5000, 53)
    for _ in range(2):
        assert see(table, [ask], commit=False) == [Ct.NEW | LOOKUP]
    batch = batch_of([ask, ask])
    assert table.track(batch, 0) == 2
    batch.verdict[0] = Reason.METERED
    assert (table.commit(batch, 0), len(table)) == (1, 1)
    assert list(batch.ct[:2]) == [Ct.NEW | LOOKUP, Ct.NEW | KNOWN]


def test_the_second_of_a_batch_finds_the_first_ones_connection(twin: ModuleType) -> None:
    table, batch = twin.Conntrack(10), batch_of([udp(ONE, OTHER, 5000, 53)] * 3)
    table.track(batch, 0)
    assert table.commit(batch, 0) == 1
    assert list(batch.ct[:3]) == [Ct.NEW | KNOWN] * 3


def test_what_is_no_ip_is_left_to_the_rules(twin: ModuleType) -> None:
    table, batch = twin.Conntrack(10), Batch(3, huge=False)
    solicitation = icmp(*addresses(6), 135, 0, bytes(4), bytes(16))
    batch.fill([bytes(12) + b"\x08\x06" + bytes(46), frame(solicitation), frame(udp(ONE, OTHER, 1, 2))[:30]])
    flow.keys(batch)
    assert table.track(batch, 0) == 2
    assert list(batch.ct[:3]) == [LOOKUP, LOOKUP, Ct.INVALID]
    assert table.commit(batch, 0) == 0


def test_fragments_have_to_be_reassembled_before(twin: ModuleType) -> None:
    table, later = twin.Conntrack(10), bytearray(udp(ONE, OTHER, 5000, 53))
    later[6:8] = b"\x00\x05"
    assert see(table, [bytes(later)]) == [Ct.INVALID]


@pytest.mark.parametrize("version", [4, 6])
def test_echo_is_of_one_identifier_and_of_who_asks(twin: ModuleType, version: int) -> None:
    table, (one, other) = twin.Conntrack(10), addresses(version)
    ask, answer = (8, 0) if version == 4 else (128, 129)
    ident = b"\0\7\0\1"
    assert see(table, [icmp(other, one, answer, 0, ident)]) == [Ct.INVALID]
    assert see(table, [icmp(one, other, ask, 0, ident)]) == [Ct.NEW | LOOKUP]
    assert see(table, [icmp(other, one, ask, 0, ident)]) == [Ct.NEW | LOOKUP]
    assert see(table, [icmp(other, one, answer, 0, ident)]) == [Ct.ESTABLISHED | REPLY | KNOWN]
    assert see(table, [icmp(other, one, answer, 0, b"\0\x08\0\1")]) == [Ct.INVALID]
    assert {each.source for each in table.connections()} == {one, other}
    assert {each.source_port for each in table.connections()} == {ask << 8}


def test_zones_do_not_know_each_other(twin: ModuleType) -> None:
    table, ask, answer = twin.Conntrack(10), udp(ONE, OTHER, 5000, 53), udp(OTHER, ONE, 53, 5000)
    assert see(table, [ask], zone=1) == [Ct.NEW | LOOKUP]
    assert see(table, [answer], zone=2) == [Ct.NEW | LOOKUP]
    assert see(table, [answer], zone=1) == [Ct.ESTABLISHED | REPLY | KNOWN]
    assert [table.zone_count(zone) for zone in (0, 1, 2)] == [0, 1, 1]


def test_a_zone_is_forgotten_at_once(twin: ModuleType) -> None:
    table = twin.Conntrack(100)
    for zone in (1, 2):
        see(table, [udp(ONE, OTHER, port, 53) for port in range(40)], zone=zone)
    opened(table, zone=1)
    assert (table.flush(1), len(table), table.zone_count(1)) == (41, 40, 0)
    assert see(table, [udp(ONE, OTHER, 5, 53)], zone=1) == [Ct.NEW | LOOKUP]
    assert see(table, [udp(ONE, OTHER, 5, 53)], zone=2) == [Ct.NEW | KNOWN]
    # What was forgotten keeps no room.
    see(table, [udp(ONE, OTHER, port, 53) for port in range(200, 259)], zone=3)
    assert (len(table), table.stats["evicted"], table.flush(9)) == (100, 0, 0)
    assert table.expire(40 * SECOND) == 100


def test_another_policy_asks_again(twin: ModuleType) -> None:
    table = twin.Conntrack(10)
    opened(table, policy=1)
    assert see(table, [out(ACK)], policy=2, commit=False) == [Ct.ESTABLISHED | KNOWN | LOOKUP]
    assert see(table, [back(ACK)], policy=2) == [Ct.ESTABLISHED | REPLY | KNOWN | LOOKUP]
    assert see(table, [out(ACK)], policy=2) == [Ct.ESTABLISHED | KNOWN]
    batch = batch_of([out(ACK)])
    table.track(batch, 0, policy=3)
    batch.verdict[0] = 99
    table.commit(batch, 0, policy=3, denied=98)
    assert len(table) == 1
    table.commit(batch, 0, policy=3, denied=99)
    assert (len(table), table.stats["denied"]) == (0, 1)


def test_time(twin: ModuleType) -> None:
    table = twin.Conntrack(100, timeouts={"udp": 5, "udp_stream": 50})
    start = 1 << 60
    see(table, [udp(ONE, OTHER, 5000, 53)], start)
    assert table.expire(start + 5 * SECOND) == 0
    assert see(table, [udp(OTHER, ONE, 53, 5000)], start + 4 * SECOND) == [Ct.ESTABLISHED | REPLY | KNOWN]
    assert see(table, [udp(OTHER, ONE, 53, 5000)], start + 4 * SECOND) == [Ct.ESTABLISHED | REPLY | KNOWN]
    assert [each.assured for each in table.connections()] == [True]
    assert table.expire(start) == 0, "time does not go back"
    assert table.expire(start + 53 * SECOND) == 0
    assert len(table) == 1
    assert see(table, [udp(OTHER, ONE, 53, 5000)], start + 57 * SECOND) == [Ct.NEW | LOOKUP]
    assert (table.stats["expired"], len(table)) == (1, 1)


def test_what_lasts_shorter_goes_earlier(twin: ModuleType) -> None:
    table = twin.Conntrack(10)
    opened(table)
    see(table, [back(RST, 501, 101)], SECOND)
    assert table.expire(10 * SECOND) == 0
    assert table.expire(12 * SECOND) == 1


def test_everything_goes_in_its_time(twin: ModuleType) -> None:
    chance = random.Random(7)
    for step in (SECOND // 20, 7 * SECOND, 700 * SECOND, 90000 * SECOND):
        timeouts = {"udp": 30, "tcp_syn_sent": 20000, "icmp": 1, "other": 2_592_000}
        table = twin.Conntrack(300, timeouts=timeouts)
        many = [udp(ONE, OTHER, i, 53) for i in range(60)] + [tcp(ONE, OTHER, i, 80, SYN) for i in range(60)]
        many += [icmp(ONE, OTHER, 8, 0, bytes([0, i, 0, 0])) for i in range(60)] + [ip(ONE, OTHER, 99, b"")]
        chance.shuffle(many)
        now, left = 0, {17: 60, 6: 60, 1: 60, 99: 1}
        for at in range(0, len(many), 30):
            see(table, many[at : at + 30], now)
        ends = {17: 30, 6: 20000, 1: 1, 99: 2_592_000}
        for _ in range(40):
            now += step
            table.expire(now)
            kinds = [each.protocol for each in table.connections()]
            for protocol, seconds in ends.items():
                if now < seconds * SECOND:
                    assert kinds.count(protocol) == left[protocol], (protocol, now)
                if now > seconds * SECOND + (2 << TICK_BITS):
                    assert protocol not in kinds, (protocol, now)


def test_a_full_table_drops_who_has_proven_least(twin: ModuleType) -> None:
    table = twin.Conntrack(4)
    opened(table, 1000, zone=1)
    see(table, [udp(ONE, OTHER, 1, 53)], zone=2)
    see(table, [udp(ONE, OTHER, 2, 53), udp(ONE, OTHER, 3, 53)], zone=1)
    # The oldest of its own zone first, else of any.
    see(table, [udp(ONE, OTHER, 4, 53)], zone=1)
    assert sorted((each.zone, each.source_port) for each in table.connections()) == [(1, 3), (1, 4), (1, 1000), (2, 1)]
    see(table, [udp(ONE, OTHER, 5, 53)], zone=3)
    assert sorted((each.zone, each.source_port) for each in table.connections()) == [(1, 3), (1, 4), (1, 1000), (3, 5)]
    assert table.stats["evicted"] == 2


def test_assured_connections_are_not_dropped_for_new_ones(twin: ModuleType) -> None:
    table = twin.Conntrack(2)
    opened(table, 1000)
    opened(table, 1001)
    batch = batch_of([udp(ONE, OTHER, 1, 53)])
    table.track(batch, 0)
    assert table.commit(batch, 0) == 0
    assert (batch.verdict[0], table.stats["full"]) == (Reason.CONNECTIONS_FULL, 1)
    # One that closes makes room.
    see(table, [tcp(ONE, OTHER, 1001, 80, FIN | ACK, seq=101, ack=501)])
    see(table, [udp(ONE, OTHER, 1, 53)])
    assert sorted(each.source_port for each in table.connections()) == [1, 1000]
    # So does what has expired.
    see(table, [udp(ONE, OTHER, 2, 53)], 31 * SECOND)
    assert (table.stats["expired"], table.stats["evicted"]) == (1, 1)


def test_limits_of_zones(twin: ModuleType) -> None:
    table = twin.Conntrack(100, zone_limit=1)
    table.limit(2, 0)
    opened(table, 1000, zone=1)
    batch = batch_of([udp(ONE, OTHER, port, 53) for port in range(3)])
    table.track(batch, 0, zone=1)
    assert table.commit(batch, 0, zone=1) == 0
    assert list(batch.verdict[:3]) == [Reason.ZONE_FULL] * 3
    see(table, [udp(ONE, OTHER, port, 53) for port in range(3)], zone=2)
    see(table, [udp(ONE, OTHER, port, 53) for port in range(3)], zone=3)
    assert [table.zone_count(zone) for zone in (1, 2, 3)] == [1, 3, 1]
    assert (table.stats["limited"], table.stats["evicted"]) == (3, 2)
    table.limit(1, None)
    table.limit(1, 2)
    see(table, [udp(ONE, OTHER, 9, 53)], zone=1)
    assert table.zone_count(1) == 2


def test_a_flood_leaves_no_other_tenant_out(twin: ModuleType) -> None:
    table = twin.Conntrack(64, zone_limit=32)
    opened(table, zone=1)
    for start in range(0, 2000, 100):
        see(table, [tcp(ONE, OTHER, port, 80, SYN, seq=1) for port in range(start, start + 100)], zone=2)
    assert see(table, [out(ACK)], zone=1) == [Ct.ESTABLISHED | KNOWN]
    assert see(table, [udp(ONE, OTHER, 5, 53)], zone=1) == [Ct.NEW | LOOKUP]
    assert table.zone_count(2) == 32
    assert len(table) == 34


def test_flows_that_collide_by_the_default_seed_are_found(twin: ModuleType) -> None:
    # Whoever knows a seed finds flows of one bucket; the table still finds all of them, and another seed spreads them.
    from fastpath._flow_py import hash_key
    from fastpath.connection_records import KEY

    table, hasher, colliding = twin.Conntrack(4096, seed=1), Hasher(1), []
    for number in range(40_000):
        source = number.to_bytes(4, "big")
        key = KEY.pack(source, OTHER, (7).to_bytes(2, "big"), b"\0\x35", 17, 4, 0)
        if hash_key(hasher, key) & 0x3FF == 0:
            colliding.append(udp(source, OTHER, 7, 53))
    assert len(colliding) > 20
    assert see(table, colliding) == [Ct.NEW | LOOKUP] * len(colliding)
    assert see(table, colliding) == [Ct.NEW | KNOWN] * len(colliding)
    assert table.expire(31 * SECOND) == len(colliding)
    assert see(table, colliding, 31 * SECOND) == [Ct.NEW | LOOKUP] * len(colliding)


@pytest.mark.parametrize("version", [4, 6])
def test_handed_over(twin: ModuleType, version: int) -> None:
    table, (one, other) = twin.Conntrack(100, window_check=True, count=True), addresses(version)
    opened(table, version=version, zone=7, policy=5)
    see(table, [udp(one, other, 5000, 53)], 3 * SECOND, zone=7)
    data = table.export()
    for following in (_conntrack_py, twin):
        heir = following.Conntrack(100, window_check=True, count=True)
        assert heir.restore(data) == 2
        assert heir.restore(data) == 0
        assert sorted(heir.connections()) == sorted(table.connections())
        now = 1 << 50
        answer = tcp(other, one, 80, 1000, ACK, seq=501, ack=101)
        assert see(heir, [answer], now, zone=7, policy=5) == [Ct.ESTABLISHED | REPLY | KNOWN]
        wrong = tcp(other, one, 80, 1000, ACK, seq=501, ack=90_000)
        assert see(heir, [wrong], now, zone=7, policy=5) == [Ct.INVALID]
        assert heir.expire(now + 31 * SECOND) == 1
        (connection,) = heir.connections()
        assert (connection.policy, connection.packets) == (5, (2, 2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut"), (b"NPCT", "cut"), (bytes(20), "no export"), (b"NPCT\2\0\x90\0" + bytes(12), "format 2"),
        (b"NPCT\1\0\x90\0\1" + bytes(11), "bytes behind"), (b"NPCT\1\0\x90\0\1" + bytes(155), "record 0"),
    ],
)  # fmt: skip
def test_what_is_no_export(twin: ModuleType, data: bytes, message: str) -> None:
    table = twin.Conntrack(10)
    with pytest.raises(ConntrackError, match=message):
        table.restore(data)
    assert len(table) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda twin, _: twin.Conntrack(0), "capacity"),
        (lambda twin, _: twin.Conntrack(1 << 27), "capacity"),
        (lambda twin, _: twin.Conntrack(1, seed=1 << 64), "seed"),
        (lambda twin, _: twin.Conntrack(1, zone_limit=-1), "zone_limit"),
        (lambda twin, _: twin.Conntrack(1, timeouts={"udo": 1}), "timeouts: 'udo'"),
        (lambda twin, _: twin.Conntrack(1, timeouts={"udp": 0}), "timeouts: udp"),
        (lambda _, table: table.expire(-1), "now"),
        (lambda _, table: table.expire(1 << 64), "now"),
        (lambda _, table: (table.expire(0), table.expire(1 << 63)), "now is more"),
        (lambda _, table: table.track(Batch(1), 0, zone=65536), "zone"),
        (lambda _, table: table.track(Batch(1), 0, policy=-1), "policy"),
        (lambda _, table: table.commit(Batch(1), 0, denied=-1), "denied"),
        (lambda _, table: table.flush(-1), "zone"),
        (lambda _, table: table.limit(1, -1), "zone_limit"),
    ],
)
def test_wrong_arguments(twin: ModuleType, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(twin, twin.Conntrack(4))


def test_one_thread_at_a_time(twin: ModuleType) -> None:
    if twin is _conntrack_py:
        pytest.skip("the plain twin keeps the GIL")
    table = twin.Conntrack(1 << 16)
    see(table, [udp(i.to_bytes(4, "big"), OTHER, 1, 53) for i in range(500)])
    stop = threading.Event()
    wrong: list[int] = []

    def work() -> None:
        batch = batch_of([udp(i.to_bytes(4, "big"), OTHER, 1, 53) for i in range(500)])
        while not stop.is_set():
            try:
                table.track(batch, 0)
            except TableInUseError:
                continue
            wrong.extend(each for each in batch.ct[:500] if each != Ct.NEW | KNOWN)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    stop.wait(0.2)
    stop.set()
    for worker in workers:
        worker.join()
    assert not wrong


def test_columns_that_say_anything_are_harmless(twin: ModuleType) -> None:
    chance, table = random.Random(3), twin.Conntrack(20, window_check=True)
    batch = Batch(60, slot=256, headroom=64, huge=False)
    for _ in range(30):
        batch.fill([chance.randbytes(chance.randrange(190)) for _ in range(60)])
        for i in range(60):
            batch.key.cast("B")[i * 40 : i * 40 + 40] = chance.randbytes(40)
            batch.key[i, 37], batch.key[i, 36] = chance.choice((4, 6)), chance.choice((1, 6, 17, 58, 99))
            batch.flags[i] = chance.getrandbits(14) & ~0x600
            batch.layers[i] = chance.choice((14 | 34 << 16, chance.getrandbits(32)))
            batch.ct[i] = chance.getrandbits(32)
        table.commit(batch, 0)
        table.track(batch, 0)
        table.commit(batch, 0)
    assert len(table) <= 20
