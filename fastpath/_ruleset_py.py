"""A set of classification rules in plain Python: specification and oracle of `_ruleset_c`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Final

from fastpath.rules import Rule, RuleError, pack, unpack

MOST_RULES: Final = 1 << 20


class RuleSet:
    """Rules that packets are looked up in, and that can be changed meanwhile.

    A rule is known by the id that adding it gave; ids of removed rules are used again, the last one first. `update` is
    one transaction: each lookup sees the rules of one version, whole, of those that were alive while it ran. Lookups
    of other threads never wait for a change, nor changes for lookups; changes wait for each other. At most 64 threads
    look up at once: the next one gets a RuntimeError.

    After many changes (256, and a quarter of the rules) a thread of low priority compacts the set, unless `background`
    is False, and then leaves it alone for 20 times as long as that took of a processor.

    Raises RuleError for bytes that are no rules, for more than 1,048,576 of them, and where those of one IP version
    are more (a zone without a direction counts twice).
    """

    def __init__(self, rules: Iterable[Rule] | bytes = (), *, background: bool = True) -> None:
        self._rules: dict[int, Rule] = {}
        self._free: list[int] = []
        self._changes = 0
        self.update(add=rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __contains__(self, id: object) -> bool:
        return id in self._rules

    @property
    def version(self) -> int:
        """The number of transactions until now."""
        return self._changes

    def add(self, rule: Rule) -> int:
        """Add one rule and return its id."""
        return self.update(add=(rule,))[0]

    def remove(self, id: int) -> None:
        """Remove one rule. Raises KeyError if there is none."""
        self.update(remove=(id,))

    def replace(self, id: int, rule: Rule) -> None:
        """Put another rule in the place of one: it keeps the id, and the place among those of equal priority."""
        self.update(replace={id: rule})

    def update(
        self,
        add: Iterable[Rule] | bytes = (),
        remove: Iterable[int] = (),
        replace: Mapping[int, Rule] | None = None,
    ) -> array[int]:
        """Remove, replace and add rules in one transaction, and return the ids of the added ones (uint32), in order.

        `add` takes rules or what `fastpath.rules.pack` makes of them. Raises KeyError for an id that is not there or
        named twice, RuleError for what is no rule, MemoryError; nothing has changed then.
        """
        rules = unpack(bytes(add)) if isinstance(add, (bytes, bytearray, memoryview)) else unpack(pack(add))
        gone, changed = list(remove), dict(replace or {})
        named = [*gone, *changed]
        for id in named:
            if id not in self._rules or named.count(id) > 1:
                raise KeyError(id)
        if len(self._rules) + len(rules) > MOST_RULES:
            raise RuleError("add", f"a rule set holds {MOST_RULES} rules")
        for id in gone:
            del self._rules[id]
        self._rules.update(changed)
        self._free += gone
        ids = array("I")
        for rule in rules:
            id = self._free.pop() if self._free else len(self._rules)
            self._rules[id] = rule
            ids.append(id)
        if named or rules:
            self._changes += 1
        return ids

    def compact(self) -> None:
        """Build everything anew, as if the rules were added to an empty set: lookups are quickest after it.

        Lookups and changes go on meanwhile; while it lasts, rules are kept twice. Raises MemoryError; the set is then
        as it was.
        """

    def copy(self) -> RuleSet:
        """Return a set of its own with the same rules, ids and version: for a dry run of changes, or a way back.

        It is built anew, as by `compact`. Raises MemoryError.
        """
        other = RuleSet()
        other._rules, other._free, other._changes = dict(self._rules), list(self._free), self._changes
        return other

    def rule(self, id: int) -> Rule:
        """Return a rule. Raises KeyError if there is none."""
        return self._rules[id]

    def rules(self) -> dict[int, Rule]:
        """Return all rules by id, in order of insertion."""
        return dict(self._rules)

    def stats(self) -> dict[str, dict[str, object]]:
        """Return what lookups run through, by IP version: for people, not for programs.

        - entries: rules, or parts of one (a zone without a direction has two)
        - tables, masks: hash tables; (source length, destination length, exact fields) of each
        - broad: places for rules in bit rows; vacant: those of them that rules have left, which may return to them;
          waiting: rules that wait for the next build of the rows
        - tail: places in further blocks of bit rows, for rules that neither take
        - linear: rules that every packet is compared with
        - since_build: rules added, removed and replaced since everything was built, of both versions together, but for
          those that returned
        - lookup_bytes, rule_bytes: memory of what is looked up in, and of the rules themselves
        """
        rules = self._rules.values()
        return {
            f"ipv{version}": {
                "entries": sum(version in rule.versions for rule in rules), "tables": 0, "masks": [], "broad": 0,
                "vacant": 0, "waiting": 0, "tail": 0, "linear": sum(version in rule.versions for rule in rules),
                "since_build": 0, "lookup_bytes": 0, "rule_bytes": 0,
            }
            for version in (4, 6)
        }  # fmt: skip
