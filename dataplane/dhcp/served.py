"""A port as the DHCPv4 core knows it: its templates, built when first needed, and its token bucket."""

from __future__ import annotations

from typing import Final

from dataplane.dhcp import constants as c
from dataplane.dhcp.policy import Policy, ServerIdentity
from dataplane.dhcp.pool import PortOptions, read_port_options
from dataplane.dhcp.template import PortTemplate
from dataplane.dhcp.wire import Message, relay_suboptions
from dataplane.model import Network, Port

# Neutron: ports that never ask for an address (DHCP_CONFIG_NOT_REQUIRED_OWNERS).
SKIPPED_OWNERS: Final = frozenset(
    {"network:router_ha_interface", "network:floatingip", "network:dhcp", "network:distributed"}
)


class TokenBucket:
    """At most `burst` packets at once and `rate` per second in the long run; a rate of 0 lets everything through."""

    __slots__ = ("_burst", "_filled", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = self._burst
        self._filled = 0.0

    def take(self, now: float) -> bool:
        """Whether a packet may pass at `now`. A clock that steps back adds nothing."""
        if self._rate == 0.0:
            return True
        elapsed = now - self._filled
        self._filled = now
        tokens = self._tokens
        if elapsed > 0.0:
            tokens = min(self._burst, tokens + elapsed * self._rate)
        if tokens < 1.0:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1.0
        return True


class ServedPort:
    """One port on this node."""

    __slots__ = ("_read", "_templates", "bucket", "client_id", "mac", "port")

    def __init__(self, port: Port, bucket: TokenBucket) -> None:
        self.port = port
        self.mac = bytes.fromhex(port.mac_address.replace(":", ""))
        """6 bytes."""
        self.bucket = bucket
        self._read: PortOptions = read_port_options(port)
        self.client_id = self._explicit_client_id()
        """The only client identifier that the port accepts, or None for any."""
        self._templates: tuple[PortTemplate, ...] | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Entries of `extra_dhcp_opts` that are left out, each with the reason."""
        return self._read.problems

    def forget_templates(self) -> None:
        """The network has changed: build again when next needed."""
        self._templates = None

    def templates(self, network: Network, identity: ServerIdentity, policy: Policy) -> tuple[PortTemplate, ...]:
        """One template for each IPv4 address in a subnet with DHCP, in the port's order; empty: not served."""
        templates = self._templates
        if templates is None:
            templates = self._templates = self._build(network, identity, policy)
        return templates

    def _build(self, network: Network, identity: ServerIdentity, policy: Policy) -> tuple[PortTemplate, ...]:
        if self._read.disabled or self.port.device_owner in SKIPPED_OWNERS:
            return ()
        subnets = {subnet.id: subnet for subnet in network.subnets if subnet.enable_dhcp and ":" not in subnet.cidr}
        return tuple(
            PortTemplate(
                network, subnets[fixed.subnet_id], self.port, fixed.ip_address, identity, policy, self._read.options
            )
            for fixed in self.port.fixed_ips
            if fixed.subnet_id in subnets and ":" not in fixed.ip_address
        )

    def _explicit_client_id(self) -> bytes | None:
        for option in self._read.options:
            if option.code == c.CLIENT_ID and option.applies:
                return option.value
        return None


def template_for_offer(templates: tuple[PortTemplate, ...], message: Message) -> PortTemplate:
    """The address to offer: the one in the relay's subnet (RFC 3527 link selection, else giaddr), else the first."""
    giaddr = message.giaddr
    if len(templates) > 1 and giaddr != c.ANY:
        link = relay_suboptions(message.options.get(c.RELAY_AGENT, b"")).get(c.RELAY_LINK_SELECTION, giaddr)
        for template in templates:
            if template.contains(link):
                return template
    return templates[0]


def template_at(templates: tuple[PortTemplate, ...], address: bytes) -> PortTemplate | None:
    """The template of exactly this address (4 bytes)."""
    for template in templates:
        if template.address == address:
            return template
    return None
