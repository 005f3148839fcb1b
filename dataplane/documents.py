"""Decode an operator's document: plain data to records in canonical form, or every mistake with its path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from dataplane import instance_rules, network_rules, port_rules, security_rules, strict
from dataplane.desired import Desired, numbered
from dataplane.errors import DocumentError, Mistake
from dataplane.fields import Findings
from dataplane.indexes import kind_of
from dataplane.model import (
    CLASSES,
    KINDS,
    AddressGroup,
    DesiredState,
    FirewallPolicy,
    Instance,
    Kind,
    Network,
    Object,
    Port,
    SecurityGroup,
)
from dataplane.relations import Transaction

_KIND_ORDER: dict[str, int] = {kind: place for place, kind in enumerate(KINDS)}
_OBJECT = re.compile(rf"(?P<kind>{'|'.join(KINDS)})\[(?P<index>[0-9]+)\]")


def decode(data: object, *, against: Desired | None = None, prune: bool = False) -> DesiredState:
    """Make a desired state of plain data, as YAML or JSON give it.

    `against` is the state that the document is going to be applied to (nothing if None): what it holds may be
    referred to, and must not be duplicated; with `prune` it only matters for what is in the document as well.

    Raises DocumentError with every mistake that can be told, in the order of `KINDS`; each has
    the path as it was written, such as `ports[3].fixed_ips[0].ip_address: 10.0.9.5 is not in subnet 10.0.0.0/24`.
    """
    state, mistakes = strict.decode(DesiredState, data)
    if state is not None:
        return _decode_typed(state, against, prune)
    findings = Findings()
    findings.mistakes += mistakes
    readable = [(path, canonical(findings, item, path)) for path, item in _salvage(data)]
    unreadable = _unreadable_networks(data, readable)
    if unreadable is not None:
        findings.mistakes += Transaction(against or Desired(), readable, (), unreadable).check().mistakes
    raise DocumentError(_in_order(findings.mistakes))


def canonical(findings: Findings, item: Object, path: str) -> Object:
    """One object in canonical form; every rule broken inside it is noted in `findings`."""
    try:
        msgspec.json.encode(item)
    except UnicodeEncodeError:
        findings.add(path, "contains half a surrogate pair, which is not text")
        return item
    except RecursionError:
        findings.add(path, "is nested too deeply")
        return item
    except (TypeError, ValueError):
        pass  # only vendor data can hold such things, and its rule tells where
    match item:
        case Port():
            return port_rules.canonical(findings, item, path)
        case Network():
            return network_rules.canonical(findings, item, path)
        case Instance():
            return instance_rules.canonical(findings, item, path)
        case SecurityGroup():
            return security_rules.security_group(findings, item, path)
        case AddressGroup():
            return security_rules.address_group(findings, item, path)
        case FirewallPolicy():
            return security_rules.firewall_policy(findings, item, path)


def _decode_typed(state: DesiredState, against: Desired | None, prune: bool) -> DesiredState:
    findings = Findings()
    items = [(path, canonical(findings, item, path)) for path, item in numbered(state)]
    held = Desired() if against is None else against
    kept = {(kind_of(item), item.id) for _, item in items}
    gone = [(kind, key) for kind in KINDS for key in held.of_kind(kind) if (kind, key) not in kept] if prune else ()
    findings.mistakes += Transaction(held, items, gone).check().mistakes
    if findings.mistakes:
        raise DocumentError(_in_order(findings.mistakes))
    by_kind: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for _, item in items:
        by_kind[kind_of(item)].append(item)
    return DesiredState(**{kind: tuple(objects) for kind, objects in by_kind.items()})


def _salvage(data: object) -> Iterator[tuple[str, Object]]:
    """The objects of a document with mistakes that are well-typed themselves, so that their rules can be checked."""
    for kind, cls in CLASSES.items():
        for index, item in enumerate(_objects(data, kind)):
            try:
                yield f"{kind}[{index}]", msgspec.convert(item, cls)
            except msgspec.ValidationError:
                continue


def _unreadable_networks(data: object, readable: list[tuple[str, Object]]) -> set[str] | None:
    """Ids of the networks with wrong types; None if some cannot be told, and no reference can be judged."""
    if isinstance(data, Mapping) and not isinstance(data.get("networks", []), list | tuple):
        return None
    if not isinstance(data, Mapping) or any(key not in KINDS for key in data):
        return None
    paths = {path for path, _ in readable}
    ids: set[str] = set()
    for index, item in enumerate(_objects(data, "networks")):
        if f"networks[{index}]" in paths:
            continue
        key = item.get("id") if isinstance(item, Mapping) else None
        if not isinstance(key, str):
            return None
        ids.add(key)
    return ids


def _objects(data: object, kind: Kind) -> list[Any]:
    value = data.get(kind) if isinstance(data, Mapping) else None
    return list(value) if isinstance(value, list | tuple) else []


def _in_order(mistakes: list[Mistake]) -> list[Mistake]:
    """Without repetitions, in the order of the objects that they are in."""
    return sorted(dict.fromkeys(mistakes), key=_place)


def _place(mistake: Mistake) -> tuple[int, int]:
    match = _OBJECT.match(mistake.path)
    return (_KIND_ORDER[match["kind"]], int(match["index"])) if match else (-1, 0)
