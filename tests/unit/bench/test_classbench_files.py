"""Rule files and traces in ClassBench's form: what is read, and what is said of the rest."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from bench.classify.files import (
    NONE,
    FileError,
    Trace,
    headers,
    key,
    read_rules,
    read_trace,
    write_rules,
    write_trace,
)
from bench.rulegen import generate
from fastpath.rules import Header, Rule
from fastpath.rules import key as definition

LINES = (
    "@1.2.3.4/32\t10.0.0.0/8\t0 : 65535\t80 : 80\t0x06/0xFF\t0x1000/0x1000",
    "@0.0.0.0/0 10.1.2.3/16 1024 : 65535 0:1023 0x00/0x00",
)


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_first_line_wins(tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path / "a.rules", LINES[0], "", LINES[1]))
    assert (len(rules), rules.version, rules.flags, rules.name) == (2, 4, 1, "a.rules")
    assert rules.rules() == [
        Rule(priority=1, source=IPv4Network("1.2.3.4"), destination=IPv4Network("10.0.0.0/8"), protocol=6,
             destination_ports=(80, 80)),
        Rule(destination=IPv4Network("10.1.0.0/16"), source_ports=(1024, 65535), destination_ports=(0, 1023)),
    ]  # fmt: skip


def test_ipv6_is_textual(tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path / "a", "@2001:db8::/32 ::/0 0 : 65535 53 : 53 0x11/0xFF"))
    assert rules.rules() == [
        Rule(source=IPv6Network("2001:db8::/32"), version=6, protocol=17, destination_ports=(53, 53))
    ]
    trace = read_trace(written(tmp_path / "t", "2001:db8::1\t::2\t1\t53\t17\t1"), 6)
    assert list(headers(trace)) == [(0x20010DB8 << 96 | 1, 2, 1, 53, 17)]
    assert trace.expected == (0,)


def test_keys_are_those_of_the_definition() -> None:
    assert key(4, (1, 2, 3, 4, 6)) == definition(Header(4, 1, 2, 6, 3, 4))
    assert key(6, (1 << 100, 2, 3, 4, 6)) == definition(Header(6, 1 << 100, 2, 6, 3, 4))


def test_a_trace_is_decimal_and_may_name_rules(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t", "16909060\t1\t2\t3\t6\t2", "1 1 2 3 255 0"), 4, rules=2)
    assert list(headers(trace)) == [(0x01020304, 1, 2, 3, 6), (1, 1, 2, 3, 255)]
    assert trace.expected == (1, NONE)
    assert read_trace(written(tmp_path / "u", "1 1 2 3 6"), 4).expected is None


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("10.0.0.0/8 10.0.0.0/8 0 : 1 0 : 1 0x06/0xFF", "source"),
        ("@10.0.0.0/33 10.0.0.0/8 0 : 1 0 : 1 0x06/0xFF", "source"),
        ("@10.0.0.256/8 10.0.0.0/8 0 : 1 0 : 1 0x06/0xFF", "source"),
        ("@10.0.0.0/8 10.0.0/8 0 : 1 0 : 1 0x06/0xFF", "destination"),
        ("@10.0.0.0/8 10.0.0.0 0 : 1 0 : 1 0x06/0xFF", "destination"),
        ("@10.0.0.0/8 2001::/8 0 : 1 0 : 1 0x06/0xFF", "destination"),
        ("@2001:::/8 2001::/8 0 : 1 0 : 1 0x06/0xFF", "source"),
        ("@10.0.0.0/8 10.0.0.0/8 0 - 1 0 : 1 0x06/0xFF", "source ports"),
        ("@10.0.0.0/8 10.0.0.0/8 2 : 1 0 : 1 0x06/0xFF", "source ports"),
        ("@10.0.0.0/8 10.0.0.0/8 0 : 1 0 : 65536 0x06/0xFF", "destination ports"),
        ("@10.0.0.0/8 10.0.0.0/8 0 : 1 0 : 1 0x06/0x0F", "protocol"),
        ("@10.0.0.0/8 10.0.0.0/8 0 : 1 0 : 1 6/0xFF", "protocol"),
        ("@10.0.0.0/8 10.0.0.0/8 0 : 1 0 : 1 0x106/0xFF", "protocol"),
        ("@10.0.0.0/8 10.0.0.0/8 0 : 1 0 : 1 0x06/0xFF 2/2", "flags"),
    ],
)
def test_a_wrong_rule_is_named_by_line_and_field(tmp_path: Path, line: str, field: str) -> None:
    path = written(tmp_path / "a", LINES[0], line)
    with pytest.raises(FileError) as caught:
        read_rules(path)
    assert (caught.value.line, caught.value.field) == (2, field)
    assert str(caught.value).startswith(f"{path}:2: {field}: ")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("1 1 1 1", "columns"),
        ("1 1 1 1 6", "columns"),
        ("1 1 1 1 6 1 1", "columns"),
        ("1.2.3.4 1 1 1 6 1", "source"),
        ("1 4294967296 1 1 6 1", "destination"),
        ("1 1 65536 1 6 1", "source port"),
        ("1 1 1 -1 6 1", "destination port"),
        ("1 1 1 1 256 1", "protocol"),
        ("1 1 1 1 6 3", "expected rule"),
    ],
)
def test_a_wrong_header_is_named_by_line_and_field(tmp_path: Path, line: str, field: str) -> None:
    path = written(tmp_path / "t", "1 1 1 1 6 0", line)
    with pytest.raises(FileError, match=f":2: {field}: "):
        read_trace(path, 4, rules=2)


def test_other_versions_empty_files_and_other_bytes(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=":2: source: a file is of one IP version"):
        read_rules(written(tmp_path / "a", LINES[0], "@::/0 ::/0 0 : 1 0 : 1 0x06/0xFF"))
    with pytest.raises(FileError, match="source: '1' is no IPv6 address"):
        read_trace(written(tmp_path / "t", "1 1 1 1 6"), 6)
    empty = written(tmp_path / "e", "")
    for read in (read_rules, lambda path: read_trace(path, 4)):
        with pytest.raises(FileError, match=":1: "):
            read(empty)
        with pytest.raises(FileError, match="file: No such file"):
            read(tmp_path / "none")
    (tmp_path / "b").write_bytes(b"\xff\n")
    with pytest.raises(FileError, match="text: is not ASCII"):
        read_rules(tmp_path / "b")


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_written_is_read_again(tmp_path: Path, version: int) -> None:
    rules = generate("fw", 100, version=6 if version == 6 else 4)
    write_rules(rules, tmp_path / "r")
    assert read_rules(tmp_path / "r").records == rules.records
    trace = Trace("t", rules.version, key(rules.version, (1 << 31, 5, 6, 7, 17)) * 2, (3, NONE))
    write_trace(trace, tmp_path / "t")
    again = read_trace(tmp_path / "t", rules.version, len(rules))
    assert (again.keys, again.expected) == (trace.keys, trace.expected)
