"""[nova] of the configuration file: where Nova's metadata API is and how it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dataplane.errors import ConfigError, Mistake
from metadata.nova_settings import NovaSettings

# A port, and nothing behind it: the paths are Nova's.
_URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?/?")

Timeout = Annotated[float, Meta(gt=0, le=3600)]
Seconds = Annotated[float, Meta(ge=0, le=86400)]
Count = Annotated[int, Meta(ge=1, le=65536)]


class NovaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[nova]"""

    url: str = ""
    """Empty: there is no Nova."""
    shared_secret: str = ""
    shared_secret_file: str = ""
    """Where the secret is, instead of here; a newline at its end does not count."""
    fallback_secret: str = ""
    """Tried when Nova answers 403 to a signature with the other one, while secrets are exchanged."""
    fallback_secret_file: str = ""
    mode: Literal["instance", "provider"] = "instance"
    """Whether we name the instance, or a load balancer whose networks Nova looks the address up in."""
    provider_id: str = ""
    """Of mode `provider`; `{network_id}` stands for the caller's network."""
    ca_file: str = ""
    """Certificates that Nova's must be signed by; empty: the system's."""
    client_cert: str = ""
    client_key: str = ""
    insecure: bool = False
    """Believe any certificate."""
    connect_timeout: Timeout = 3.0
    timeout: Timeout = 30.0
    vendordata_timeout: Timeout = 60.0
    password_timeout: Timeout = 30.0
    hold_seconds: Seconds = 8.0
    retry_after: Annotated[int, Meta(ge=0, le=3600)] = 1
    cache_seconds: Seconds = 10.0
    stale_seconds: Seconds = 600.0
    stale_after: Seconds = 2.0
    cache_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 64 * 1024 * 1024
    prefetch: bool = True
    response_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 4 * 1024 * 1024
    connections: Count = 256
    connections_per_project: Count = 32
    waiting_per_project: Count = 4096


HIDDEN = ("shared_secret", "fallback_secret")
"""Keys whose values are never written anywhere."""


def rules(nova: NovaConfig, default_backend: str) -> Iterator[Mistake]:
    """Mistakes that a single key's type cannot show."""
    if default_backend == "nova" and not nova.url:
        yield Mistake("metadata.backend", "needs nova.url")
    for key in ("shared_secret", "fallback_secret"):
        if getattr(nova, key) and getattr(nova, f"{key}_file"):
            yield Mistake(f"nova.{key}_file", f"is given together with {key}")
    for key in ("shared_secret_file", "fallback_secret_file", "ca_file", "client_cert", "client_key"):
        path = getattr(nova, key)
        if path and (not path.startswith("/") or "\0" in path):
            yield Mistake(f"nova.{key}", "must be an absolute path")
    if nova.client_key and not nova.client_cert:
        yield Mistake("nova.client_key", "needs nova.client_cert")
    if nova.provider_id and not re.fullmatch(r"[!-~]{1,255}", nova.provider_id):
        yield Mistake("nova.provider_id", "is not a word of at most 255 visible ASCII characters")
    if not nova.url:
        return
    found = _URL.fullmatch(nova.url)
    if not found or not 0 < int(found[1] or 80) < 65536:
        yield Mistake("nova.url", 'expected "http://host:port" or "https://host:port"')
    if not nova.shared_secret and not nova.shared_secret_file:
        yield Mistake("nova.shared_secret", "is empty: everybody could sign; set Nova's metadata_proxy_shared_secret")
    if nova.mode == "provider" and not nova.provider_id:
        yield Mistake("nova.provider_id", 'is needed with mode = "provider"')


def missing(nova: NovaConfig) -> Iterator[Mistake]:
    """What the section refers to and is not there."""
    for key in ("shared_secret_file", "fallback_secret_file"):
        if path := getattr(nova, key):
            try:
                _secret_in(path)
            except ConfigError as error:
                yield Mistake(f"nova.{key}", error.mistakes[0].reason)
    for key in ("ca_file", "client_cert", "client_key"):
        if (path := getattr(nova, key)) and not Path(path).is_file():
            yield Mistake(f"nova.{key}", f"there is no file {path}")


def settings(nova: NovaConfig) -> NovaSettings | None:
    """The settings of the proxy with its secrets read; None without `url`. Raises ConfigError."""
    if not nova.url:
        return None
    shared = nova.shared_secret or _secret_in(nova.shared_secret_file)
    fallback = nova.fallback_secret or (_secret_in(nova.fallback_secret_file) if nova.fallback_secret_file else "")
    own = {name for name in NovaSettings.__struct_fields__ if name != "secrets"}
    return NovaSettings(
        secrets=(shared, fallback) if fallback else (shared,),
        **{name: value for name, value in msgspec.structs.asdict(nova).items() if name in own},
    )


def _secret_in(path: str) -> str:
    try:
        secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError([Mistake(path, f"{path}: {reason}")]) from error
    if not secret:
        raise ConfigError([Mistake(path, f"{path} is empty")])
    return secret
