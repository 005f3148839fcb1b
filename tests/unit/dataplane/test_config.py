"""The configuration file: every kind of mistake, defaults, reload, and docs/config.md against the code."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dataplane import config
from dataplane.errors import ConfigError, Mistake

ROOT = Path(__file__).resolve().parents[3]


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.loads(text)
    return [str(mistake) for mistake in caught.value.mistakes]


MISTAKES = {
    "not TOML": ("[node\n", "not valid TOML"),
    "unknown section": ("[contrl]\n", 'contrl: unknown key, did you mean "control"?'),
    "unknown key": ("[node]\nnmae = 'x'\n", 'node.nmae: unknown key, did you mean "name"?'),
    "key outside of a section": ("level = 'debug'\n", "level: unknown key"),
    "text for a number": ("[dhcp]\nlease_time = '1 day'\n", "dhcp.lease_time: expected a whole number, got text"),
    "number for text": ("[node]\nname = 5\n", "node.name: expected text, got a whole number"),
    "section is no table": ("dhcp = 5\n", "dhcp: expected a mapping"),
    "not one of": ("[log]\nformat = 'xml'\n", "log.format: "),
    "level": ("[log]\nlevel = 'trace'\n", "log.level: "),
    "on_stop": ("[node]\non_stop = 'explode'\n", "node.on_stop: "),
    "too short a lease": ("[dhcp]\nlease_time = 59\n", "dhcp.lease_time: "),
    "minimum above the lease": ("[dhcp]\nlease_time = 90\n", "dhcp.min_lease_time: is greater than lease_time (90)"),
    "negative rate": ("[dhcp]\nrate = -1\n", "dhcp.rate: "),
    "no burst": ("[dhcp]\nburst = 0\n", "dhcp.burst: "),
    "negative hold": ("[metadata]\nhold_seconds = -1\n", "metadata.hold_seconds: "),
    "tiny headers": ("[metadata]\nheader_bytes = 10\n", "metadata.header_bytes: "),
    "DHCP domain": ("[dhcp]\ndomain = 'a..b'\n", "dhcp.domain: is not a domain name"),
    "domain": ("[metadata]\ndhcp_domain = 'no domain'\n", "metadata.dhcp_domain: is not a domain name"),
    "node name": ("[node]\nname = 'a b'\n", "node.name: is not a host name"),
    "relative state": ("[node]\nstate_dir = 'state'\n", "node.state_dir: must be an absolute path"),
    "relative socket": ("[control]\nsocket = 'a.sock'\n", "control.socket: must be an absolute path"),
    "long socket": (f"[control]\nsocket = '/{'x' * 107}'\n", "control.socket: is longer than 107 bytes"),
    "relative dropin socket": ("[metadata]\ndropin_socket = 'a'\n", "metadata.dropin_socket: must be an absolute path"),
    "long dropin socket": (
        f"[metadata]\ndropin_socket = '/{'x' * 107}'\n",
        "metadata.dropin_socket: is longer than 107",
    ),
    "no dropin socket": ("[metadata]\ndropin_only = true\n", "metadata.dropin_only: needs metadata.dropin_socket"),
    "mode": ("[control]\nmode = '0999'\n", "control.mode: expected octal digits"),
    "users are a list": ("[control]\nallow_users = 'me'\n", "control.allow_users: expected a list, got text"),
    "a user is no truth": ("[control]\nallow_users = ['me', 1.5]\n", "control.allow_users[1]: "),
    "no port": ("[metrics]\nlisten = '127.0.0.1'\n", 'metrics.listen: expected "host:port"'),
    "bare IPv6": ("[metrics]\nlisten = '::1:9100'\n", "metrics.listen: expected"),
    "port too great": ("[metrics]\nlisten = 'localhost:70000'\n", "metrics.listen: '70000' is not a port number"),
    "guest-facing": ("[metrics]\nlisten = '169.254.169.254:80'\n", "metrics.listen: must not be a link-local"),
    "guest-facing IPv6": ("[metrics]\nlisten = '[fe80::a9fe:a9fe]:80'\n", "metrics.listen: must not be a link-local"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str) -> None:
    text, expected = MISTAKES[name]
    [mistake] = mistakes(text)
    assert mistake.startswith(expected)


def test_all_mistakes_in_one_go() -> None:
    assert len(mistakes("[node]\nnmae = 1\n[dhcp]\nrate = 'x'\nburst = -1\n[nothing]\n")) == 4


def test_mistakes_have_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "n.toml"
    file.write_text('# comment\n[node]\n\nname = "a b"\n[ "dhcp" ]\n"rate" = -1\n[nothing]\n')
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert [mistake.path for mistake in caught.value.mistakes] == [
        f"{file}:{line}: {key}" for line, key in ((6, "dhcp.rate"), (7, "nothing"))
    ]
    file.write_text('[node]\nname = "a b"\n')
    with pytest.raises(ConfigError, match=f"{file}:2: node.name"):
        config.load(file)
    file.write_text("dhcp.rate = -1\n")
    with pytest.raises(ConfigError, match=f"{file}:1: dhcp.rate"):
        config.load(file)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="directory"):
        config.load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(tmp_path / "binary")


def test_an_empty_file_is_complete() -> None:
    assert config.loads("") == config.Config()
    assert config.loads("").node_name
    assert config.loads("[node]\nname = 'n1'").node_name == "n1"


def test_text_of_the_effective_configuration_reads_back() -> None:
    text = '[control]\nallow_users = ["a\\"b", 5]\n[dhcp]\nrate = 2.5\nrapid_commit = true\n'
    settings = config.loads(text)
    assert config.loads(config.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("control", "mode"),
    [("", 0o600), ("allow_groups = ['adm']", 0o666), ("mode = '0660'", 0o660), ("mode = '640'", 0o640)],
)
def test_socket_mode(control: str, mode: int) -> None:
    assert config.loads(f"[control]\n{control}\n").socket_mode == mode


def test_listen_addresses() -> None:
    assert config.listen_address("[::1]:9100") == ("::1", 9100)
    assert config.listen_address("localhost:0") == ("localhost", 0)


def test_missing_names_what_is_not_there(tmp_path: Path) -> None:
    text = f"""
