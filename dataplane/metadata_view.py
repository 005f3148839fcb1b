"""From the model to what the metadata trees are rendered from."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from dataplane.desired import Desired
from dataplane.model import Device, Instance, Network, Port, Subnet
from metadata.records import (
    DeviceRecord,
    FileRecord,
    InstanceDocument,
    KeyRecord,
    LinkRecord,
    RouteRecord,
    SubnetRecord,
)


def document(desired: Desired, instance: Instance, domain: str) -> InstanceDocument:
    """Everything `instance` may read about itself; `domain` is appended to its host name.

    Links are in the order of the ports' ids, so that `network0` is the same after every restart.
    """
    ports = sorted(desired.ports_of_instance(instance.id), key=lambda port: port.id)
    return InstanceDocument(
        uuid=instance.id,
        project_id=instance.project_id,
        name=instance.name,
        hostname=instance.hostname or host_name(instance),
        domain=domain,
        ec2_id=instance.ec2_id,
        reservation_id=instance.reservation_id,
        image_id=instance.image_id,
        kernel_id=instance.kernel_id,
        ramdisk_id=instance.ramdisk_id,
        flavor=instance.flavor,
        availability_zone=instance.availability_zone,
        launch_index=instance.launch_index,
        public_ipv4=instance.public_ipv4,
        security_groups=instance.security_groups,
        block_device_mapping=instance.block_device_mapping,
        keys=tuple(KeyRecord(name=key.name, data=key.data, type=key.type) for key in instance.keys),
        meta=instance.meta,
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
        subnets=tuple(_subnet(fixed.ip_address, subnets[fixed.subnet_id]) for fixed in port.fixed_ips),
    )


def _subnet(address: str, subnet: Subnet) -> SubnetRecord:
    return SubnetRecord(
        address=address,
        cidr=subnet.cidr,
        gateway=subnet.gateway_ip,
        dns_nameservers=_servers(subnet.dns_nameservers),
        routes=tuple(RouteRecord(destination=route.destination, gateway=route.nexthop) for route in subnet.host_routes),
        dhcp=subnet.enable_dhcp,
        ipv6_address_mode=subnet.ipv6_address_mode,
    )


def _servers(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(address for address in addresses if address not in ("0.0.0.0", "::"))
