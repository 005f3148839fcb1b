"""The documentation against the code: links, commands, names and lists in it are those that exist.

docs/config.md, docs/events.md and docs/metrics.md have tests of their own, beside those of their subjects.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import click
import msgspec
import pytest

import bench.cli
import dataplane.events
import metadata.events
from dataplane import cli, config, model
from dataplane.dhcp.counters import DROP_REASONS as DHCP_REASONS
from dataplane.metrics_catalogue import FAMILIES
from metadata.counters import DROP_REASONS as METADATA_REASONS
from metadata.identity import REASONS as LOOKUP_REASONS

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def codes(page: Path) -> list[str]:
    """What stands in backticks in running text and tables."""
    return CODE.findall(prose(page))


# --- links ------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    found = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.finditer(prose(page)):
        path, _, anchor = link["target"].partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link[0]
        assert target.is_relative_to(ROOT), link[0]
        assert not anchor or anchor in anchors(target), link[0]


# --- commands ---------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """One `nodeplane ...` or `python -m bench ...` on a page."""

    page: str
    program: click.Command
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def command(page: Path, line: list[str]) -> Iterator[Command]:
    """The command of ours that a simple command of the shell is, if it is one."""
    match [Path(line[0]).name, *line[1:]]:
        case ["nodeplane", *words]:
            yield Command(name(page), cli.main, tuple(words))
        case ["python", "-m", "bench", *words]:
            yield Command(name(page), bench.cli.bench, tuple(words))


def commands() -> Iterator[Command]:
    for page in PAGES:
        shell = [fence["body"] for fence in FENCE.finditer(page.read_text()) if fence["language"] in ("sh", "console")]
        lines = [line for body in shell for line in body.replace("\\\n", " ").splitlines()]
        for line in lines + [code for code in codes(page) if not re.fullmatch(r"nodeplane \w+", code)]:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.wordchars += "@%:+,{}…"
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("();<>|&"):
                    yield from command(page, words or [""])
                    words = []
                elif words or (word != "sudo" and not re.match(r"\w+=", word)):
                    words.append(word)


COMMANDS = [found for found in commands() if found.words]


def test_there_are_commands() -> None:
    """Lest a change of form makes the next test test nothing."""
    seen = {found.words[0] for found in COMMANDS}
    assert seen >= {*cli.main.commands, *bench.cli.bench.commands}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_verbs_exist(page: Path) -> None:
    """A verb alone, such as `nodeplane apply` in running text, names it and is not a command line."""
    for code in codes(page):
        if verb := re.fullmatch(r"nodeplane (\w+)", code):
            assert verb[1] in cli.main.commands, code


@pytest.mark.parametrize("found", COMMANDS, ids=str)
def test_commands_parse(found: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for word in found.words:
        if word.endswith(".json"):
            Path(word).touch()  # the result of an earlier command
    group = found.program
    context, words = None, list(found.words)
    while isinstance(group, click.Group):
        context = group.make_context(group.name, words, parent=context, allow_extra_args=True)
        _, verb, words = group.resolve_command(context, [*context._protected_args, *context.args])
        assert verb is not None
        group = verb
    assert context is not None
    group.make_context(group.name, words, parent=context)


# --- lists ------------------------------------------------------------------------------------------------------

STRUCTS = [
    value
    for value in vars(model).values()
    if isinstance(value, type) and issubclass(value, model.Record) and value is not model.Record
]
SIMPLE = {
    str: "text", int: "whole number", bool: "true or false", Any: "any JSON",
    model.Ip: "address", model.Mac: "MAC",
    model.NetworkId: "id", model.SubnetId: "id", model.PortId: "id", model.InstanceId: "id",
    model.SecurityGroupId: "id", model.AddressGroupId: "id", model.FirewallPolicyId: "id",
}  # fmt: skip


def words(type_: Any) -> str:
    """A field's type as docs/documents.md writes it."""
    if type_ in SIMPLE:
        return SIMPLE[type_]
    if isinstance(type_, type) and issubclass(type_, model.Record):
        return f"[{type_.__name__}](#{type_.__name__.lower()})"
    inner = get_args(type_)
    match get_origin(type_):
        case origin if origin is Literal:
            return ", ".join(f"`{value}`" for value in inner)
        case origin if origin is tuple:
            return f"list of {words(inner[0])}"
        case origin if origin is dict:
            return "mapping" if inner[1] is Any else f"mapping of {words(inner[0])} to {words(inner[1])}"
        case origin if origin in (Union, types.UnionType):
            [only] = [member for member in inner if member is not type(None)]
            return words(only)
    raise AssertionError(f"no words for {type_}")


