"""What `nodeplane explain metadata` asks and is told: why a request is answered as it is. No secret is in it."""

from __future__ import annotations

from typing import Literal

import msgspec

from dataplane.model import Ip, Mac, NetworkId
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
    """Those that say who is asking; `...` stands for a signature."""


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
