"""The nouns of nodeplane: frozen records with the Neutron API's field names.

Addresses, prefixes and MACs are text in canonical form (`ipaddress`' compressed form, lower-case MAC with
colons): `documents.decode` makes them so and checks every rule, so a record that exists can be trusted. Ids are
opaque text and unique within their kind. No key is ever an address alone: see `desired.Desired` for the indexes
(network, address) and (network, MAC).
"""

from __future__ import annotations

from typing import Any, Literal, NewType

import msgspec

NetworkId = NewType("NetworkId", str)
SubnetId = NewType("SubnetId", str)
PortId = NewType("PortId", str)
InstanceId = NewType("InstanceId", str)
SecurityGroupId = NewType("SecurityGroupId", str)
AddressGroupId = NewType("AddressGroupId", str)
FirewallPolicyId = NewType("FirewallPolicyId", str)

Ip = NewType("Ip", str)
"""An IPv4 or IPv6 address in canonical text."""
Mac = NewType("Mac", str)
"""A unicast MAC address, lower case, colons."""

Ipv6Mode = Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]

METADATA_IPV4 = "169.254.169.254"
METADATA_IPV6_LINK = "fe80::a9fe:a9fe"
"""OpenStack's; guests name it with the zone of their device."""
METADATA_IPV6 = "fd00:ec2::254"
"""EC2's."""
METADATA_PORT = 80

# Chosen: the metadata agents' device naming, so that a tap made by Nova or libvirt is found without configuration.
TAP_PREFIX = "tap"
TAP_ID_CHARACTERS = 11


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all records: immutable, unknown keys refused, defaults left out of JSON."""


class HostRoute(Record, frozen=True):
    """A route announced to guests by DHCP option 121 (RFC 3442)."""

    destination: str
    """Prefix in CIDR form."""
    nexthop: Ip


class AllocationPool(Record, frozen=True):
    """An inclusive range of addresses of the subnet."""

    start: Ip
    end: Ip


class Subnet(Record, frozen=True):
    """An address range of a network."""

    id: SubnetId
    cidr: str
    name: str = ""
    gateway_ip: Ip | None = None
    """None: guests get no router (option 3 is suppressed)."""
    dns_nameservers: tuple[Ip, ...] = ()
    """`0.0.0.0` or `::` announces no server."""
    host_routes: tuple[HostRoute, ...] = ()
    enable_dhcp: bool = True
    ipv6_ra_mode: Ipv6Mode | None = None
    ipv6_address_mode: Ipv6Mode | None = None
    allocation_pools: tuple[AllocationPool, ...] = ()
    segment_id: str | None = None


class Adopt(Record, frozen=True):
    """An existing namespace and device to serve on; nothing in it is created, changed or removed."""

    netns: str
    """Name below /run/netns."""
    device: str


class Network(Record, frozen=True):
    """A tenant's layer-2 segment."""

    id: NetworkId
    name: str = ""
    vni: int | None = None
    """VXLAN network identifier, 1 to 2^24 - 1 (RFC 7348)."""
    mtu: int = 1500
    """Bytes of layer 3, 576 to 65535 (1280 or more with an IPv6 subnet)."""
    dns_domain: str = ""
    subnets: tuple[Subnet, ...] = ()
    adopt: Adopt | None = None
    dhcp_relays: tuple[Ip, ...] = ()
    """Relay agents (giaddr) whose requests are answered; others are dropped."""
    metadata_backend: Literal["own", "nova"] | None = None
    """Whose documents guests get: the store's or Nova's; None: as the node's `metadata.backend` says."""


class FixedIp(Record, frozen=True):
    """An address of a port."""

    subnet_id: SubnetId
    ip_address: Ip


class ExtraDhcpOpt(Record, frozen=True):
    """A DHCP option of one port: dnsmasq's option name or a number, and its value as text."""

    opt_name: str
    opt_value: str | None = None
    ip_version: Literal[4, 6] = 4


