"""Random transactions on the store against a stupid model that checks everything by looking at everything."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import documents
from dataplane.desired import Desired
from dataplane.errors import DocumentError
from dataplane.model import KINDS, Kind
from dataplane.store import Store

NETWORKS = ("blue", "green", "grey")
PORTS = ("p1", "p2", "p3", "p4", "p5")
# The first of each is right beside all the others' first; what comes later is there to be refused now and then.
CIDRS = {"a": ("10.0.0.0/25", "10.0.0.0/29", "10.0.0.0/24"), "b": ("10.0.0.128/25", "10.0.0.128/30")}
ADDRESSES = {
    "a": ("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.7", "10.0.0.127"),
    "b": ("10.0.0.129", "10.0.0.130", "10.0.0.131"),
}
MACS = tuple(f"fa:16:3e:00:00:{number:02x}" for number in range(1, 13))

Model = dict[str, dict[str, dict[str, Any]]]
"""kind -> id -> the object as plain data."""


START = {
    "networks": [
        {"id": key, "vni": None, "subnets": [{"id": f"{key}-{name}", "cidr": CIDRS[name][0]} for name in "ab"]}
        for key in NETWORKS
    ],
    "ports": [],
}


def mostly_first(values: Sequence[str]) -> st.SearchStrategy[str]:
    """The first value in most cases."""
    return st.sampled_from([values[0]] * 6 + list(values[1:]))


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    """A network with two subnets as a rule."""
    key = draw(st.sampled_from(NETWORKS))
    names = draw(mostly_first(["ab", "a", ""]))
    subnets = [{"id": f"{key}-{name}", "cidr": draw(mostly_first(CIDRS[name]))} for name in names]
    return {"id": key, "subnets": subnets, "vni": draw(st.sampled_from([None, None, 1, 2, 3, 4]))}


@st.composite
def ports(draw: st.DrawFn) -> dict[str, Any]:
    """A port with at most two addresses."""
    network = draw(st.sampled_from(NETWORKS))
    fixed = [
        {"subnet_id": f"{network}-{name}", "ip_address": draw(st.sampled_from(ADDRESSES[name]))}
        for name in draw(st.sampled_from(["", "a", "b", "ab", "aa"]))
    ]
    return {
        "id": draw(st.sampled_from(PORTS)),
        "network_id": network,
        "mac_address": draw(st.sampled_from(MACS)),
        "fixed_ips": fixed,
        "device": draw(mostly_first(["", "eth7"])),
        "host": draw(st.sampled_from(["", "h1", "h2"])),
    }


put = st.tuples(
    st.just("put"),
    st.fixed_dictionaries({"networks": st.lists(networks(), max_size=1), "ports": st.lists(ports(), max_size=2)}),
    st.just(False),
)
everything = st.tuples(
    st.just("put"),
    st.lists(ports(), max_size=4).map(lambda items: {**START, "ports": items}),
    st.just(True),
)
delete = st.tuples(
    st.just("delete"),
    st.lists(
        st.one_of(
            st.tuples(st.just("ports"), st.sampled_from(PORTS)),
            st.tuples(st.just("networks"), st.sampled_from(NETWORKS)),
        ),
        min_size=1,
        max_size=2,
    ),
    st.just(False),
)
transactions = st.lists(st.one_of(put, put, put, put, everything, delete), max_size=12)


def after(model: Model, verb: str, what: Any, prune: bool) -> Model | None:
    """The model after a transaction, or None if it must be refused."""
    new: Model = {kind: {} if prune else dict(model[kind]) for kind in KINDS}
    if verb == "put":
        for kind, objects in what.items():
            if len({item["id"] for item in objects}) != len(objects):
                return None
            new[kind].update({item["id"]: item for item in objects})
    else:
        for kind, key in set(what):
            if key not in new[kind]:
                return None
            del new[kind][key]
    return new if right(new) else None


def right(model: Model) -> bool:
    """Every rule between objects, the slow way."""
    subnets = [(n["id"], s["id"], ip_network(s["cidr"])) for n in model["networks"].values() for s in n["subnets"]]
    for one, other in itertools.combinations(subnets, 2):
        if one[1] == other[1] or (one[0] == other[0] and one[2].overlaps(other[2])):
            return False
    vnis = [n["vni"] for n in model["networks"].values() if n["vni"]]
    used: list[tuple[str, str]] = []
    for port in model["ports"].values():
        if port["network_id"] not in model["networks"]:
            return False
        used.append((port["network_id"], port["mac_address"]))
        for fixed in port["fixed_ips"]:
            found = [p for n, s, p in subnets if (n, s) == (port["network_id"], fixed["subnet_id"])]
            number = ip_address(fixed["ip_address"])
            if not found or number not in found[0]:
                return False
            if number in (found[0].network_address, found[0].broadcast_address):
                return False
            used.append((port["network_id"], fixed["ip_address"]))
    for one_port, other_port in itertools.combinations(model["ports"].values(), 2):
        same = (one_port["device"] or one_port["id"]) == (other_port["device"] or other_port["id"])
        hosts = {one_port["host"], other_port["host"]}
        if same and ("" in hosts or len(hosts) == 1):
            return False
    return len(set(vnis)) == len(vnis) and len(set(used)) == len(used)


def as_model(desired: Desired) -> Model:
    """What a store holds, through its own decoder and back to records, by id."""
    return {kind: {item.id: item for item in desired.of_kind(kind).values()} for kind in KINDS}  # type: ignore[misc]


def expected(model: Model) -> Model:
    """The model as records."""
    return as_model(Desired.of(documents.decode({kind: list(model[kind].values()) for kind in KINDS})))


async def carry_out(path: Path, transactions: list[Any]) -> None:
    model: Model = {kind: {} for kind in KINDS}
    store = await Store.open(path)
    follower, mirror = store.changes(0), Desired()
    for verb, what, prune in transactions:
        wanted = after(model, verb, what, prune)
        before = store.position
        try:
            if verb == "put":
                document = documents.decode(what, against=store.desired, prune=prune)
                await store.apply(document, prune=prune)
            else:
                refs: list[tuple[Kind, str]] = what
                await store.delete(refs)
        except DocumentError:
            assert wanted is None, (verb, what)
            assert store.position == before
            continue
        assert wanted is not None, (verb, what)
        assert (store.position != before) == (expected(wanted) != expected(model))
        if store.position != before:
            mirror.apply(await anext(follower))
        model = wanted
        assert as_model(store.desired) == expected(model) == as_model(mirror)
    # Not one index entry too many or too few, and the same again from the file.
    assert vars(store.desired) == vars(Desired.of(store.desired.state()))
    position, held = store.position, vars(store.desired)
    await store.close()
    store = await Store.open(path)
    assert (store.position, vars(store.desired)) == (position, held)
    await store.close()


@settings(max_examples=100, deadline=None)
@given(transactions)
def test_the_store_does_what_the_stupid_model_does(given_transactions: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(carry_out(Path(folder) / "store.db", [("put", START, False), *given_transactions]))
