"""Which backend answers a port's guests: the node's own documents, or Nova; by network, or for the whole node."""

from __future__ import annotations

from typing import Literal

from dataplane import fields, metadata_view
from dataplane.model import Instance, Network, Port
from metadata.backend import Backend, DurablePasswords, OwnBackend
from metadata.identity import NO_INSTANCE, NO_NOVA, OTHER_PROJECT, Refused, Unknown
from metadata.nova import NovaBackend
from metadata.nova_proxy import NovaProxy
from metadata.signature import Subject
from metadata.tree import InstanceTree

Choice = Literal["own", "nova"]


class Backends:
    """Makes backends; one per port, kept by whoever asked for it."""

    def __init__(
        self,
        passwords: DurablePasswords | None = None,
        nova: NovaProxy | None = None,
        default: Choice = "own",
    ) -> None:
        """`default` is for networks that do not say it; without `passwords` guests cannot set any."""
        self._passwords = passwords
        self._nova = nova
        self._default: Choice = default

    def choice(self, network: Network) -> Choice:
        """Whose documents the network's guests get."""
        return network.metadata_backend or self._default

    def own(self, tree: InstanceTree) -> Backend:
        """Documents of the store."""
        return OwnBackend(tree, self._passwords)

    def nova(self, port: Port, instance: Instance | None) -> Backend | Unknown | Refused:
        """Documents of Nova, which need not be in the store: a port that names instance and project is enough."""
        if self._nova is None:
            return NO_NOVA
        project = port.project_id or (instance.project_id if instance is not None else "")
        try:
            instance_id = fields.uuid(port.device_id)
        except ValueError:
            return NO_INSTANCE
        if not project:
            return NO_INSTANCE
        subject = Subject(
            port_id=port.id,
            network_id=port.network_id,
            instance_id=instance_id,
            project_id=project,
            address=_address(port),
        )
        return NovaBackend(self._nova, subject)


def same_project(port: Port, instance: Instance | None) -> Refused | None:
    """A refusal when the port is another project's than the instance that it names."""
    return None if instance is None or metadata_view.may_name(port, instance) else OTHER_PROJECT


def retire(backend: Backend) -> None:
    """The port, its instance or its network is not what it was: nothing that the backend knows holds any more."""
    if isinstance(backend, NovaBackend):
        backend.retire()


def _address(port: Port) -> str:
    """The port's first IPv4 address, or its first one."""
    addresses = [fixed.ip_address for fixed in port.fixed_ips]
    return next((address for address in addresses if ":" not in address), addresses[0] if addresses else "")
