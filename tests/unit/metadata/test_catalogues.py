"""Catalogues and settings."""

from __future__ import annotations

import ast
import inspect
import logging
import re
from pathlib import Path

import pytest

import metadata
from metadata import events
from metadata.counters import DROP_REASONS, Counters
from metadata.settings import Settings

SOURCES = [path.read_text() for path in Path(inspect.getfile(metadata)).parent.glob("*.py")]


def test_every_event_is_used_and_catalogued() -> None:
    used = {name for text in SOURCES for name in re.findall(r'(?:note|emit|error)\(\s*"([a-z_.]+)"', text)}
    assert set(events.EVENTS) == used


def test_every_drop_reason_is_used() -> None:
    strings = {
        node.value
        for text in SOURCES
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(DROP_REASONS) <= strings


def test_emit_writes_at_the_level_of_the_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "metadata"):
        events.emit("metadata.request", status=200)
        events.emit("metadata.refused_caller", address="10.0.0.5")
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "metadata.refused_caller")]
    assert vars(caplog.records[0])["fields"] == {"address": "10.0.0.5"}


def test_counters_add_up() -> None:
    one, two = Counters(), Counters()
    one.request(("ec2", "200"))
    one.lookup_failed("no_port")
    for _ in range(2):
        two.request(("ec2", "200"))
        two.drop("syntax")
    one.add(two)
    assert (one.requests, one.lookups, one.dropped) == ({("ec2", "200"): 3}, {"no_port": 1}, {"syntax": 2})


def test_defaults_leave_the_guests_time() -> None:
    settings = Settings()
    assert settings.hold_seconds + settings.sweep_seconds < 10
    assert settings.header_bytes == 8192
    assert settings.body_bytes == 16384
