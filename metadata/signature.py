"""How Nova is told who is asking, and how it knows that it may believe it.

Nova's contract (nova/api/metadata/handler.py): a hexadecimal HMAC-SHA256 over the instance's id, or over the
provider's id when the sender is a load balancer. Project and address are not covered; Nova checks that the project is
the instance's, so the project is always sent. No signature and no secret is ever logged.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

import msgspec

from metadata.nova_settings import Mode

NETWORK = "{network_id}"
"""Stands for the caller's network in a provider's id."""
SIGNATURES = 1024
"""Callers whose headers are remembered: those of as many ports, with one secret."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose documents are asked for: what the model knows of the caller's port, nothing that a guest sent."""

    port_id: str
    network_id: str
    instance_id: str
    project_id: str
    address: str
    """A fixed address of the port."""


class Signer:
    """Makes the identity headers of one mode.

    Raises ValueError for a secret that is empty (Nova takes one, and then everybody can sign) and for a provider mode
    without a provider.
    """

    __slots__ = ("_mode", "_provider_id", "headers", "secrets")

    def __init__(self, secrets: tuple[str, ...], mode: Mode = "instance", provider_id: str = "") -> None:
        if not secrets or not all(secrets):
            raise ValueError("the shared secret is empty")
        if mode == "provider" and not provider_id:
            raise ValueError("the provider's id is empty")
        self.secrets = secrets
        self._mode = mode
        self._provider_id = provider_id
        self.headers = lru_cache(SIGNATURES)(self._headers)
        """All headers that say who is asking: of (subject, secret). Not to be changed."""

    @property
    def names_instance(self) -> bool:
        """Whether Nova is told the instance; otherwise it finds one by address, and may find another."""
        return self._mode == "instance"

    def identity(self, subject: Subject) -> dict[str, str]:
        """The headers that name the caller, without the signature."""
        if self._mode == "provider":
            return {"X-Metadata-Provider": self._provider(subject), "X-Forwarded-For": subject.address}
        return {
            "X-Instance-ID": subject.instance_id,
            "X-Tenant-ID": subject.project_id,
            "X-Forwarded-For": subject.address,
        }

    def _headers(self, subject: Subject, secret: str) -> dict[str, str]:
        if self._mode == "provider":
            signature = {"X-Metadata-Provider-Signature": sign(secret, self._provider(subject))}
        else:
            signature = {"X-Instance-ID-Signature": sign(secret, subject.instance_id)}
        return self.identity(subject) | signature

    def _provider(self, subject: Subject) -> str:
        return self._provider_id.replace(NETWORK, subject.network_id)


def sign(secret: str, text: str) -> str:
    """The signature of `text`: lower-case hexadecimal HMAC-SHA256, key and text in UTF-8."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
