"""From the configuration of Neutron's metadata agents to nodeplane's own.

What has a counterpart is translated, everything else is named. Values are never named: some of them are secrets.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

import msgspec

from dataplane.oslo_ini import DEFAULT, Options, value

RATE_LIMITING = "metadata_rate_limiting"
HAPROXY = "metadata_haproxy"

WINDOWS = ("base_window_duration", "base_query_rate_limit", "burst_window_duration", "burst_query_rate_limit")
TIMEOUTS = {
    "timeout_http_request": "metadata.header_timeout",
    "timeout_http_keep_alive": "metadata.idle_timeout",
    "timeout_server": "nova.timeout",
}

FOR_EVER = 0xFFFFFFFF
"""RFC 2131 3.3: a lease without end; Neutron writes -1."""
STATE_PATH = "/var/lib/neutron"
AGENT_USER = "neutron"
"""Who runs the agents, and so haproxy, in the distributions' packages."""

USELESS = {
    (DEFAULT, "metadata_workers"): "one process serves all networks",
    (DEFAULT, "metadata_backlog"): "the backlog is always large enough",
    (DEFAULT, "metadata_proxy_socket_mode"): "metadata.dropin_users and metadata.dropin_groups say who may connect",
    (DEFAULT, "log_file"): "the log goes to standard error, and from there to the journal",
    (DEFAULT, "log_dir"): "the log goes to standard error, and from there to the journal",
    (DEFAULT, "use_syslog"): "the log goes to standard error, and from there to the journal",
    (DEFAULT, "transport_url"): "no message bus is needed",
    (HAPROXY, "timeout_client"): "guests have header_timeout and idle_timeout of [metadata]",
    ("ovn", "ovn_sb_connection"): "networks, ports and instances come by nodeplane apply",
    ("ovs", "ovsdb_connection"): "networks, ports and instances come by nodeplane apply",
}
"""Options that an operator may look for, and why they have no counterpart."""
NO_COUNTERPART = "has no counterpart"

_TRUE = ("true", "1", "on", "yes")
_FALSE = ("false", "0", "off", "no")


class Translation(msgspec.Struct, frozen=True):
    """What became of the files."""

    settings: dict[str, Any]
    """Value by `section.key`."""
    notes: tuple[str, ...]
    """What the operator has to know: options without a counterpart, and those that mean something else here."""


def translate(options: Options) -> Translation:
    """The configuration of nodeplane that serves as the agent with these options did."""
    work = _Translator(options)
    for step in (work.process, work.nova, work.socket, work.limits, work.timeouts, work.dhcp, work.rest):
        step()
    return Translation(work.settings, tuple(work.notes))


def render(settings: dict[str, Any]) -> str:
    """The settings as TOML, a table per section."""
    sections: dict[str, list[str]] = {}
    for path, item in settings.items():
        section, _, key = path.partition(".")
        # JSON's text, numbers, true and lists are TOML's as well.
        sections.setdefault(section, []).append(f"{key} = {msgspec.json.encode(item).decode()}")
    return "\n".join("\n".join((f"[{section}]", *lines, "")) for section, lines in sections.items())


