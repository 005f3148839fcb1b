"""Log records: both forms, hostile text, and the rate limit."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import pytest

from dataplane import log
from dataplane.config import LogConfig
from metadata import events

HOSTILE = "a\x00b\nc\x1b[31md\x9be\u2028f\u202eg\u2066h\ud800"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is global: put it back."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    for name in ("nodeplane", "metadata", "metadata.access"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def written(form: Literal["text", "json"], level: Literal["debug", "info"] = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure(LogConfig(format=form, level=level), stream)
    return stream


def test_json() -> None:
    stream = written("json")
    logging.getLogger("nodeplane.node").info("network.ready", extra={"fields": {"network": "blue", "ports": 3}})
    row = json.loads(stream.getvalue())
    assert row.pop("time").endswith("Z")
    assert row == {"level": "info", "event": "network.ready", "logger": "nodeplane.node", "network": "blue", "ports": 3}


def test_text() -> None:
    stream = written("text")
    fields = {"network": "blue", "error": "no room", "empty": "", "list": [1, "a"], "no": None, "equals": "a=b"}
    logging.getLogger("nodeplane").warning("network.failed", extra={"fields": fields})
    line = stream.getvalue().rstrip("\n").partition(" ")[2]
    assert line == 'warning network.failed network=blue error="no room" empty="" list=[1,"a"] no=null equals="a=b"'


def test_fields_do_not_replace_what_every_record_has() -> None:
    stream = written("json")
    logging.getLogger("nodeplane").info("network.ready", extra={"fields": {"event": "forged", "level": "x"}})
    row = json.loads(stream.getvalue())
    assert (row["event"], row["level"]) == ("network.ready", "info")


@pytest.mark.parametrize("form", ["json", "text"])
def test_hostile_text_cannot_forge_lines(form: Literal["text", "json"]) -> None:
    stream = written(form)
    logging.getLogger("nodeplane").info(
        "dhcp.bound",
        extra={"fields": {"hostname": HOSTILE, HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}], "raw": b"\x00\xff"}},
    )
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "abc[31mdefgh" in text
    assert "00ff" in text
    assert not set(text.rstrip("\n")) & set("\x00\x1b\x9b\u2028\u202e\u2066")
    text.encode()


def test_long_text_is_cut() -> None:
    assert len(log.clean("x" * 10_000)) == log.TEXT_LIMIT


def test_records_of_libraries_keep_their_text() -> None:
    stream = written("json")
    logging.getLogger("asyncio").error("Task %s failed\n", "x")
    logging.getLogger("asyncio").warning("wrong %d", "text")
    logging.getLogger("asyncio").info("not wanted")
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(row["event"], row["text"]) for row in rows] == [
        ("python.message", "Task x failed"),
        ("python.message", "wrong %d"),
    ]


@pytest.mark.parametrize("form", ["json", "text"])
def test_tracebacks(form: Literal["text", "json"]) -> None:
    stream = written(form)
    try:
        raise ValueError("bad\x1b")
    except ValueError:
        logging.getLogger("nodeplane").exception("control.failed")
    text = stream.getvalue()
    assert "ValueError: bad" in text
    assert "\x1b" not in text
    assert text.count("\n") == (1 if form == "json" else text.count("\n"))


def test_levels() -> None:
    stream = written("text", "debug")
    logging.getLogger("metadata").debug("metadata.request")
    assert "metadata.request" in stream.getvalue()
    stream = written("text")
    logging.getLogger("metadata").debug("metadata.request")
    assert stream.getvalue() == ""


def test_the_access_log_is_a_switch_of_its_own() -> None:
    stream = io.StringIO()
    for access, level, lines in ((True, "error", 1), (False, "error", 0), (True, "info", 2), (False, "debug", 2)):
        log.configure(LogConfig(level=level, access=access), stream)  # type: ignore[arg-type]
        stream.seek(stream.truncate(0))
        events.emit("metadata.request", status=200)
        events.emit("metadata.nova_failed", reason="timeout")
        assert stream.getvalue().count("\n") == lines, (access, level)
        assert ("metadata.request" in stream.getvalue()) == (access or level == "debug")


def test_a_later_configuration_replaces_the_earlier() -> None:
    first, second = written("text"), written("text")
    logging.getLogger("nodeplane").info("network.ready")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def record(event: str = "dhcp.dropped", **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("nodeplane.dhcp", logging.INFO, __file__, 1, event, None, None)
    made.fields = fields
    return made


def test_repeats_are_held_back_and_counted() -> None:
    now = [0.0]
    limit = log.RateLimit(lambda: now[0])
    passed = [limit.filter(record(network="blue")) for _ in range(log.BURST + 412)]
    assert sum(passed) == log.BURST
    assert limit.suppressed_total == 412
    assert limit.filter(record(network="green")), "one network must not silence another"
    assert limit.filter(record("dhcp.bound", network="blue"))
    now[0] = log.WINDOW_SECONDS
    after = record(network="blue")
    assert limit.filter(after)
    assert json.loads(log.JsonFormatter().format(after))["suppressed"] == 412
    again = record(network="blue")
    assert limit.filter(again)
    assert "suppressed" not in log.JsonFormatter().format(again)


def test_the_memory_of_the_rate_limit_is_bounded() -> None:
    limit = log.RateLimit(lambda: 0.0)
    for number in range(log.KINDS + 100):
        limit.filter(record(network=f"n{number}"))
    assert len(limit._kinds) == log.KINDS


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(LogConfig(), sys.stderr)
    logging.getLogger("nodeplane").info("daemon.ready")
    assert "daemon.ready" in capsys.readouterr().err


def test_events_that_are_bounded_where_they_are_made_all_pass() -> None:
    limit = log.RateLimit(lambda: 0.0)
    record = logging.LogRecord("metadata", logging.DEBUG, "", 0, "metadata.request", (), None)
    assert all(limit.filter(record) for _ in range(10 * log.BURST))
    assert limit.suppressed_total == 0
