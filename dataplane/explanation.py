"""What `nodeplane explain` asks and is told: why a request or a packet fares as it does. No secret is in it."""

from __future__ import annotations

from typing import Literal

import msgspec

from dataplane.model import Ip, Mac, NetworkId, PortId
from dataplane.status import Reply

METHODS = ("GET", "HEAD")
"""What can be asked without changing anything."""
PATH = "/openstack/latest/meta_data.json"


class MetadataQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A request as a guest would make it."""

    network: NetworkId
    address: Ip
    mac: Mac | None = None
    """None: as the metadata agent's socket sees it, where the address alone counts."""
    path: str = PATH
    method: Literal["GET", "HEAD"] = "GET"
    token: bool = False
    """With a token that is valid, made for this question and used nowhere else."""


class MetadataPolicy(Reply, frozen=True, kw_only=True):
    """What the instance allows, its own options and the node's taken together."""

    http_endpoint: Literal["enabled", "disabled"]
    http_tokens: Literal["optional", "required"]
    http_put_response_hop_limit: int
    instance_metadata_tags: Literal["enabled", "disabled"]


class Upstream(Reply, frozen=True, kw_only=True):
    """The request that Nova gets."""

    method: str
    url: str
    headers: dict[str, str]
    """Those that say who is asking, without the signature."""


class MetadataExplanation(Reply, frozen=True, kw_only=True):
    """Why the request is answered as it is, in the order in which it is decided."""

    request_id: str
    network: NetworkId
    address: Ip
    mac: Mac | None
    method: str
    path: str
    by: Literal["mac", "address"]
    """What says who is asking: the MAC of the SYN, to which the address must fit, or the address alone."""
    verdict: Literal["known", "unknown", "refused"]
    reason: str = ""
    """Of a caller that is not known: the reason that is also in the metrics."""
    meaning: str = ""
    """The same as a sentence."""
    port: str = ""
    instance: str = ""
    project: str = ""
    backend: Literal["own", "nova", ""] = ""
    policy: MetadataPolicy | None = None
    decided_by: Literal["identity", "policy", "backend"] = "identity"
    """Who gave the answer."""
    upstream: Upstream | None = None
    status: int = 0
    """Of the answer; 503 for an unknown caller, who is held first."""
    content_type: str = ""
    size: int = 0
    """Bytes of the answer's body."""
    seconds: float = 0.0
    """How long the answer took."""


class PacketQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A packet that a port sends or gets."""

    port: PortId
    packet: str
    """See `five_tuple`."""
    direction: Literal["ingress", "egress"] | None = None
    """To the guest or from it; None: as the addresses tell."""
    mac: Mac | None = None
    """Source MAC of what the guest sends; None: the port's."""


class PacketExplanation(Reply, frozen=True, kw_only=True):
    """What becomes of the packet when it begins a connection, and why."""

    network: NetworkId
    port: str
    direction: Literal["ingress", "egress"]
    packet: str
    mac: Mac | None
    verdict: Literal["allow", "drop", "reject"]
    stateful: bool
    """Of an allowed packet: whether the connection would be tracked, so that its answers pass without a rule."""
    reason: str
    meaning: str
    """The same as a sentence."""
    rule: str = ""
    """Id of the rule that decided, of the group or of the firewall policy."""
    group: str = ""
    """Id of the security group with the rule."""
    group_name: str = ""
    remote_group: str = ""
    """The security group that the rule names and the other end is in."""
    member: str = ""
    """Id of a port of that group with the other end's address."""
    address_group: str = ""
    """The address group that the rule names and the other end is in."""
    source: str = ""
    """Of what the guest sends: what lets it use its source address."""
    firewall_policy: str = ""
    """Id of the port's firewall policy in this direction."""
    groups: tuple[str, ...] = ()
    """Ids of the port's security groups."""
    missing: tuple[str, ...] = ()
    """Groups and policies that the port names and that do not exist."""
    connection: Literal["new", "invalid", "untracked"] = "untracked"
    """What connection tracking says of the packet when it knows of no connection, as here: this release carries no
    packets. invalid: it begins none. untracked: it is none that is tracked."""
