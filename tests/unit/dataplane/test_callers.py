"""Callers that asked before: what is remembered of them holds until anything changes."""

from __future__ import annotations

from typing import Any

from dataplane import callers as module
from dataplane import documents
from dataplane.callers import Callers
from dataplane.desired import Desired
from dataplane.metadata_view import Defaults
from metadata.identity import NO_PORT, SHARED_MAC, SPOOFED, Caller, Known, Verdict

UUID = "6f70656e-7374-4163-8b00-000000000001"
NETWORK = {"id": "blue", "subnets": [{"id": "four", "cidr": "10.0.0.0/24"}, {"id": "six", "cidr": "fd00::/64"}]}
INSTANCE = {"id": UUID, "project_id": "p"}
MAC, OTHER_MAC = "02:00:00:00:00:05", "02:00:00:00:00:06"
SHARED = {"ip_address": "10.0.0.100", "mac_address": "02:00:5e:00:00:01"}


def port(id_: str, mac: str, *addresses: str, **more: Any) -> dict[str, Any]:
    fixed = [{"subnet_id": "six" if ":" in address else "four", "ip_address": address} for address in addresses]
    return {"id": id_, "network_id": "blue", "mac_address": mac, "device_id": UUID, "fixed_ips": fixed, **more}


class Model:
    """A model with ports of one network, and its callers, who are told of every change."""

    def __init__(self, *ports: dict[str, Any]) -> None:
        self.desired = Desired()
        self.callers = Callers(self.desired, Defaults(domain=""))
        self.show(*ports)

    def show(self, *ports: dict[str, Any], instance: dict[str, Any] = INSTANCE) -> None:
        """These ports and no others."""
        state = documents.decode({"networks": [NETWORK], "instances": [instance], "ports": list(ports)})
        change = self.desired.stage(state, prune=True)
        undo = self.desired.apply(change)
        self.callers.forget((*undo.puts, *change.puts))

    def who(self, address: str, mac: str = MAC) -> str | Verdict:
        """The port's id, asked twice."""
        first = self.callers.lookup(Caller("blue", mac, address))
        assert self.callers.lookup(Caller("blue", mac, address)) is first
        return first.port_id if isinstance(first, Known) else first


def test_another_port_takes_the_address_that_a_caller_chose() -> None:
    first = port("a", MAC, "10.0.0.5")
    model = Model(first)
    assert model.who("fd00::77") == "a"
    model.show(first, port("b", OTHER_MAC, "fd00::77"))
    assert model.who("fd00::77") is SPOOFED
    assert model.who("fd00::77", OTHER_MAC) == "b"
    model.show(first)
    assert model.who("fd00::77") == "a"
    assert model.who("fd00::77", OTHER_MAC) is NO_PORT


def test_a_deleted_or_moved_port_is_not_known_any_more() -> None:
    model = Model(port("a", MAC, "10.0.0.5"))
    assert model.who("10.0.0.5") == "a"
    model.show(port("a", OTHER_MAC, "10.0.0.5"))
    assert model.who("10.0.0.5") is NO_PORT
    assert model.who("10.0.0.5", OTHER_MAC) == "a"
    model.show()
    assert model.who("10.0.0.5", OTHER_MAC) is NO_PORT


def test_a_second_port_with_the_mac_of_a_pair_makes_both_unknown() -> None:
    first = port("a", MAC, "10.0.0.5", allowed_address_pairs=[SHARED])
    model = Model(first)
    assert model.who("10.0.0.100", "02:00:5e:00:00:01") == "a"
    model.show(first, port("b", OTHER_MAC, "10.0.0.6", allowed_address_pairs=[SHARED]))
    assert model.who("10.0.0.100", "02:00:5e:00:00:01") is SHARED_MAC


def test_changed_documents_are_seen_by_those_who_asked_before() -> None:
    first = port("a", MAC, "10.0.0.5")
    model = Model(first)
    caller = Caller("blue", MAC, "10.0.0.5")
    before = model.callers.lookup(caller)
    model.show(first, instance={**INSTANCE, "name": "renamed"})
    after = model.callers.lookup(caller)
    assert isinstance(after, Known)
    assert after is not before
    model.callers.clear()
    assert model.callers.lookup(caller) is not after


def test_what_is_remembered_is_bounded() -> None:
    model = Model(port("a", MAC, "10.0.0.5"))
    for number in range(module.FOUND_CALLERS + 10):
        assert isinstance(model.callers.lookup(Caller("blue", MAC, f"fe80::{number:x}")), Known)
    assert len(model.callers._found) <= module.FOUND_CALLERS
