"""The catalogue of events: every name that the code logs is in it with its level, and docs/events.md has them all."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import metadata.events
from dataplane.events import EVENTS

ROOT = Path(__file__).resolve().parents[3]
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}


def logged() -> Iterator[tuple[str, str, str]]:
    """Every `log.<level>(event, ...)` of dataplane: file, level, event; the event a literal or a local name of some."""
    for file in sorted((ROOT / "dataplane").rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name | ast.Attribute)
                and "log" in (getattr(node.func.value, "id", ""), getattr(node.func.value, "attr", ""))
                and node.func.attr in LEVELS
            ):
                events = set(literals(node.args[0], tree))
                assert events, f"{file}:{node.lineno}: cannot tell which event it is"
                for event in events:
                    yield file.name, LEVELS[node.func.attr], event


def literals(value: ast.expr, tree: ast.Module) -> Iterator[str]:
    """The event names that an expression can have: literals in it, or in the last assignment to the name it is."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from literals(value.body, tree)
        yield from literals(value.orelse, tree)
    elif isinstance(value, ast.Tuple):  # what a loop over rows takes its names from
        for item in value.elts:
            yield from literals(item, tree)
    elif isinstance(value, ast.Name):
        sources = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.For) and binds(node, value)]
        if sources:
            last = max(sources, key=lambda node: node.lineno)
            yield from literals(last.iter if isinstance(last, ast.For) else last.value, tree)


def binds(node: ast.Assign | ast.For, name: ast.Name) -> bool:
    """Whether a statement above gives the name its value."""
    targets = [node.target] if isinstance(node, ast.For) else node.targets
    stored = {item.id for target in targets for item in ast.walk(target) if isinstance(item, ast.Name)}
    return node.lineno < name.lineno and name.id in stored


@pytest.mark.parametrize(("file", "level", "event"), sorted(set(logged())))
def test_what_is_logged_is_in_the_catalogue(file: str, level: str, event: str) -> None:
    assert event in EVENTS, f"{file} logs {event}"
    assert EVENTS[event].level == level


def test_there_are_logged_events() -> None:
    """Lest a change of form makes the test above test nothing."""
    assert {"control.listening", "daemon.loop_late"} <= {event for _, _, event in logged()}


@pytest.mark.parametrize("event", EVENTS)
def test_names_and_meanings_have_one_form(event: str) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", event)
    assert re.fullmatch(r"[A-Z].*\.", EVENTS[event].meaning)


def test_catalogues_do_not_overlap() -> None:
    assert not EVENTS.keys() & metadata.events.EVENTS.keys()


def test_docs_have_every_event() -> None:
    text = (ROOT / "docs" / "events.md").read_text()
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (\w+) \| (.*) \|$", text, re.MULTILINE)
    expected = [(name, *event) for name, event in EVENTS.items()]
    assert rows == expected + [(name, *event) for name, event in metadata.events.EVENTS.items()]