class AllowedAddressPair(Record, frozen=True):
    """A further source address (or prefix), with its MAC if it is not the port's."""

    ip_address: str
    mac_address: Mac | None = None


class Port(Record, frozen=True):
    """A VM's attachment to a network."""

    id: PortId
    network_id: NetworkId
    mac_address: Mac
    name: str = ""
    fixed_ips: tuple[FixedIp, ...] = ()
    device_id: str = ""
    """The instance's id, or any other owner's."""
    device_owner: str = ""
    device: str = ""
    """Name of the network device to plug; empty: `tap` and the first 11 characters of the id."""
    dns_name: str = ""
    extra_dhcp_opts: tuple[ExtraDhcpOpt, ...] = ()
    security_groups: tuple[str, ...] | None = None
    """Ids, which may come later; None: the `default` group of the port's project."""
    allowed_address_pairs: tuple[AllowedAddressPair, ...] = ()
    host: str = ""
    """The node the port is on; empty: any node that is told of it."""
    project_id: str = ""
    """The project that the port belongs to; empty: that of its instance."""
    port_security_enabled: bool = True
    """False: nothing of the port is filtered by addresses or groups, as with a `device_owner` of `network:...`."""
    ingress_firewall_policy_id: FirewallPolicyId | None = None
    """What is sent to the guest must pass this policy, too."""
    egress_firewall_policy_id: FirewallPolicyId | None = None

    @property
    def device_name(self) -> str:
        """The network device that is plugged into the network's bridge."""
        return self.device or TAP_PREFIX + self.id[:TAP_ID_CHARACTERS]


class SecurityGroupRule(Record, frozen=True):
    """Something that a security group allows; what no rule allows is dropped."""

    id: str
    direction: Literal["ingress", "egress"]
    """To the guest, or from it."""
    ethertype: Literal["IPv4", "IPv6"] = "IPv4"
    protocol: str | None = None
    """A name of `protocols.NUMBERS` or a number; None: all."""
    port_range_min: int | None = None
    """First destination port; of ICMP the type."""
    port_range_max: int | None = None
    """Last destination port; of ICMP the code."""
    remote_ip_prefix: str | None = None
    """The other end's address or prefix; of this and the next two, one at most."""
    remote_group_id: SecurityGroupId | None = None
    """The other end is an address of a port in this group."""
    remote_address_group_id: AddressGroupId | None = None
    description: str = ""


class SecurityGroup(Record, frozen=True):
    """What the ports that are in it may send and get."""

    id: SecurityGroupId
    name: str = ""
    """`default`: the group of its project's ports that name none."""
    project_id: str = ""
    description: str = ""
    stateful: bool = True
    """False: connections are not tracked, and answers need rules of their own."""
    security_group_rules: tuple[SecurityGroupRule, ...] | None = None
    """None: what the Neutron API gives to a new group (see `security.rules_of`)."""


class AddressGroup(Record, frozen=True):
    """Addresses that rules refer to together."""

    id: AddressGroupId
    name: str = ""
    project_id: str = ""
    description: str = ""
    addresses: tuple[str, ...] = ()
    """Addresses or prefixes of both families."""


class FirewallRule(Record, frozen=True):
    """A line of an ordered list; the first that matches decides."""

    id: str
    action: Literal["allow", "deny", "reject"]
    """deny: drop in silence; reject: drop, and say so to the sender."""
    name: str = ""
    enabled: bool = True
    ip_version: Literal[4, 6] = 4
    protocol: str | None = None
    source_ip_address: str | None = None
    """An address or prefix; None: any."""
    destination_ip_address: str | None = None
    source_port: str | None = None
    """A port, or the first and last with a colon between them."""
    destination_port: str | None = None


class FirewallPolicy(Record, frozen=True):
    """An ordered list of rules; what none of them matches is dropped."""

    id: FirewallPolicyId
    name: str = ""
    project_id: str = ""
    description: str = ""
    firewall_rules: tuple[FirewallRule, ...] = ()


