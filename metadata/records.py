"""What the metadata trees are rendered from: one frozen document per instance.

The owner of the model makes an `InstanceDocument` whenever something of the instance changes; nothing here refers to
the model. Addresses, prefixes and MACs are canonical text (compressed IPv6, lower-case MAC with colons).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

DEFAULT_DOMAIN = "novalocal"
"""Nova's default of `dhcp_domain`."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the records: immutable, made by keyword."""


class KeyRecord(Record, frozen=True, kw_only=True):
    """A public key of the instance."""

    name: str
    data: str
    type: Literal["ssh", "x509"] = "ssh"


class DeviceRecord(Record, frozen=True, kw_only=True):
    """A tagged device, as `devices` of meta_data.json shows it."""

    type: Literal["nic", "disk", "share"]
    bus: str = "none"
    """pci, usb, scsi, ide, xen or none."""
    address: str = "none"
    mac: str | None = None
    serial: str = ""
    path: str = ""
    tags: tuple[str, ...] = ()
    vlan: int | None = None
    vf_trusted: bool | None = None


class FileRecord(Record, frozen=True, kw_only=True):
    """A file that the guest is asked to write: `files` of meta_data.json, bytes below /openstack/content."""

    path: str
    content: bytes


class RouteRecord(Record, frozen=True, kw_only=True):
    """A route of a subnet beyond the default route."""

    destination: str
    """Prefix in CIDR form."""
    gateway: str


class SubnetRecord(Record, frozen=True, kw_only=True):
    """An address of a link and the subnet it is in."""

    address: str
    cidr: str
    id: str = ""
    gateway: str | None = None
    dns_nameservers: tuple[str, ...] = ()
    routes: tuple[RouteRecord, ...] = ()
    dhcp: bool = True
    """A DHCP server answers in this subnet."""
    ipv6_address_mode: str | None = None


class LinkRecord(Record, frozen=True, kw_only=True):
    """A port of the instance."""

    port_id: str
    network_id: str
    mac: str
    device: str = ""
    """Name of the device on the node, for the link's id; empty: `interfaceN`."""
    type: str = "phy"
    mtu: int | None = None
    security_groups: tuple[str, ...] = ()
    """Ids."""
    subnets: tuple[SubnetRecord, ...] = ()
    """In the order of the port's addresses; Nova shows the first IPv4 and the first IPv6 one."""


class InstanceDocument(Record, frozen=True, kw_only=True):
    """Everything a guest may read about itself."""

    uuid: str
    project_id: str
    name: str = ""
    hostname: str = ""
    """Without the domain."""
    domain: str = DEFAULT_DOMAIN
    """Appended to the host name with a dot; empty: nothing is appended."""
    ec2_id: str = ""
    """Empty: made from the uuid."""
    reservation_id: str = ""
    """Empty: made from the uuid."""
    image_id: str = ""
    kernel_id: str = ""
    ramdisk_id: str = ""
    flavor: str = ""
    availability_zone: str = ""
    region: str = ""
    architecture: str = ""
    """`x86_64`, `arm64`, ...: for the identity document."""
    launch_index: int = 0
    public_ipv4: str | None = None
    security_groups: tuple[str, ...] = ()
    """Names."""
    block_device_mapping: dict[str, str] = {}
    """ami, root, swap, ephemeralN, ebsN; empty: one root disk."""
    keys: tuple[KeyRecord, ...] = ()
    meta: dict[str, str] = {}
    tags: dict[str, str] | None = None
    """`tags/instance` of the EC2 tree; None: the instance does not allow it."""
    user_data: bytes | None = None
    """Served as it is; None: the item does not exist."""
    vendor_data: dict[str, Any] | None = None
    vendor_data2: dict[str, Any] = {}
    """Further keys beside `static`."""
    devices: tuple[DeviceRecord, ...] = ()
    dedicated_cpus: tuple[int, ...] = ()
    files: tuple[FileRecord, ...] = ()
    links: tuple[LinkRecord, ...] = ()

    @property
    def fqdn(self) -> str:
        """The host name as all trees show it."""
        return f"{self.hostname}.{self.domain}" if self.domain else self.hostname

    @property
    def local_ipv4(self) -> str:
        """The first IPv4 address, or empty."""
        addresses = (subnet.address for link in self.links for subnet in link.subnets)
        return next((address for address in addresses if ":" not in address), "")
