"""The tables of `policy` as rule sets of the packet engine, kept by what changes tell."""

from __future__ import annotations

from array import array
from typing import Final

from dataplane.policy import Deltas
from dataplane.policy_tables import Action, Line
from fastpath.classify import RuleSet, lookup_keys
from fastpath.connections import UNTRACKED
from fastpath.rules import Header, key

_PERMITS: Final = {Action.DROP: 0, Action.REJECT: 0, Action.ALLOW: UNTRACKED, Action.TRACK: 1}
_FIRST: Final = 64
"""Rules that there is room for at first."""
_POLICY: Final = 0xFFFFFFFF
"""A policy version of `fastpath.conntrack`."""


class LoadedTable:
    """A rule set, and what each of its rules says."""

    def __init__(self) -> None:
        self.rules = RuleSet()
        self.actions = array("B", bytes(_FIRST))
        """By the ids of `rules`; those of ids that are not in use mean nothing."""
        self.allowed = array("B", bytes(_FIRST))
        """Whether that lets a packet pass, as `fastpath.verdicts.permit` takes it."""
        self._ids: dict[Line, int] = {}

    def update(self, add: tuple[Line, ...], remove: tuple[Line, ...]) -> None:
        """Carry out what a change does to the table, in one transaction of the rule set. Raises MemoryError."""
        if not add and not remove:
            return
        added = self.rules.update(add=[line.rule for line in add], remove=[self._ids[line] for line in remove])
        for line in remove:
            del self._ids[line]
        for line, number in zip(add, added, strict=True):
            self._ids[line] = number
            if number >= len(self.actions):
                # New ones: nobody can move memory that a worker reads. There, a rule that is not known is denied.
                more = bytes(max(len(self.actions), number + 1 - len(self.actions)))
                self.actions, self.allowed = self.actions + array("B", more), self.allowed + array("B", more)
            self.actions[number] = line.action
            self.allowed[number] = _PERMITS[line.action]

    def find(self, header: Header) -> Action | None:
        """What the rule set says of one packet: for tests and people, not for traffic."""
        out = array("i", [-1])
        lookup_keys(self.rules, key(header), out, header.version)
        return None if out[0] < 0 else Action(self.actions[out[0]])


class RuleSets:
    """One rule set for each table, by the table's name.

    A change is one transaction in each rule set, and the rule sets change one after another; ids are given again, so
    that `LoadedTable.actions` changes a moment later still. Whoever looks packets up beside changes takes `version`
    first, and believes what was found, in whichever tables, if `begun` is the same afterwards; else he asks again.

    `version` is also what connection tracking takes as `policy`: connections that were let through under another one
    are asked about anew.
    """

    def __init__(self) -> None:
        self.tables: dict[str, LoadedTable] = {name: LoadedTable() for name in Deltas._fields}
        self.changes = array("Q", [0, 0])
        """Begun and carried out, for workers that read memory."""

    @property
    def begun(self) -> int:
        """How many changes were begun, modulo 2^32."""
        return self.changes[0] & _POLICY

    @property
    def version(self) -> int:
        """How many changes were carried out in all tables, modulo 2^32."""
        return self.changes[1] & _POLICY

    def update(self, deltas: Deltas) -> None:
        """Carry out a change. The first one must be of `Policies.refresh_all`.

        Raises MemoryError; then `version` stays behind `begun`, and the tables are of no use any more.
        """
        if not deltas.updates:
            return
        self.changes[0] += 1
        for name, delta in deltas._asdict().items():
            self.tables[name].update(delta.add, delta.remove)
        self.changes[1] += 1
