"""The configuration file: TOML, read once into frozen records, every mistake named with its line.

`load` decodes, `missing` says what a valid configuration refers to and is not there (both are `nodeplane check`),
`changed` compares two configurations for a reload. docs/config.md describes every key of `KEYS`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from dataplane import config_nova, strict
from dataplane.config_nova import NovaConfig
from dataplane.errors import ConfigError, Mistake

# One day, as Neutron's dhcp_lease_duration; an address never moves to another port, so a long lease is safe.
LEASE_TIME = 86400
# RFC 2131 has no minimum; below two minutes guests renew so often that a restart of the node is noticed.
MIN_LEASE_TIME = 120

UNIX_PATH_LIMIT = 107
"""Bytes of a Unix socket's path: sun_path of unix(7) without the closing zero."""

_LABEL = "[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_DOMAIN = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")

Seconds = Annotated[float, Meta(ge=0, le=86400)]
Positive = Annotated[int, Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: immutable, unknown keys are mistakes, every key has a default."""


class NodeConfig(Section, frozen=True, kw_only=True):
    """[node]"""

    name: str = ""
    """How this node is called in `host` of ports; empty: the host name."""
    state_dir: str = "/var/lib/nodeplane"
    """Where the embedded store lives."""
    on_stop: Literal["leave", "teardown"] = "leave"
    """What SIGTERM does with namespaces, bridges and veth pairs."""
    coalesce_ms: Annotated[int, Meta(ge=0, le=10000)] = 5
    """How long changes are gathered before the kernel is brought in step."""


class ControlConfig(Section, frozen=True, kw_only=True):
    """[control]"""

    socket: str = "/run/nodeplane/control.sock"
    mode: str = ""
    """Octal permissions of the socket; empty: 0600, or 0666 when users or groups are allowed."""
    allow_users: tuple[str | int, ...] = ()
    """Users besides root and the daemon's own who may use it: names or numbers."""
    allow_groups: tuple[str | int, ...] = ()
    """Groups whose members may use it: names or numbers."""
    body_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    """Greatest document that is taken."""


class LogConfig(Section, frozen=True, kw_only=True):
    """[log]"""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = False
    """The metadata service's requests, whatever the level of the rest."""


class MetricsConfig(Section, frozen=True, kw_only=True):
    """[metrics]"""

    listen: str = ""
    """`host:port` of an additional TCP port for /metrics and the health checks; empty: control socket only."""
    per_network: bool = False
    """Whether series of guest-facing services carry a `network` label."""


class DhcpConfig(Section, frozen=True, kw_only=True):
    """[dhcp]"""

    lease_time: Annotated[int, Meta(ge=60, le=0xFFFFFFFF)] = LEASE_TIME
    min_lease_time: Annotated[int, Meta(ge=60, le=0xFFFFFFFF)] = MIN_LEASE_TIME
    hold_seconds: Seconds = 8.0
    held_per_network: Annotated[int, Meta(ge=1, le=65536)] = 64
    rate: Annotated[float, Meta(ge=0, le=1e6)] = 10.0
    burst: Positive = 20
    rapid_commit: bool = False
    domain: str = "openstacklocal"
    """Option 15 of networks without `dns_domain`; Neutron's default."""


class MetadataConfig(Section, frozen=True, kw_only=True):
    """[metadata]"""

    backend: Literal["own", "nova"] = "own"
    """Whose documents the guests of networks without `metadata_backend` get."""
    hold_seconds: Seconds = 8.0
    retry_after: Annotated[int, Meta(ge=0, le=3600)] = 1
    dhcp_domain: str = "novalocal"
    limit: Literal["bucket", "windows"] = "bucket"
    """What limits the requests of a port: `rate` and `burst`, or Neutron's two windows."""
    rate: Annotated[float, Meta(ge=0, le=1e6)] = 4.0
    burst: Positive = 120
    base_window_duration: Annotated[int, Meta(ge=1, le=86400)] = 10
    base_query_rate_limit: Positive = 10
    burst_window_duration: Annotated[int, Meta(ge=1, le=86400)] = 10
    burst_query_rate_limit: Positive = 10
    connections_per_port: Positive = 32
    connections_per_network: Positive = 1024
    header_bytes: Annotated[int, Meta(ge=1024, le=1024 * 1024)] = 8192
    body_bytes: Annotated[int, Meta(ge=0, le=1024 * 1024)] = 16384
    header_timeout: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    idle_timeout: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    http_endpoint: Literal["enabled", "disabled"] = "enabled"
    """This and the next three: of instances whose `metadata_options` do not say it."""
    http_tokens: Literal["optional", "required"] = "optional"
    http_put_response_hop_limit: Annotated[int, Meta(ge=1, le=64)] = 1
    instance_metadata_tags: Literal["enabled", "disabled"] = "disabled"
    region: str = ""
    """`placement/region` of the EC2 tree; empty: the instance's availability zone, without a letter at its end."""
    dropin_socket: str = ""
    """Where Neutron's metadata agent had its Unix socket; empty: not served."""
    dropin_users: tuple[str | int, ...] = ()
    """Users besides root and the daemon's own who may connect to it: those that haproxy runs as."""
    dropin_groups: tuple[str | int, ...] = ()
    dropin_only: bool = False
    """Serve guests by `dropin_socket` alone: no namespace, device, listener or DHCP server is made."""


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    node: NodeConfig = NodeConfig()
    control: ControlConfig = ControlConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    dhcp: DhcpConfig = DhcpConfig()
    metadata: MetadataConfig = MetadataConfig()
    nova: NovaConfig = NovaConfig()

    @property
    def node_name(self) -> str:
        """`node.name`, or the host name."""
        return self.node.name or socket.gethostname()

    @property
    def socket_mode(self) -> int:
        """Permission bits of the control socket; see `ControlConfig.mode`."""
        if self.control.mode:
            return int(self.control.mode, 8)
        return 0o666 if self.control.allow_users or self.control.allow_groups else 0o600


class Key(NamedTuple):
    """One key of the file."""

    path: str
    """`section.key`."""
    default: Any
    reload: bool
    """Whether SIGHUP puts a new value into force; otherwise a restart does."""


RELOADED = frozenset({"log", "dhcp", "metadata", "node.on_stop", "node.coalesce_ms"})
"""Keys, and sections as a whole, that the daemon takes over on SIGHUP."""


AT_START = frozenset(
    f"metadata.{name}" for name in ("backend", "dropin_socket", "dropin_users", "dropin_groups", "dropin_only")
)
"""Keys of those sections that a restart puts into force all the same."""


def _keys() -> Iterator[Key]:
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            path = f"{section.name}.{field.name}"
            reload = (section.name in RELOADED or path in RELOADED) and path not in AT_START
            yield Key(path, field.default, reload)


KEYS: tuple[Key, ...] = tuple(_keys())


def load(path: str | os.PathLike[str]) -> Config:
    """Read the file at `path`.

    Raises ConfigError with every mistake, each beginning with `file:line`; an unreadable file is one too.
    """
    try:
        text = Path(path).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError([Mistake(str(path), str(reason))]) from error
    try:
        return loads(text)
    except ConfigError as error:
        raise ConfigError(_located(mistake, str(path), text) for mistake in error.mistakes) from None


def loads(text: str) -> Config:
    """Decode the text of a configuration file; raises ConfigError with every mistake."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Mistake("", f"not valid TOML: {error}")]) from error
    config, mistakes = strict.decode(Config, data)
    if config is not None:
        mistakes = list(_rules(config))
    if config is None or mistakes:
        raise ConfigError(mistakes)
    return config


def missing(config: Config) -> tuple[Mistake, ...]:
    """What a valid configuration refers to and is not there on this machine; reads the file system and user tables."""
    return tuple(_missing(config))


def changed(old: Config, new: Config) -> tuple[Key, ...]:
    """Keys with a different value; `Key.reload` says which of them need a restart."""
    return tuple(key for key in KEYS if value(old, key.path) != value(new, key.path))


def value(config: Config, path: str) -> Any:
    """The value of `section.key`."""
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)


def dumps(config: Config) -> str:
    """The configuration in effect as TOML, every key written out."""
    lines: list[str] = []
    for section in msgspec.structs.fields(Config):
        lines.append(f"[{section.name}]")
        # JSON's text, numbers, true and lists are TOML's as well.
        for name, item in msgspec.structs.asdict(getattr(config, section.name)).items():
            hidden = item and section.type is NovaConfig and name in config_nova.HIDDEN
            lines.append(f"{name} = {msgspec.json.encode('(hidden)' if hidden else item).decode()}")
        lines.append("")
    return "\n".join(lines)


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`; raises ValueError."""
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not host or (":" in host and not bracketed):
        raise ValueError('expected "host:port" or "[address]:port"')
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{port!r} is not a port number")
    return host.strip("[]"), int(port)


def _rules(config: Config) -> Iterator[Mistake]:
    """Mistakes that a single field's type cannot show."""
    if config.dhcp.min_lease_time > config.dhcp.lease_time:
        yield Mistake("dhcp.min_lease_time", f"is greater than lease_time ({config.dhcp.lease_time})")
    for path in ("node.state_dir", "control.socket"):
        text = value(config, path)
        if not text.startswith("/") or "\0" in text:
            yield Mistake(path, "must be an absolute path")
    if len(os.fsencode(config.control.socket)) > UNIX_PATH_LIMIT:
        yield Mistake("control.socket", f"is longer than {UNIX_PATH_LIMIT} bytes, the limit of Unix sockets")
    yield from _dropin_rules(config.metadata)
    if config.control.mode and not re.fullmatch("0?[0-7]{3}", config.control.mode):
        yield Mistake("control.mode", 'expected octal digits in quotes, such as "0660"')
    if config.node.name and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})", config.node.name):
        yield Mistake("node.name", "is not a host name")
    for path in ("dhcp.domain", "metadata.dhcp_domain"):
        if value(config, path) and not _DOMAIN.fullmatch(value(config, path)):
            yield Mistake(path, "is not a domain name")
    if config.metadata.region and not re.fullmatch(r"[!-~]{1,255}", config.metadata.region):
        yield Mistake("metadata.region", "is not a word of at most 255 visible ASCII characters")
    yield from _listen_rules(config.metrics.listen)
    yield from config_nova.rules(config.nova, config.metadata.backend)


