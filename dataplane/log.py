"""Structured logs on standard error: JSON lines or text, stable event names, repeats rate-limited.

Call form, everywhere in the daemon::

    log = logging.getLogger("nodeplane.node")
    log.info("network.ready", extra={"fields": {"network": network.id, "ports": 3}})

The message is the event's name from `dataplane.events`, the rest are fields. Records of libraries become
`python.message` with their text. Only the daemon calls `configure`.
"""

from __future__ import annotations

import datetime
import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import msgspec

from dataplane.config import LogConfig

LIBRARY_EVENT = "python.message"

# Chosen: enough to see a pattern, little enough that a guest in a loop cannot fill a disk.
BURST = 20
WINDOW_SECONDS = 10.0
BOUNDED = frozenset(("metadata.request",))
"""Events that are bounded where they are made, and say themselves how many were left out."""
KINDS = 4096
"""Kinds of record that are counted apart; the one not seen for longest is forgotten first."""
TEXT_LIMIT = 2048
"""Characters of one field; the rest is cut."""

# C0, DEL, C1, line and paragraph separators, and the marks that turn the writing direction: all of them let a guest
# forge log lines or hide text on a terminal.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_PLAIN = re.compile(r"[^\s\"=]+")


def clean(text: str) -> str:
    """Text without control characters and lone surrogates, at most TEXT_LIMIT characters."""
    safe = _CONTROL.sub("", text[:TEXT_LIMIT])
    return safe if safe.isascii() else safe.encode("utf-8", "replace").decode()


def configure(config: LogConfig, stream: TextIO | None = None) -> RateLimit:
    """Send all records to `stream` (standard error) in the configured form; a later call replaces the earlier.

    Returns the rate limit, whose `suppressed_total` is a metric.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    limit = RateLimit()
    handler.addFilter(limit)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("nodeplane", "metadata"):
        logging.getLogger(name).setLevel(config.level.upper())
    logging.getLogger("metadata.access").setLevel(logging.DEBUG if config.access else logging.NOTSET)
    logging.raiseExceptions = False  # a broken log pipe must not put tracebacks on standard error
    return limit


class RateLimit(logging.Filter):
    """Lets BURST records per WINDOW_SECONDS pass of each kind: same event, same network.

    The next record of that kind that passes carries `suppressed`, the number held back before it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.suppressed_total = 0
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, object], _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.msg in BOUNDED:
            return True
        fields = _fields(record)
        key = (record.name + str(record.msg), fields.get("network"))
        now = self._clock()
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(now)
            if len(self._kinds) > KINDS:
                self._kinds.popitem(last=False)
        else:
            self._kinds.move_to_end(key)
        if now - kind.since >= WINDOW_SECONDS:
            kind.since, kind.passed = now, 0
        if kind.passed >= BURST:
            kind.suppressed += 1
            self.suppressed_total += 1
            return False
        kind.passed += 1
        if kind.suppressed:
            record.suppressed, kind.suppressed = kind.suppressed, 0
        return True


class _Kind:
    __slots__ = ("passed", "since", "suppressed")

    def __init__(self, since: float) -> None:
        self.since = since
        self.passed = 0
        self.suppressed = 0


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, event, logger, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        event, fields = _event(self, record)
        head = {"time": _time(record), "level": record.levelname.lower(), "event": event, "logger": record.name}
        return msgspec.json.encode({**head, **{k: v for k, v in fields.items() if k not in head}}).decode()


class TextFormatter(logging.Formatter):
    """One line for people: `2026-11-22T13:00:00.123Z info network.ready network=blue ports=2`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end; a traceback follows on lines of its own."""
        event, fields = _event(self, record)
        traceback = fields.pop("traceback", "")
        words = [_time(record), f"{record.levelname.lower():<7}", event]
        words += [f"{name}={_word(value)}" for name, value in fields.items()]
        line = " ".join(words)
        return f"{line}\n{traceback}" if traceback else line


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


def _event(formatter: logging.Formatter, record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The event's name and its fields, all of them safe to print and to encode."""
    fields = {clean(str(name)): _safe(value) for name, value in _fields(record).items()}
    event = str(record.msg)
    if not record.name.startswith(("nodeplane", "metadata")):
        event = LIBRARY_EVENT
        try:
            fields["text"] = clean(record.getMessage())
        except Exception:  # a library's format string that does not fit its arguments
            fields["text"] = clean(str(record.msg))
    if suppressed := getattr(record, "suppressed", 0):
        fields["suppressed"] = suppressed
    if record.exc_info and record.exc_info[0] is not None:
        lines = formatter.formatException(record.exc_info).splitlines()
        fields["traceback"] = "\n".join(_CONTROL.sub("", line) for line in lines)
    return event, fields


def _safe(value: object) -> Any:
    """A value reduced to what JSON has, strings cleaned."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return clean(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value[: TEXT_LIMIT // 2]).hex()
        case Mapping():
            return {clean(str(name)): _safe(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_safe(item) for item in value]
        case _:
            return clean(str(value))


def _word(value: object) -> str:
    """A value as text form shows it: bare when that is unambiguous, else as JSON."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else msgspec.json.encode(value).decode()
    return msgspec.json.encode(value).decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
