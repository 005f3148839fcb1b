"""The configuration files of OpenStack's services, as oslo.config reads them: several in order, the last word counts.

No interpolation of Python's kind: `$name` and `${name}` stand for another option, `$$` for a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from dataplane.errors import ConfigError, Mistake

DEFAULT = "DEFAULT"

_REFERENCE = re.compile(r"\$(?:\$|(?P<bare>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})")
_DEPTH = 8
"""References to references: oslo.config would go on until Python stops it."""


class Option(msgspec.Struct, frozen=True):
    """One option as it stands in a file."""

    group: str
    """`DEFAULT`, or the section's name in lower case."""
    name: str
    text: str
    """The value; the lines of one that goes on are joined by a newline."""
    file: str
    line: int

    @property
    def where(self) -> str:
        """`file:line: [group] name`; never the value, which may be a secret."""
        return f"{self.file}:{self.line}: [{self.group}] {self.name}"


Options = Mapping[tuple[str, str], Option]
"""By group and name."""


def merge(files: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Option]:
    """The options of several files (name, text), later ones over earlier ones.

    Raises ConfigError with every line that oslo.config would refuse.
    """
    found: dict[tuple[str, str], Option] = {}
    mistakes: list[Mistake] = []
    for file, text in files:
        for item in _parse(file, text):
            if isinstance(item, Mistake):
                mistakes.append(item)
            else:
                found.pop((item.group, item.name), None)  # named in the order of the lines that count
                found[item.group, item.name] = item
    if mistakes:
        raise ConfigError(mistakes)
    return found


def value(options: Options, group: str, name: str, default: str = "", known: Mapping[str, str] | None = None) -> str:
    """The text of an option with its references resolved: in its own group, then in DEFAULT, then in `known`.

    A reference that nothing resolves stays as it is written.
    """
    option = options.get((group, name))
    return _resolve(default if option is None else option.text, group, options, known or {}, _DEPTH)


def _resolve(text: str, group: str, options: Options, known: Mapping[str, str], depth: int) -> str:
    def replace(found: re.Match[str]) -> str:
        name = found["bare"] or found["braced"]
        if name is None:
            return "$"
        option = options.get((group, name)) or options.get((DEFAULT, name))
        if depth == 0 or (option is None and name not in known):
            return found[0]
        return _resolve(known[name] if option is None else option.text, group, options, known, depth - 1)

    return _REFERENCE.sub(replace, text)


def _parse(file: str, text: str) -> Iterable[Option | Mistake]:
    group = ""
    name, lines, began = "", list[str](), 0

    def finished() -> Iterable[Option]:
        nonlocal name
        if name:
            yield Option(group, name, "\n".join(lines), file, began)
        name = ""

    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip()
        if line.startswith((" ", "\t")):
            if name:
                lines.append(line.lstrip())
            else:
                yield Mistake(f"{file}:{number}", "goes on with a value, and there is none before it")
            continue
        yield from finished()
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            if not line.endswith("]") or not line[1:-1]:
                yield Mistake(f"{file}:{number}", "is not a section's name in brackets")
                continue
            group = DEFAULT if line[1:-1].upper() == DEFAULT else line[1:-1].lower()
            continue
        at = min((place for place in (line.find("="), line.find(":")) if place >= 0), default=-1)
        if at < 0 or not line[:at].strip():
            yield Mistake(f"{file}:{number}", "is neither a section nor an option with a value")
            continue
        if not group:
            yield Mistake(f"{file}:{number}", "is an option before the first section")
            continue
        name, lines, began = line[:at].strip().replace("-", "_"), [_unquoted(line[at + 1 :].strip())], number
    yield from finished()


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