[node]
state_dir = "{tmp_path}/none/state"
[control]
socket = "{tmp_path}/control.sock"
allow_users = ["root", "no-such-user", {os.getuid()}]
allow_groups = ["no-such-group"]
[metadata]
dropin_socket = "{tmp_path}/none/metadata_proxy"
dropin_users = ["no-such-user"]
dropin_groups = [5, "no-such-group"]
"""
    assert [mistake.path for mistake in config.missing(config.loads(text))] == [
        "node.state_dir",
        "metadata.dropin_socket",
        "control.allow_users[1]",
        "metadata.dropin_users[0]",
        "control.allow_groups[0]",
        "metadata.dropin_groups[1]",
    ]
    assert config.missing(config.loads(f"[node]\nstate_dir = '{tmp_path}'\n[control]\nsocket = '{tmp_path}/c'")) == ()


def test_missing_looks_the_listen_name_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    text = f"[node]\nstate_dir='{tmp_path}'\n[control]\nsocket='{tmp_path}/c'\n[metrics]\nlisten = 'nowhere:9100'\n"
    assert config.missing(config.loads(text)) == (Mistake("metrics.listen", "nowhere: Name or service not known"),)


def test_changed_says_what_needs_a_restart() -> None:
    new = config.loads(
        "[node]\nname = 'x'\non_stop = 'teardown'\n[log]\nlevel = 'debug'\naccess = true\n[dhcp]\nrate = 1.0\n"
    )
    assert {(key.path, key.reload) for key in config.changed(config.Config(), new)} == {
        ("node.name", False),
        ("node.on_stop", True),
        ("log.level", True),
        ("log.access", True),
        ("dhcp.rate", True),
    }


def test_every_reloaded_name_exists() -> None:
    names = {key.path for key in config.KEYS} | {key.path.partition(".")[0] for key in config.KEYS}
    assert names >= config.RELOADED


def test_docs_have_every_key_with_its_default() -> None:
    """A row per key, in the order of the code: `section.key`, default as TOML, how it takes effect, meaning."""
    text = (ROOT / "docs" / "config.md").read_text()
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| `([^`]*)` \| (reload|restart) \| \S.*\|$", text, re.MULTILINE)
    shown = dict(line.split(" = ", 1) for line in _dotted(config.dumps(config.Config())))
    assert rows == [(key.path, shown[key.path], "reload" if key.reload else "restart") for key in config.KEYS]


def _dotted(text: str) -> list[str]:
    section, lines = "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            lines.append(f"{section}.{line}")
    return lines


def test_the_example_file_shows_every_key_at_its_default() -> None:
    text = (ROOT / "examples" / "nodeplane.toml").read_text()
    assert config.loads(text) == config.Config()
    uncommented = re.sub(r"^#(?=\w)", "", text, flags=re.MULTILINE)
    assert config.loads(uncommented) == config.Config()
    assert re.findall(r"^(\w+) = ", uncommented, re.MULTILINE) == [key.path.partition(".")[2] for key in config.KEYS]
