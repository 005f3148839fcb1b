"""desired: transactions are checked whole, reduced to what differs, carried out and undone."""

from __future__ import annotations

import pytest

from dataplane.desired import Desired
from dataplane.errors import DocumentError
from dataplane.model import Change, DesiredState, NetworkId
from dataplane.status import Counts
from tests.unit.dataplane.states import instance, network, port, state, subnet

BLUE = NetworkId("blue")


@pytest.fixture
def held() -> Desired:
    """Two networks with subnets alike, two ports in blue, one in green, one instance."""
    ports = [port("p1", 5), port("p2", 6), port("p3", 5, "green")]
    return Desired.of(state([network("blue", vni=1), network("green")], ports, [instance(1)]))


def refusal(held: Desired, *args: object, **kwargs: object) -> list[str]:
    before = held.state()
    with pytest.raises(DocumentError) as caught:
        held.stage(*args, **kwargs)  # type: ignore[arg-type]
    assert held.state() == before
    return [str(mistake) for mistake in caught.value.mistakes]


def test_only_what_differs_is_staged(held: Desired) -> None:
    document = state(ports=[port("p1", 5), port("p2", 7), port("p4", 8)])
    change = held.stage(document)
    assert change == Change(0, puts=document.ports[1:])
    counts = held.tally(change, document)
    assert counts["ports"] == Counts(created=1, updated=1, deleted=0, unchanged=1)
    assert counts["networks"] == Counts()
    assert held.stage(held.state()) == Change(0)
    assert held.stage(held.state(), prune=True) == Change(0)


def test_prune_removes_what_is_not_in_the_document(held: Desired) -> None:
    document = state([network("blue", vni=1)], [port("p1", 5)])
    change = held.stage(document, prune=True)
    assert change.puts == ()
    assert sorted(change.deletes) == sorted(
        [("networks", "green"), ("ports", "p2"), ("ports", "p3"), ("instances", held.state().instances[0].id)]
    )
    assert held.tally(change, document)["ports"] == Counts(deleted=2, unchanged=1)
    held.apply(change)
    assert held.state() == document


def test_an_undo_brings_back_everything(held: Desired) -> None:
    before = held.state()
    change = held.stage(state([network("grey", vni=2)], [port("p1", 9), port("p4", 5)]), [("ports", "p3")])
    undo = held.apply(change)
    assert held.state() != before
    redo = held.apply(undo)
    assert vars(held) == vars(Desired.of(before))
    assert sorted(redo.deletes) == sorted(change.deletes)


def test_two_ports_can_swap_their_addresses(held: Desired) -> None:
    held.apply(held.stage(state(ports=[port("p1", 6), port("p2", 5)])))
    owners = {address: p.id for (network_id, address), p in held.port_by_address.items() if network_id == BLUE}
    assert owners == {"10.0.0.5": "p2", "10.0.0.6": "p1"}
    assert {p.mac_address[-2:]: p.id for p in held.ports_of(BLUE)} == {"06": "p1", "05": "p2"}


def test_a_port_can_take_what_a_deleted_one_had(held: Desired) -> None:
    change = held.stage(state(ports=[port("p9", 5)]), [("ports", "p1")])
    held.apply(change)
    assert {p.id for p in held.ports_of(BLUE)} == {"p9", "p2"}


def test_a_port_can_move_to_another_network(held: Desired) -> None:
    held.apply(held.stage(state(ports=[port("p2", 6, "green")])))
    assert {p.id for p in held.ports_of(BLUE)} == {"p1"}
    assert {p.id for p in held.ports_of(NetworkId("green"))} == {"p2", "p3"}
    held.apply(held.stage(state(ports=[port("p1", 7, "green")]), [("networks", "blue")]))
    assert BLUE not in held.networks


def test_dangling_deletes(held: Desired) -> None:
    assert refusal(held, deletes=[("networks", "blue")]) == ["networks/blue: is still used by port p1 and 1 more"]
    assert refusal(held, deletes=[("networks", "green"), ("ports", "p9"), ("instances", "x")]) == [
        "ports/p9: does not exist",
        "instances/x: does not exist",
        "networks/green: is still used by port p3",
    ]
    assert held.stage(deletes=[("ports", "p9")], missing_ok=True) == Change(0)
    change = held.stage(deletes=[("networks", "green"), ("ports", "p3"), ("ports", "p3")])
    assert change.deletes == (("networks", "green"), ("ports", "p3"))


def test_prune_does_not_leave_a_port_without_its_network(held: Desired) -> None:
    assert refusal(held, state(ports=[port("p1", 5)]), prune=True) == ["ports[0].network_id: there is no network blue"]


def test_a_network_keeps_the_subnets_that_its_ports_use(held: Desired) -> None:
    assert refusal(held, state([network("blue", subnet("other", "10.9.0.0/24"))])) == [
        "networks[0].subnets: subnet blue-subnet is missing and still used by port p1"
    ]
    assert refusal(held, state([network("blue", subnet("blue-subnet", "10.0.0.0/30"))])) == [
        "networks[0].subnets[0].cidr: 10.0.0.5 is not in subnet 10.0.0.0/30, but port p1 has it"
    ]
    held.stage(state([network("blue", subnet("blue-subnet", "10.0.0.0/16"))]))
    moved = state([network("blue", subnet("blue-subnet", "10.0.0.0/29"))], [port("p2", 3)])
    held.stage(moved)


def test_an_instance_may_come_after_its_port_and_go_before_it(held: Desired) -> None:
    key = held.state().instances[0].id
    held.apply(held.stage(state(ports=[port("p1", 5, device_id=key)]), [("instances", key)]))
    assert [p.id for p in held.ports_of_instance(key)] == ["p1"]


def test_an_empty_transaction(held: Desired) -> None:
    assert held.stage() == Change(0)
    assert held.apply(Change(3)) == Change(3)
    assert Desired().stage(DesiredState(), prune=True) == Change(0)


def test_the_difference_to_a_sources_state_is_taken_as_it_is(held: Desired) -> None:
    wanted = state([network("blue", vni=1)], [port("p1", 5), port("p2", 9)])
    change = held.difference(wanted)
    assert change == held.stage(wanted, prune=True)
    held.apply(change)
    assert held.state() == wanted
    assert held.difference(wanted) == Change(0)
