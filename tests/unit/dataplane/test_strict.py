"""strict: every mistake of a document, each with its path."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, NewType

import msgspec
import pytest

from dataplane import strict

Name = NewType("Name", str)


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record inside lists."""

    name: Name
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    mode: Literal["a", "b"] | None = None


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record with every shape that the model has."""

    leaves: tuple[Leaf, ...] = ()
    extra: Leaf | None = None
    text: str | None = None
    words: dict[str, str] = {}
    named: dict[str, Leaf] = {}
    anything: Any = None
    numbers: list[int] = []


class Loose(msgspec.Struct, frozen=True):
    """A record that keeps quiet about unknown keys."""

    port: int = 0


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record with a rule of its own."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


def reasons(type_: type, data: object, path: str = "") -> list[str]:
    value, mistakes = strict.decode(type_, data, path)
    assert (value is None) == bool(mistakes)
    return [str(mistake) for mistake in mistakes]


def test_right_data_gives_the_record() -> None:
    value, mistakes = strict.decode(Tree, {"leaves": [{"name": "x", "mode": "b"}], "named": {"k": {"name": "y"}}})
    assert mistakes == []
    assert value == Tree(leaves=(Leaf(Name("x"), mode="b"),), named={"k": Leaf(Name("y"))})


def test_every_mistake_is_found_in_the_order_of_the_data() -> None:
    data = {
        "leaves": [{"name": 3}, {"name": "ok"}, {"nmae": "x", "size": 99}],
        "extra": {"name": "x", "mode": "c"},
        "words": {"ok": "yes", "a b": 4},
        "named": {"k": {}},
        "numbers": [1, "two", 3],
        "leafs": [],
    }
    assert reasons(Tree, data) == [
        "leaves[0].name: expected text, got a whole number (put it in quotes)",
        'leaves[2].nmae: unknown key, did you mean "name"?',
        "leaves[2].size: expected `int` <= 9",
        "leaves[2].name: is required",
        "extra.mode: invalid enum value 'c'",
        "words['a b']: expected text, got a whole number (put it in quotes)",
        "named.k.name: is required",
        "numbers[1]: expected a whole number, got text",
        'leafs: unknown key, did you mean "leaves"?',
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], ["expected a mapping, got a list"]),
        (None, ["expected a mapping, got null"]),
        ("text", ["expected a mapping, got text"]),
        ({"leaves": None}, ["leaves: expected a list, got null"]),
        ({"leaves": {"name": "x"}}, ["leaves: expected a list, got a mapping"]),
        ({"leaves": [None]}, ["leaves[0]: expected a mapping, got null"]),
        ({"text": True}, ["text: expected text or null, got true or false (put it in quotes)"]),
        ({"zzz": 1}, ["zzz: unknown key"]),
        ({7: 1}, ["[7]: unknown key"]),
    ],
)
def test_shapes(data: object, expected: list[str]) -> None:
    assert reasons(Tree, data) == expected


def test_a_date_of_yaml_is_explained() -> None:
    [reason] = reasons(Tree, {"text": datetime.date(2024, 1, 1)})
    assert reason.startswith("text: expected text or null, got ")
    assert reason.endswith("(put it in quotes)")


def test_path_prefix() -> None:
    assert reasons(Leaf, {}, "ports[3]") == ["ports[3].name: is required"]
    assert reasons(Leaf, 5, "ports[3]") == ["ports[3]: expected a mapping, got a whole number"]


def test_a_rule_of_the_record_itself() -> None:
    assert reasons(Checked, {"low": 2, "high": 1}, "pool") == ["pool: low is above high"]


def test_unknown_keys_are_ignored_where_the_record_allows_them() -> None:
    assert reasons(Loose, {"port": 1, "more": 2}) == []
    assert reasons(Loose, {"port": "x", "more": 2}) == ["port: expected a whole number, got text"]
