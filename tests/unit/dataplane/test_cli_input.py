"""Documents as operators write them."""

from __future__ import annotations

import io
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataplane import cli_input
from dataplane.errors import DocumentError

YAML = r"""
mac: 52:54:00:12:34:56
octal: 010
word: yes
switch: on
date: 2024-01-01
hex: 0x10
thousand: 1_000
infinite: .inf
number: 12
negative: -5
fraction: 1.5
exponent: 1e3
truth: true
empty:
tilde: ~
base: &base {a: 1, b: 2}
merged: {<<: *base, b: 3}
text: |
  #!/bin/sh
  echo
"""


def test_yaml_by_its_1_2_core_rules() -> None:
    assert cli_input.parse(YAML) == {
        "mac": "52:54:00:12:34:56",
        "octal": "010",
        "word": "yes",
        "switch": "on",
        "date": "2024-01-01",
        "hex": "0x10",
        "thousand": "1_000",
        "infinite": ".inf",
        "number": 12,
        "negative": -5,
        "fraction": 1.5,
        "exponent": 1000.0,
        "truth": True,
        "empty": None,
        "tilde": None,
        "base": {"a": 1, "b": 2},
        "merged": {"a": 1, "b": 3},
        "text": "#!/bin/sh\necho\n",
    }


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        ("---\n", {}),
        ("# only a comment\n", {}),
        ('{"ports": []}', {"ports": []}),
        ("{ports: []}", {"ports": []}),
        ("\ufeffports: []", {"ports": []}),
        ('{"a": 1.0e2}', {"a": 100.0}),
    ],
)
def test_forms(text: str, data: object, tmp_path: Path) -> None:
    file = tmp_path / "d"
    file.write_text(text)
    assert cli_input.read(str(file)) == data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f:4:3: the key 'c' is written twice in one mapping"),
        ('{"a": {"b": 1, "b": 2}}', "f: the key 'b' is written twice"),
        ("a: [", "f:"),
        ("1: a", "f:1:1: a key is not text"),
        ("{a: 1}: 2", "f:1:1: a key is not text"),
        ("a: !!python/object/apply:os.system [id]", "f:1:4: could not determine a constructor"),
        ("a: *nothing", "f:1:4: "),
        ("--- {a: 1}\n--- {b: 2}\n", "f: holds more than one document"),
        ("a: \x01", "f: "),
    ],
)
def test_mistakes_have_a_place(text: str, expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        cli_input.parse(text, "f")
    assert str(caught.value).startswith(expected)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"a: \xff")
    with pytest.raises(DocumentError, match="not UTF-8 text: invalid start byte at byte 3"):
        cli_input.read(str(tmp_path / "d"))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a: [")))
    with pytest.raises(DocumentError, match="standard input:"):
        cli_input.read("-")


def test_what_json_does_not_have() -> None:
    circle: list[object] = []
    circle.append(circle)
    for value, reason in ((b"x", "user_data_base64"), (circle, "refers to itself"), (math.inf, "not JSON compliant")):
        with pytest.raises(DocumentError, match=reason):
            cli_input.as_json({"a": value}, "f")
    assert cli_input.as_json({"a": "ü"}) == b'{"a": "\\u00fc"}'