def default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{json.dumps(field.default_factory())}`"
    return "*required*" if field.default is msgspec.NODEFAULT else f"`{json.dumps(field.default)}`"


@cache
def sections(page: Path) -> dict[str, list[list[str]]]:
    """The tables of a page by the heading above them: rows of cells, without the head."""
    found: dict[str, list[list[str]]] = {}
    for part in re.split(r"^#+ +", page.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        rows = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")]
        found[heading.strip()] = [[cell.strip() for cell in row] for row in rows[2:]]
    return found


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_document_fields(struct: type[model.Record]) -> None:
    """docs/documents.md has every field of the model, in its order, with its type and default, and no other."""
    hints = get_type_hints(struct)
    expected = [[f"`{f.name}`", words(hints[f.name]), default(f)] for f in msgspec.structs.fields(struct)]
    assert [row[:3] for row in sections(ROOT / "docs" / "documents.md")[struct.__name__]] == expected


def test_document_example_is_right() -> None:
    from dataplane import cli_input, documents

    [example] = [f["body"] for f in FENCE.finditer((ROOT / "docs/documents.md").read_text()) if f["language"] == "yaml"]
    assert documents.decode(cli_input.parse(example)).instances[0].hostname == "web"


def test_configuration_example_is_right() -> None:
    [example] = re.findall(r"<<'TOML'\n(.*?)^TOML$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE | re.DOTALL)
    assert config.loads(example).node.name == "compute-1"


def test_decisions_are_indexed() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [link["target"] for link in LINK.finditer((folder / "README.md").read_text())] == records
    for record in records:
        first, _, rest = (folder / record).read_text().partition("\n")
        assert re.match(rf"# {record[:4]}: ", first), record
        assert re.search(r"^\d{4}-\d{2}-\d{2}\b", rest.strip()), record


# --- names ------------------------------------------------------------------------------------------------------

EVENTS = dataplane.events.EVENTS.keys() | metadata.events.EVENTS.keys()
KEYS = {key.path for key in config.KEYS}
SUFFIXES = {"db", "json", "md", "py", "service", "toml", "yaml"}
LABELS = {family.name: family.labels for family in FAMILIES}
REASONS = {
    "nodeplane_dhcp_dropped_total": DHCP_REASONS.keys(),
    "nodeplane_metadata_dropped_total": METADATA_REASONS.keys(),
    "nodeplane_metadata_lookup_failures_total": LOOKUP_REASONS.keys(),
}
DOTTED = re.compile(r"[a-z]+\.(?P<last>[a-z_]+)")
METRIC = re.compile(r'(?P<name>nodeplane_\w+?)(?:_bucket|_count|_sum)?(?:\{(?P<label>\w+)="(?P<value>\w+)"\})?')


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_events_keys_and_metrics_exist(page: Path) -> None:
    for code in codes(page):
        if (dotted := DOTTED.fullmatch(code)) and dotted["last"] not in SUFFIXES:
            module = (ROOT / code.replace(".", "/")).with_suffix(".py")
            assert code in EVENTS | KEYS or module.is_file(), f"{code} is no event, no key and no module"
        elif metric := METRIC.fullmatch(code):
            assert metric["name"] in LABELS, code
            assert metric["label"] in (None, "network", *LABELS[metric["name"]]), code
            if metric["label"] == "reason":
                assert metric["value"] in REASONS[metric["name"]], code


def test_reasons_in_troubleshooting_exist() -> None:
    every = set().union(*REASONS.values())
    for row in sections(ROOT / "docs" / "operating.md")["Troubleshooting by symptom"]:
        for reason in re.findall(r"`(\w+)`:", row[-1]):
            assert reason in every, reason


@cache
def functions(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_and_tests_exist(page: Path) -> None:
    """Paths of the project and tests (`tests/x.py::test_y`) that a page names are there."""
    for code in codes(page):
        path, _, test = code.partition("::")
        if re.fullmatch(r"(\.ci|bench|dataplane|docs|examples|fastpath|metadata|scripts|tests)/[\w./-]*", path):
            assert (ROOT / path).exists(), code
            assert not test or test in functions(ROOT / path), code


def test_every_threat_names_a_test() -> None:
    for row in sections(ROOT / "docs" / "threat-model.md")["Threats and what stands against them"]:
        assert "::test_" in row[-1], row


def test_examples_are_tested() -> None:
    """Every file in examples/ is named by some test other than this one."""
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve()]
    for example in filter(Path.is_file, (ROOT / "examples").rglob("*")):
        assert any(example.name in text for text in texts), f"no test uses {example.name}"