class _Translator:
    """Takes options one by one; what nobody took is named at the end."""

    def __init__(self, options: Options) -> None:
        self.settings: dict[str, Any] = {}
        self.notes: list[str] = []
        self._options = options
        self._taken: set[tuple[str, str]] = set()

    def process(self) -> None:
        """Name, log and what else concerns the whole process."""
        if host := self._text("host"):
            self.settings["node.name"] = host
        if self._flag("use_json"):
            self.settings["log.format"] = "json"
        if self._flag("debug"):
            self.settings["log.level"] = "debug"
        self._text("state_path")  # only counts where another option refers to it

    def dhcp(self) -> None:
        """What dhcp_agent.ini and neutron.conf say of DHCP and every nodeplane has."""
        if domain := self._text("dns_domain"):
            self.settings["dhcp.domain"] = domain.rstrip(".")
        seconds = self._number(DEFAULT, "dhcp_lease_duration", 60, FOR_EVER)
        if seconds is not None:
            self.settings["dhcp.lease_time"] = seconds

    def nova(self) -> None:
        """Where Nova is and how to talk to it."""
        protocol = self._text("nova_metadata_protocol") or "http"
        if protocol not in ("http", "https"):
            self._wrong(DEFAULT, "nova_metadata_protocol", "is neither http nor https; taken as https")
            protocol = "https"
        old = self._text("nova_metadata_ip")
        host = self._text("nova_metadata_host") or old or "127.0.0.1"
        port = self._number(DEFAULT, "nova_metadata_port", 1, 65535) or 8775
        self.settings["metadata.backend"] = "nova"
        self.settings["nova.url"] = f"{protocol}://{_in_url(host)}:{port}"
        if secret := self._text("metadata_proxy_shared_secret"):
            self.settings["nova.shared_secret"] = secret
            self.notes.append("the output holds metadata_proxy_shared_secret: let nobody but root read it")
        else:
            self.notes.append("metadata_proxy_shared_secret is empty: set nova.shared_secret, and Nova's to the same")
        if self._flag("nova_metadata_insecure"):
            self.settings["nova.insecure"] = True
        if authority := self._text("auth_ca_cert"):
            self.settings["nova.ca_file"] = authority
        certificate, key = self._text("nova_client_cert"), self._text("nova_client_priv_key")
        if certificate and key:
            self.settings["nova.client_cert"] = certificate
            self.settings["nova.client_key"] = key
        elif certificate or key:
            self.notes.append("nova_client_cert and nova_client_priv_key count only together, so neither is translated")

    def socket(self) -> None:
        """The socket that haproxy connects to, and who runs haproxy."""
        path = self._text("metadata_proxy_socket") or f"{self._text('state_path') or STATE_PATH}/metadata_proxy"
        self.settings["metadata.dropin_socket"] = path
        user, group = self._text("metadata_proxy_user"), self._text("metadata_proxy_group")
        self.settings["metadata.dropin_users"] = [_identity(user or AGENT_USER)]
        self.settings["metadata.dropin_only"] = True
        self.notes.append("metadata.dropin_only: the haproxies stay and nodeplane makes no network; see operating.md")
        if group:
            self.settings["metadata.dropin_groups"] = [_identity(group)]
        if not user:
            self.notes.append(
                f"metadata_proxy_user is empty: haproxy is taken to run as {AGENT_USER}, as the agents do"
            )

    def limits(self) -> None:
        """[metadata_rate_limiting]; every window keeps its name."""
        group = RATE_LIMITING
        numbers = {name: self._number(group, name, 1, 86400) for name in WINDOWS}
        versions = {item.strip() for item in self._text("ip_versions", group).split(",") if item.strip()} or {"4"}
        if not self._flag("rate_limit_enabled", group):
            if any(key[0] == group for key in self._options):
                self.notes.append(f"[{group}] is off: nodeplane's own limit per port stays; metadata.rate = 0 ends it")
        elif versions not in ({"4"}, {"6"}):
            self.notes.append(
                f"[{group}] ip_versions is not 4 or 6, so the agent does not limit; neither is translated"
            )
        else:
            self.notes.append(f"[{group}] ip_versions: one limit counts both families of a port together")
            self.settings["metadata.limit"] = "windows"
            self.settings |= {f"metadata.{name}": number or 10 for name, number in numbers.items()}

    def timeouts(self) -> None:
        """[metadata_haproxy], as far as the connection to the guest or to Nova has the same."""
        for name, key in TIMEOUTS.items():
            seconds = self._number(HAPROXY, name, 1, 3600)
            if seconds is not None:
                self.settings[key] = float(seconds)

    def rest(self) -> None:
        """Name every option that nothing above took."""
        for key, option in self._options.items():
            if key not in self._taken:
                self.notes.append(f"{option.where}: {USELESS.get(key, NO_COUNTERPART)}")

    def _text(self, name: str, group: str = DEFAULT) -> str:
        self._taken.add((group, name))
        return value(self._options, group, name, known={"state_path": STATE_PATH}).strip()

    def _flag(self, name: str, group: str = DEFAULT) -> bool:
        text = self._text(name, group).lower()
        if text and text not in _TRUE + _FALSE:
            self._wrong(group, name, "is neither true nor false; taken as false")
        return text in _TRUE

    def _number(self, group: str, name: str, least: int, most: int) -> int | None:
        text = self._text(name, group)
        if not text:
            return None
        if re.fullmatch(r"[+-]?[0-9]{1,12}", text) and least <= int(text) <= most:
            return int(text)
        if text == "-1" and most == FOR_EVER:
            return FOR_EVER
        self._wrong(group, name, f"is not a whole number from {least} to {most}; the default is taken")
        return None

    def _wrong(self, group: str, name: str, why: str) -> None:
        self.notes.append(f"{self._options[group, name].where}: {why}")


def _in_url(host: str) -> str:
    """A name or address as it stands in a URL; files have IPv6 addresses with brackets and without."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return f"[{bare}]" if ip_address(bare).version == 6 else bare
    except ValueError:
        return host


def _identity(text: str) -> str | int:
    """A user or group by number or name, as `allow_users` takes it."""
    return int(text) if text.isdecimal() else text
