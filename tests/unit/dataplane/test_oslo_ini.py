"""OpenStack's configuration files: what oslo.config's own parser makes of the same text."""

from __future__ import annotations

import pytest

from dataplane.errors import ConfigError
from dataplane.oslo_ini import merge, value

FILE = """\
# comment
; comment
[DEFAULT]
plain = one
colon: two
spaces   =   three words
both=a:b
other:a=b
quoted = "in quotes"
half = "open
empty =
long = first
  second
\tthird

[Metadata_Rate_Limiting]
ip_versions = 4
"""


def texts(*files: str) -> dict[tuple[str, str], str]:
    return {key: option.text for key, option in merge((f"f{n}", text) for n, text in enumerate(files)).items()}


def test_one_file() -> None:
    assert texts(FILE) == {
        ("DEFAULT", "plain"): "one",
        ("DEFAULT", "colon"): "two",
        ("DEFAULT", "spaces"): "three words",
        ("DEFAULT", "both"): "a:b",
        ("DEFAULT", "other"): "a=b",
        ("DEFAULT", "quoted"): "in quotes",
        ("DEFAULT", "half"): '"open',
        ("DEFAULT", "empty"): "",
        ("DEFAULT", "long"): "first\nsecond\nthird",
        ("metadata_rate_limiting", "ip_versions"): "4",
    }


def test_lines_end_as_they_like() -> None:
    assert texts("[DEFAULT]\r\na = 1\r\n") == {("DEFAULT", "a"): "1"}
    assert texts("[default]\na = 1") == {("DEFAULT", "a"): "1"}


def test_the_last_word_counts() -> None:
    found = merge([("a.ini", "[DEFAULT]\nx = 1\nx = 2\ny = 1\n"), ("b.ini", "[DEFAULT]\nx = 3\n[agent]\nx = 4\n")])
    assert {key: (option.text, option.where) for key, option in found.items()} == {
        ("DEFAULT", "y"): ("1", "a.ini:4: [DEFAULT] y"),
        ("DEFAULT", "x"): ("3", "b.ini:2: [DEFAULT] x"),
        ("agent", "x"): ("4", "b.ini:4: [agent] x"),
    }


def test_every_mistake_has_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        merge([("a", "early = 1\n[DEFAULT]\n  goes on\nnothing\n= 5\n[open\n[]\n"), ("b", "[x]\nword\n")])
    assert [mistake.path for mistake in caught.value.mistakes] == ["a:1", "a:3", "a:4", "a:5", "a:6", "a:7", "b:2"]


def test_values_are_not_in_mistakes() -> None:
    with pytest.raises(ConfigError) as caught:
        merge([("a", "[DEFAULT]\nmetadata_proxy_shared_secret s3cr3t\n")])
    assert "s3cr3t" not in str(caught.value)


def test_references() -> None:
    options = merge([("a", "[DEFAULT]\nbase = /srv/$name\nname = n\npath = ${base}/x$$y$unknown\nloop = $loop\n"
                           "[group]\nname = g\npath = $base/$name\n")])  # fmt: skip
    assert value(options, "DEFAULT", "path") == "/srv/n/x$y$unknown"
    assert value(options, "group", "path") == "/srv/g/g"
    assert value(options, "DEFAULT", "loop") == "$loop"
    assert value(options, "DEFAULT", "none", "$home/z", {"home": "/root"}) == "/root/z"
    assert value(options, "DEFAULT", "none") == ""