def _dropin_rules(metadata: MetadataConfig) -> Iterator[Mistake]:
    path = metadata.dropin_socket
    if path and (not path.startswith("/") or "\0" in path):
        yield Mistake("metadata.dropin_socket", "must be an absolute path")
    if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
        yield Mistake("metadata.dropin_socket", f"is longer than {UNIX_PATH_LIMIT} bytes, the limit of Unix sockets")
    if metadata.dropin_only and not path:
        yield Mistake("metadata.dropin_only", "needs metadata.dropin_socket")


def _listen_rules(listen: str) -> Iterator[Mistake]:
    if not listen:
        return
    try:
        host, _ = listen_address(listen)
    except ValueError as error:
        yield Mistake("metrics.listen", str(error))
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name: `missing` looks it up
    if address.is_link_local:
        yield Mistake("metrics.listen", "must not be a link-local address: those belong to guests")


def _missing(config: Config) -> Iterator[Mistake]:
    import grp  # both tables are only needed here; a configuration without names works without them
    import pwd

    for path, directory in (
        ("node.state_dir", Path(config.node.state_dir).parent),
        ("control.socket", Path(config.control.socket).parent),
        ("metadata.dropin_socket", Path(config.metadata.dropin_socket).parent),
    ):
        if not Path(value(config, path)).exists() and not directory.is_dir():
            yield Mistake(path, f"there is no directory {directory}")
    for key, users in (
        ("control.allow_users", config.control.allow_users),
        ("metadata.dropin_users", config.metadata.dropin_users),
    ):
        for index, user in enumerate(users):
            if isinstance(user, str):
                try:
                    pwd.getpwnam(user)
                except KeyError:
                    yield Mistake(f"{key}[{index}]", f"there is no user {user!r}")
    for key, groups in (
        ("control.allow_groups", config.control.allow_groups),
        ("metadata.dropin_groups", config.metadata.dropin_groups),
    ):
        for index, group in enumerate(groups):
            if isinstance(group, str):
                try:
                    grp.getgrnam(group)
                except KeyError:
                    yield Mistake(f"{key}[{index}]", f"there is no group {group!r}")
    yield from config_nova.missing(config.nova)
    if config.metrics.listen:
        host, port = listen_address(config.metrics.listen)
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            yield Mistake("metrics.listen", f"{host}: {error.strerror}")


def _located(mistake: Mistake, file: str, text: str) -> Mistake:
    """The mistake with `file:line: ` before its path, as far as the line can be found."""
    if not mistake.path:
        return Mistake(file, mistake.reason)
    line = _line(text, mistake.path)
    return Mistake(f"{file}:{line}: {mistake.path}" if line else f"{file}: {mistake.path}", mistake.reason)


def _line(text: str, path: str) -> int:
    """The line of `section.key...` in TOML text, or of its section; 0 if neither is found."""
    names = re.split(r"[.\[]", path)
    inside = re.compile(rf"\s*[\"']?{re.escape(names[1])}[\"']?\s*=") if len(names) > 1 else None
    outside = re.compile(rf"\s*[\"']?{re.escape(names[0])}[\"']?\s*[.=]")
    section, found = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\]]*?)\s*\]", line):
            section = header[1].strip("\"'")
            found = number if section == names[0] else found
            continue
        wanted = outside if not section else inside if section == names[0] else None
        if wanted is not None and wanted.match(line):
            return number
    return found
