"""[nova]: what is refused before anything is started, and how secrets are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataplane import config, config_nova
from dataplane.config_nova import NovaConfig
from dataplane.errors import ConfigError

URL = "http://nova:8775"
GOOD: dict[str, Any] = {"url": URL, "shared_secret": "s"}


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"url": URL}, "nova.shared_secret", "is empty"),
        ({**GOOD, "url": "nova:8775"}, "nova.url", "expected"),
        ({**GOOD, "url": "http://nova:8775/path"}, "nova.url", "expected"),
        ({**GOOD, "url": "http://user@nova:8775"}, "nova.url", "expected"),
        ({**GOOD, "url": "http://nova:0"}, "nova.url", "expected"),
        ({**GOOD, "url": "http://nova:65536"}, "nova.url", "expected"),
        ({**GOOD, "shared_secret_file": "/x"}, "nova.shared_secret_file", "together"),
        ({**GOOD, "ca_file": "x"}, "nova.ca_file", "absolute"),
        ({**GOOD, "client_key": "/x"}, "nova.client_key", "needs nova.client_cert"),
        ({**GOOD, "mode": "provider"}, "nova.provider_id", "is needed"),
        ({**GOOD, "mode": "provider", "provider_id": "a\nb"}, "nova.provider_id", "visible"),
    ],
)
def test_refused(changes: dict[str, Any], key: str, reason: str) -> None:
    (mistake,) = config_nova.rules(NovaConfig(**changes), "own")
    assert mistake.path == key
    assert reason in mistake.reason


@pytest.mark.parametrize("url", ["http://nova", "https://10.0.0.1:8775", "http://[::1]:8775", "http://a-b.c_d:1/"])
def test_urls(url: str) -> None:
    assert not list(config_nova.rules(NovaConfig(**{**GOOD, "url": url}), "nova"))


def test_nova_without_nova() -> None:
    with pytest.raises(ConfigError, match=r"metadata\.backend: needs nova\.url"):
        config.loads('[metadata]\nbackend = "nova"\n')


def test_an_empty_secret_is_refused_at_load() -> None:
    with pytest.raises(ConfigError, match=r"nova\.shared_secret: is empty"):
        config.loads(f'[nova]\nurl = "{URL}"\nshared_secret = ""\n')


def test_settings(tmp_path: Path) -> None:
    assert config_nova.settings(NovaConfig()) is None
    found = config_nova.settings(NovaConfig(**GOOD, fallback_secret="t", timeout=7.0))
    assert found is not None
    assert (found.url, found.secrets, found.timeout) == (URL, ("s", "t"), 7.0)
    (tmp_path / "secret").write_text("from a file\n")
    found = config_nova.settings(NovaConfig(url=URL, shared_secret_file=str(tmp_path / "secret")))
    assert found is not None
    assert found.secrets == ("from a file",)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_secret_file_without_a_secret(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    nova = NovaConfig(url=URL, shared_secret_file=str(path))
    with pytest.raises(ConfigError):
        config_nova.settings(nova)
    (mistake,) = config_nova.missing(nova)
    assert mistake.path == "nova.shared_secret_file"


def test_what_is_not_there(tmp_path: Path) -> None:
    nova = NovaConfig(**GOOD, ca_file=str(tmp_path / "ca"), client_cert=str(tmp_path / "cert"))
    assert [mistake.path for mistake in config_nova.missing(nova)] == ["nova.ca_file", "nova.client_cert"]


def test_secrets_are_not_shown() -> None:
    text = config.dumps(config.loads(f'[nova]\nurl = "{URL}"\nshared_secret = "abc"\nfallback_secret = "def"\n'))
    assert "abc" not in text
    assert "def" not in text
    assert 'shared_secret = "(hidden)"' in text
