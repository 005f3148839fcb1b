"""What the control API answers about a running node: records with stable JSON field names.

The same types are what the daemon fills in, what the OpenAPI document describes and what the command line shows.
Times are seconds since the epoch (`_at`), spans are seconds (`_seconds`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from dataplane.errors import Mistake
from dataplane.leases import LeaseRow
from dataplane.model import AddressGroup, FirewallPolicy, Instance, Network, NetworkId, Port, SecurityGroup

NetworkState = Literal["pending", "ready", "error"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the records of this module: immutable, every field written out in JSON."""


class NetworkStatus(Reply, frozen=True, kw_only=True):
    """One network on this node: `pending` until its plan is carried out, `error` with the last reason."""

    id: NetworkId
    name: str = ""
    state: NetworkState = "pending"
    ports: int = 0
    """Ports of this network that belong to this node."""
    plugged: int = 0
    """Those whose device exists and is in the bridge."""
    mtu: int = 1500
    vni: int | None = None
    adopted: bool = False
    """True: the namespace is somebody else's and is only served."""
    error: str = ""


class Traffic(Reply, frozen=True, kw_only=True):
    """Totals of one guest-facing service since the start of the process."""

    received: int = 0
    answered: int = 0
    dropped: int = 0
    """Refused or thrown away; the metrics have the reasons."""
    held: int = 0
    """Waiting at this moment for their port to become known."""


class SourceStatus(Reply, frozen=True, kw_only=True):
    """Where the desired state comes from."""

    kind: str = "embedded"
    connected: bool = True
    age_seconds: float = 0.0
    """How old the newest state from the source may be; 0 while connected."""


class Status(Reply, frozen=True, kw_only=True):
    """The whole node on one screen."""

    node: str
    version: str
    pid: int
    started_at: float
    ready: bool
    """First synchronisation done and every listener of a healthy network open."""
    revision: int
    """Position of the newest committed change."""
    applied: int
    """Position that the kernel and the services have been brought to (networks in `error` included)."""
    networks: tuple[NetworkStatus, ...] = ()
    instances: int = 0
    leases: int = 0
    """Leases that are bound now."""
    dhcp: Traffic = Traffic()
    metadata: Traffic = Traffic()
    source: SourceStatus = SourceStatus()
    loop_lag_seconds: float = 0.0
    """Greatest lateness of the event loop in the last ten seconds."""
    resident_bytes: int = 0

    @property
    def in_step(self) -> bool:
        """True when nothing that was committed is still to be carried out."""
        return self.applied >= self.revision


class Counts(Reply, frozen=True, kw_only=True):
    """How many objects of a kind a transaction touches."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0


class Outcome(Reply, frozen=True, kw_only=True):
    """Answer to apply and delete: what was committed and, when asked to wait, what came of it."""

    position: int
    """Position that holds the document; that of the last real change if nothing differed."""
    changed: dict[str, Counts] = {}
    """By kind, as in a document: networks, ports and so on."""
    dry_run: bool = False
    waited: bool = False
    applied: bool = False
    """With `waited`: whether the node got to `position` in time."""
    failed: tuple[NetworkStatus, ...] = ()
    """With `waited`: networks of this node in state `error`."""


class Waited(Reply, frozen=True, kw_only=True):
    """Answer to wait."""

    position: int
    applied: bool
    failed: tuple[NetworkStatus, ...] = ()


class Networks(Reply, frozen=True, kw_only=True):
    """Answer to `GET /v1/networks`."""

    networks: tuple[Network, ...]


class Ports(Reply, frozen=True, kw_only=True):
    """Answer to `GET /v1/ports`."""

    ports: tuple[Port, ...]


class Instances(Reply, frozen=True, kw_only=True):
    """Answer to `GET /v1/instances`."""

    instances: tuple[Instance, ...]


class SecurityGroups(Reply, frozen=True, kw_only=True):
    """Answer to `GET /v1/security_groups`."""

    security_groups: tuple[SecurityGroup, ...]


class AddressGroups(Reply, frozen=True, kw_only=True):
    """Answer to `GET /v1/address_groups`."""

    address_groups: tuple[AddressGroup, ...]


class FirewallPolicies(Reply, frozen=True, kw_only=True):
    """Answer to `GET /v1/firewall_policies`."""

    firewall_policies: tuple[FirewallPolicy, ...]


class Leases(Reply, frozen=True, kw_only=True):
    """Answer to `GET /v1/leases`."""

    leases: tuple[LeaseRow, ...]


class DeleteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ids to delete in one transaction, by kind."""

    networks: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    address_groups: tuple[str, ...] = ()
    firewall_policies: tuple[str, ...] = ()


class Fault(Reply, frozen=True, kw_only=True):
    """One mistake in a document: `path` as the operator wrote it."""

    path: str
    reason: str


class Problem(Reply, frozen=True, kw_only=True):
    """Every answer that is not a success."""

    error: str
    """One line."""
    hint: str = ""
    """The next step."""
    mistakes: tuple[Fault, ...] = ()


def faults(mistakes: Iterable[Mistake]) -> tuple[Fault, ...]:
    """Mistakes of a DocumentError in their JSON form."""
    return tuple(Fault(path=mistake.path, reason=mistake.reason) for mistake in mistakes)
