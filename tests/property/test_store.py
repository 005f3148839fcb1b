"""Random transactions on the store against a stupid model that checks everything by looking at everything."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
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
CIDRS = ("10.0.0.0/24", "10.0.0.0/29", "10.0.0.128/25")
ADDRESSES = ("10.0.0.2", "10.0.0.3", "10.0.0.7", "10.0.0.129")
MACS = ("fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:03")

Model = dict[str, dict[str, dict[str, Any]]]
"""kind -> id -> the object as plain data."""


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    """A network with at most one subnet of each of two names."""
    key = draw(st.sampled_from(NETWORKS))
    names = draw(st.sets(st.sampled_from(["a", "b"])))
    cidrs = dict(zip("ab", draw(st.sampled_from([CIDRS[:1] + CIDRS[2:], CIDRS[1:]])), strict=True))
    subnets = [{"id": f"{key}-{name}", "cidr": cidrs[name]} for name in sorted(names)]
    vni = draw(st.sampled_from([None, 1, 2]))
    return {"id": key, "subnets": subnets, "vni": vni}


@st.composite
def ports(draw: st.DrawFn) -> dict[str, Any]:
    """A port with at most two addresses."""
    network = draw(st.sampled_from(NETWORKS))
    fixed = draw(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(ADDRESSES)), max_size=2))
    return {
        "id": draw(st.sampled_from(PORTS)),
        "network_id": network,
        "mac_address": draw(st.sampled_from(MACS)),
        "fixed_ips": [{"subnet_id": f"{network}-{name}", "ip_address": address} for name, address in fixed],
        "device": draw(st.sampled_from(["", "", "", "eth7"])),
        "host": draw(st.sampled_from(["", "h1", "h2"])),
    }


put = st.tuples(
    st.just("put"),
    st.fixed_dictionaries({"networks": st.lists(networks(), max_size=2), "ports": st.lists(ports(), max_size=3)}),
    st.booleans(),
)
delete = st.tuples(
    st.just("delete"),
    st.lists(
        st.one_of(
            st.tuples(st.just("networks"), st.sampled_from(NETWORKS)),
            st.tuples(st.just("ports"), st.sampled_from(PORTS)),
        ),
        min_size=1,
        max_size=3,
    ),
    st.just(False),
)


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


@settings(max_examples=120, deadline=None)
@given(st.lists(st.one_of(put, put, put, delete), max_size=8))
def test_the_store_does_what_the_stupid_model_does(transactions: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(carry_out(Path(folder) / "store.db", transactions))
