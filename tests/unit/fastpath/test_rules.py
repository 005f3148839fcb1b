"""Rules: what they refuse, what they match, and their packed form."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from fastpath import rules
from fastpath.rules import EGRESS, INGRESS, Header, Rule, RuleError, first_match, icmp, key, matches, pack, unpack
from tests.rulesets import Shapes

HOST = Header(version=4, source=0x0A000001, destination=0x0A000002, protocol=6, source_port=1234, destination_port=80)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"priority": -1}, "priority"),
        ({"priority": 1 << 24}, "priority"),
        ({"protocol": 256}, "protocol"),
        ({"dscp": 64}, "dscp"),
        ({"zone": 32768}, "zone"),
        ({"direction": 2}, "direction"),
        ({"version": 5}, "version"),
        ({"source_ports": (2, 1)}, "source_ports"),
        ({"destination_ports": (0, 65536)}, "destination_ports"),
        ({"tcp_flags": (2, 0), "protocol": 6}, "tcp_flags"),
        ({"tcp_flags": (2, 2)}, "tcp_flags"),
        ({"source": ip_network("10.0.0.0/8"), "destination": ip_network("2001:db8::/32")}, "destination"),
        ({"source": ip_network("10.0.0.0/8"), "version": 6}, "destination"),
    ],
)
def test_what_no_packet_can_have(fields: dict[str, object], field: str) -> None:
    with pytest.raises(RuleError) as caught:
        Rule(**fields)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("rule", "matched"),
    [
        (Rule(), True),
        (Rule(version=6), False),
        (Rule(source=ip_network("10.0.0.0/30")), True),
        (Rule(source=ip_network("10.0.0.2/32")), False),
        (Rule(destination=ip_network("0.0.0.0/0")), True),
        (Rule(protocol=17), False),
        (Rule(protocol=6, destination_ports=(80, 80)), True),
        (Rule(protocol=6, destination_ports=(81, 90)), False),
        (Rule(source_ports=(1234, 1234)), True),
        (Rule(zone=0, direction=INGRESS), True),
        (Rule(zone=1), False),
        (Rule(direction=EGRESS), False),
        (Rule(dscp=0), True),
        (Rule(dscp=1), False),
        (Rule(protocol=6, tcp_flags=(0, 2)), True),
        (Rule(protocol=6, tcp_flags=(2, 2)), False),
    ],
)
def test_every_field_counts(rule: Rule, matched: bool) -> None:
    assert matches(rule, HOST) is matched


def test_a_later_fragment_matches_no_rule_of_a_protocol_that_asks_for_ports() -> None:
    later = Header(version=4, source=1, destination=2, protocol=17, ports_known=False)
    assert not matches(Rule(protocol=17, destination_ports=(0, 1023)), later)
    assert matches(Rule(protocol=17), later)
    assert matches(Rule(destination_ports=(0, 1023)), later)


def test_icmp_type_and_code() -> None:
    assert icmp() == (0, 65535)
    assert icmp(8) == (8 << 8, 8 << 8 | 255)
    assert icmp(3, 4) == (3 << 8 | 4, 3 << 8 | 4)
    for wrong in ((None, 1), (256, None), (3, 256)):
        with pytest.raises(RuleError):
            icmp(*wrong)


def test_the_highest_priority_wins_and_the_oldest_of_those() -> None:
    listed = [(7, Rule(priority=1)), (3, Rule(priority=5)), (9, Rule(priority=5)), (1, Rule(priority=9, protocol=17))]
    assert first_match(listed, HOST) == 3
    assert first_match([], HOST) == -1


@pytest.mark.parametrize("version", [4, 6])
def test_packing(version: int) -> None:
    shapes = Shapes(1, 4 if version == 4 else 6, more=True)
    made = [shapes.rule() for _ in range(200)]
    data = pack(made)
    assert len(data) == 200 * rules.PACKED.size
    assert unpack(data) == made


def test_packed_rules_are_checked() -> None:
    with pytest.raises(RuleError, match="56"):
        unpack(b"x")


def test_a_key_is_16_or_64_bytes() -> None:
    assert key(HOST).hex() == "0100000a" + "0200000a" + "d204" + "5000" + "0c00" + "0000"
    six = Header(version=6, source=1 << 96, destination=2, protocol=58, zone=3, direction=EGRESS, ports_known=False)
    assert (
        key(six).hex()
        == "01000000" + "00" * 12 + "00" * 12 + "02000000" + "0000" + "0000" + "7500" + "0380" + "00" * 24
    )
