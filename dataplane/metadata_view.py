"""From the model to what the metadata trees are rendered from."""

from __future__ import annotations

import base64
import platform
import re
from collections.abc import Iterable

import msgspec

from dataplane.desired import Desired
from dataplane.model import Device, Instance, MetadataOptions, Network, Port, Subnet
from metadata.access import OPEN, Access
from metadata.records import (
    DeviceRecord,
    FileRecord,
    InstanceDocument,
    KeyRecord,
    LinkRecord,
    RouteRecord,
    SubnetRecord,
)

NO_OPTIONS = MetadataOptions()
_ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64"}
_MACHINE = platform.machine()


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the node says of every instance that does not say it itself."""

    domain: str
    """Appended to host names."""
    region: str = ""
    """Empty: made from the availability zone."""
    access: Access = OPEN


def access(instance: Instance | None, defaults: Access) -> Access:
    """The instance's `metadata_options` over the node's; the node's alone for one that is only known to Nova."""
    options = (instance.metadata_options if instance is not None else None) or NO_OPTIONS
    endpoint, tokens, tags = options.http_endpoint, options.http_tokens, options.instance_metadata_tags
    return Access(
        http_endpoint=defaults.http_endpoint if endpoint is None else endpoint == "enabled",
        http_tokens_required=defaults.http_tokens_required if tokens is None else tokens == "required",
        hop_limit=options.http_put_response_hop_limit or defaults.hop_limit,
        tags=defaults.tags if tags is None else tags == "enabled",
    )


def document(desired: Desired, instance: Instance, defaults: Defaults) -> InstanceDocument:
    """Everything `instance` may read about itself.

    Links are in the order of the ports' ids, so that `network0` is the same after every restart. A port of another
    project that names the instance is none of its links.
    """
    named = desired.ports_of_instance(instance.id)
    ports = sorted((port for port in named if may_name(port, instance)), key=lambda port: port.id)
    return InstanceDocument(
        uuid=instance.id,
        project_id=instance.project_id,
        name=instance.name,
        hostname=instance.hostname or host_name(instance),
        domain=defaults.domain,
        ec2_id=instance.ec2_id,
        reservation_id=instance.reservation_id,
        image_id=instance.image_id,
        kernel_id=instance.kernel_id,
        ramdisk_id=instance.ramdisk_id,
        flavor=instance.flavor,
        availability_zone=instance.availability_zone,
        region=defaults.region or re.sub("(?<=[0-9])[a-z]$", "", instance.availability_zone),
        architecture=_ARCHITECTURES.get(_MACHINE, _MACHINE),
        launch_index=instance.launch_index,
        public_ipv4=instance.public_ipv4,
        security_groups=instance.security_groups,
        block_device_mapping=instance.block_device_mapping,
        keys=tuple(KeyRecord(name=key.name, data=key.data, type=key.type) for key in instance.keys),
        meta=instance.meta,
        tags=instance.meta if access(instance, defaults.access).tags else None,
        user_data=_bytes(instance.user_data, instance.user_data_base64),
        vendor_data=instance.vendor_data,
        vendor_data2=instance.vendor_data2,
        devices=tuple(_device(device) for device in instance.devices),
        dedicated_cpus=instance.dedicated_cpus,
        files=tuple(
            FileRecord(path=file.path, content=_bytes(file.content, file.content_base64) or b"")
            for file in instance.files
        ),
        links=tuple(_link(port, desired.networks[port.network_id]) for port in ports),
    )


def may_name(port: Port, instance: Instance) -> bool:
    """Whether the port may be a port of the instance that its `device_id` names.

    CVE-2013-6419: whoever may write a port's device_id can name somebody else's instance.
    """
    return port.project_id in ("", instance.project_id)


def host_name(instance: Instance) -> str:
    """A host name made from the instance's name, or from its id if nothing of that can be used (RFC 1123 2.1)."""
    letters = (letter if letter.isascii() and letter.isalnum() else "-" for letter in instance.name.lower())
    return "".join(letters).strip("-")[:63].rstrip("-") or f"host-{instance.id}"


def _bytes(text: str | None, encoded: str | None) -> bytes | None:
    if encoded is not None:
        return base64.b64decode(encoded)
    return None if text is None else text.encode()


def _device(device: Device) -> DeviceRecord:
    return DeviceRecord(
        type=device.type,
        bus=device.bus,
        address=device.address or "none",
        mac=device.mac,
        serial=device.serial,
        path=device.path,
        tags=device.tags,
        vlan=device.vlan,
        vf_trusted=device.vf_trusted,
    )


def _link(port: Port, network: Network) -> LinkRecord:
    subnets = {subnet.id: subnet for subnet in network.subnets}
    return LinkRecord(
        port_id=port.id,
        network_id=network.id,
        mac=port.mac_address,
        device=port.device_name,
        mtu=network.mtu,
        security_groups=port.security_groups or (),
        subnets=tuple(_subnet(fixed.ip_address, subnets[fixed.subnet_id]) for fixed in port.fixed_ips),
    )


def _subnet(address: str, subnet: Subnet) -> SubnetRecord:
    return SubnetRecord(
        address=address,
        cidr=subnet.cidr,
        id=subnet.id,
        gateway=subnet.gateway_ip,
        dns_nameservers=_servers(subnet.dns_nameservers),
        routes=tuple(RouteRecord(destination=route.destination, gateway=route.nexthop) for route in subnet.host_routes),
        dhcp=subnet.enable_dhcp,
        ipv6_address_mode=subnet.ipv6_address_mode,
    )


def _servers(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(address for address in addresses if address not in ("0.0.0.0", "::"))
