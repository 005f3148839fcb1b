from __future__ import annotations

from dataplane.dhcp.counters import Counters
from dataplane.dhcp.hold import Hold
from dataplane.dhcp.packet import Packet
from dataplane.dhcp.wire import decode
from tests.unit.dataplane.dhcp import guest

PACKET = Packet(decode(guest.frame(guest.DISCOVER)[42:]), b"macmac", bytes(4), 68)


def test_a_packet_is_taken_once() -> None:
    hold = Hold(8.0, 4, Counters())
    hold.put(b"a", PACKET, "unknown_mac", 100.0)
    assert list(hold) == [b"a"]
    assert hold.take(b"b", 100.0) is None
    assert hold.take(b"a", 107.9) is PACKET
    assert hold.take(b"a", 107.9) is None
    assert len(hold) == 0


def test_too_old() -> None:
    counters = Counters()
    hold = Hold(8.0, 4, counters)
    hold.put(b"a", PACKET, "unknown_mac", 100.0)
    assert hold.take(b"a", 108.0) is None
    assert counters.dropped == {"unknown_mac": 1}


def test_expire_goes_from_the_oldest() -> None:
    counters = Counters()
    hold = Hold(8.0, 4, counters)
    for at, mac in enumerate((b"a", b"b", b"c", b"a")):
        hold.put(mac, PACKET, "unknown_mac", 100.0 + at)
    hold.expire(109.0)
    assert list(hold) == [b"c", b"a"]
    assert counters.dropped == {"unknown_mac": 1}
    hold.expire(200.0)
    assert len(hold) == 0


def test_the_oldest_gives_way() -> None:
    counters = Counters()
    hold = Hold(8.0, 2, counters)
    for mac in (b"a", b"b", b"c", b"b"):
        hold.put(mac, PACKET, "unknown_mac", 100.0)
    assert list(hold) == [b"c", b"b"]
    assert counters.dropped == {"hold_overflow": 1}
    assert counters.noted == {"held": 4}


def test_switched_off() -> None:
    counters = Counters()
    hold = Hold(0.0, 2, counters)
    hold.put(b"a", PACKET, "unknown_mac", 100.0)
    assert len(hold) == 0
    assert counters.dropped == {"unknown_mac": 1}


def test_a_clock_that_steps_back_ends_the_hold() -> None:
    hold = Hold(8.0, 2, Counters())
    hold.put(b"a", PACKET, "unknown_mac", 100.0)
    assert hold.take(b"a", 50.0) is None
