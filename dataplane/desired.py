"""What should be: the in-memory model behind every source and the node, with transactions that can be undone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from dataplane.errors import DocumentError, Mistake
from dataplane.indexes import Indexes, kind_of
from dataplane.model import KINDS, Change, DesiredState, Kind, Object
from dataplane.relations import Transaction
from dataplane.status import Counts

_NOTHING = DesiredState()


class Desired(Indexes):
    """Networks, ports and instances with their indexes (see `Indexes`); changed only by `apply`."""

    @classmethod
    def of(cls, state: DesiredState) -> Desired:
        """The model of a state that is known to be right (from a store or another source)."""
        desired = cls()
        for _, item in numbered(state):
            desired.add(item)
        return desired

    def stage(
        self,
        puts: DesiredState = _NOTHING,
        deletes: Sequence[tuple[Kind, str]] = (),
        *,
        prune: bool = False,
        missing_ok: bool = False,
    ) -> Change:
        """Check a transaction against this state and reduce it to what differs; nothing is changed yet.

        `puts` replace or create whole objects, `deletes` remove them, `prune` removes everything that is not in
        `puts`. `missing_ok`: deleting what does not exist is no mistake. The result has position 0.

        Raises DocumentError with every mistake: dangling references, duplicates, addresses outside of their subnet,
        deletes of objects that are still used. Values inside the objects must have come through `documents.decode`.
        """
        gone = dict.fromkeys(deletes)
        mistakes = [
            Mistake(f"{kind}/{key}", "does not exist")
            for kind, key in gone
            if not missing_ok and self.get(kind, key) is None
        ]
        items = list(numbered(puts))
        if prune:
            kept = {(kind_of(item), item.id) for _, item in items}
            gone |= dict.fromkeys(
                (kind, key) for kind in KINDS for key in self.of_kind(kind) if (kind, key) not in kept
            )
        mistakes += Transaction(self, items, gone).check().mistakes
        if mistakes:
            raise DocumentError(mistakes)
        return Change(
            position=0,
            puts=tuple([item for _, item in items if self.get(kind_of(item), item.id) != item]),
            deletes=tuple([(kind, key) for kind, key in gone if self.get(kind, key) is not None]),
        )

    def difference(self, state: DesiredState) -> Change:
        """What makes this state that one, which is known to be right (of a source); the result has position 0."""
        items = [item for _, item in numbered(state)]
        kept = {(kind_of(item), item.id) for item in items}
        return Change(
            position=0,
            puts=tuple([item for item in items if self.get(kind_of(item), item.id) != item]),
            deletes=tuple([(kind, key) for kind in KINDS for key in self.of_kind(kind) if (kind, key) not in kept]),
        )

    def apply(self, change: Change) -> Change:
        """Carry out a staged change; gives the change that undoes it.

        An id that is both put and deleted ends up put. A delete of an unknown id does nothing.
        """
        old: dict[tuple[Kind, str], Object] = {}
        created: list[tuple[Kind, str]] = []
        for kind, key in change.deletes:
            if (item := self.get(kind, key)) is not None:
                old[kind, key] = item
        for item in change.puts:
            kind = kind_of(item)
            if (before := self.get(kind, item.id)) is not None:
                old[kind, item.id] = before
            else:
                created.append((kind, item.id))
        # All of the old go before any of the new comes, so that two objects can swap an address.
        for item in old.values():
            self.discard(item)
        for item in change.puts:
            self.add(item)
        return Change(position=change.position, puts=tuple(old.values()), deletes=tuple(created))

    def tally(self, change: Change, puts: DesiredState = _NOTHING) -> dict[str, Counts]:
        """How many objects a staged change of the document `puts` touches, by kind; ask before `apply`."""
        counts: dict[str, Counts] = {}
        for kind in KINDS:
            given = len(cast("tuple[Object, ...]", getattr(puts, kind)))
            changed = [item.id for item in change.puts if kind_of(item) == kind]
            updated = sum(key in self.of_kind(kind) for key in changed)
            deleted = sum(of == kind for of, _ in change.deletes)
            counts[kind] = Counts(
                created=len(changed) - updated,
                updated=updated,
                deleted=deleted,
                unchanged=max(0, given - len(changed)),
            )
        return counts


def numbered(state: DesiredState) -> Iterator[tuple[str, Object]]:
    """Every object of a document with the path it was written at."""
    for kind in KINDS:
        objects: Iterable[Object] = getattr(state, kind)
        for index, item in enumerate(objects):
            yield f"{kind}[{index}]", item