class Key(Record, frozen=True):
    """A public key of an instance."""

    name: str
    data: str
    type: Literal["ssh", "x509"] = "ssh"


class Device(Record, frozen=True):
    """A tagged device of an instance, as `devices` of meta_data.json shows it."""

    type: Literal["nic", "disk", "share"]
    bus: str = "none"
    address: str = ""
    mac: Mac | None = None
    serial: str = ""
    path: str = ""
    tags: tuple[str, ...] = ()
    vlan: int | None = None
    vf_trusted: bool | None = None


class File(Record, frozen=True):
    """A file to inject: served below /openstack/content."""

    path: str
    content: str = ""
    content_base64: str | None = None


class MetadataOptions(Record, frozen=True):
    """How an instance may read its metadata, under AWS's names; what is null is as `[metadata]` says."""

    http_endpoint: Literal["enabled", "disabled"] | None = None
    """Whether anything is answered at all."""
    http_tokens: Literal["optional", "required"] | None = None
    """Whether every request needs a token."""
    http_put_response_hop_limit: int | None = None
    """IP TTL of the answer that carries a token, 1 to 64."""
    instance_metadata_tags: Literal["enabled", "disabled"] | None = None
    """Whether `meta` is shown as `tags/instance`."""


class Instance(Record, frozen=True):
    """A VM and the documents it may read."""

    id: InstanceId
    """A UUID in canonical text."""
    project_id: str
    name: str = ""
    hostname: str = ""
    """Empty: made from the name."""
    keys: tuple[Key, ...] = ()
    user_data: str | None = None
    user_data_base64: str | None = None
    """The same as bytes; at most one of the two."""
    ec2_id: str = ""
    """`i-` and hexadecimal digits; empty: made from the UUID, always the same."""
    meta: dict[str, str] = {}
    availability_zone: str = ""
    flavor: str = ""
    image_id: str = ""
    kernel_id: str = ""
    ramdisk_id: str = ""
    reservation_id: str = ""
    launch_index: int = 0
    security_groups: tuple[str, ...] = ()
    """Names, for the EC2 tree."""
    public_ipv4: Ip | None = None
    block_device_mapping: dict[str, str] = {}
    vendor_data: dict[str, Any] | None = None
    vendor_data2: dict[str, Any] = {}
    devices: tuple[Device, ...] = ()
    dedicated_cpus: tuple[int, ...] = ()
    files: tuple[File, ...] = ()
    metadata_options: MetadataOptions | None = None


class DesiredState(Record, frozen=True):
    """A document of `nodeplane apply`, and the whole of what a store holds."""

    networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    instances: tuple[Instance, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    address_groups: tuple[AddressGroup, ...] = ()
    firewall_policies: tuple[FirewallPolicy, ...] = ()


Object = Network | Port | Instance | SecurityGroup | AddressGroup | FirewallPolicy
Kind = Literal["networks", "ports", "instances", "security_groups", "address_groups", "firewall_policies"]
CLASSES: dict[Kind, type[Object]] = {
    "networks": Network,
    "ports": Port,
    "instances": Instance,
    "security_groups": SecurityGroup,
    "address_groups": AddressGroup,
    "firewall_policies": FirewallPolicy,
}
"""In the order in which a document names them."""
KINDS: tuple[Kind, ...] = tuple(CLASSES)
SINGULAR: dict[Kind, str] = {
    "networks": "network",
    "ports": "port",
    "instances": "instance",
    "security_groups": "security_group",
    "address_groups": "address_group",
    "firewall_policies": "firewall_policy",
}


class Change(msgspec.Struct, frozen=True):
    """One committed transaction of a source, in the order of `position` (a growing revision)."""

    position: int
    puts: tuple[Object, ...] = ()
    deletes: tuple[tuple[Kind, str], ...] = ()
