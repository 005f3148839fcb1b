"""Documents that the tests of the metadata package share."""

from __future__ import annotations

from metadata.records import (
    DeviceRecord,
    FileRecord,
    InstanceDocument,
    KeyRecord,
    LinkRecord,
    RouteRecord,
    SubnetRecord,
)

NOW = 1_800_000_000.0
"""2027-01-15: every version there is has come."""
UUID = "b65cee2f-8c69-4aeb-be2f-f79742548fc2"

LINK = LinkRecord(
    port_id="port-1",
    network_id="net-1",
    mac="fa:16:3e:00:00:01",
    device="tapport-1",
    mtu=1450,
    subnets=(
        SubnetRecord(
            address="10.0.0.5",
            cidr="10.0.0.0/24",
            gateway="10.0.0.1",
            dns_nameservers=("10.0.0.2", "10.0.0.3"),
            routes=(RouteRecord(destination="192.168.0.0/16", gateway="10.0.0.9"),),
        ),
    ),
)

FULL = InstanceDocument(
    uuid=UUID,
    project_id="blue-project",
    name="Blue one",
    hostname="blue-one",
    ec2_id="i-0000002a",
    reservation_id="r-abcdefgh",
    image_id="ami-00000003",
    flavor="m1.small",
    availability_zone="nova",
    launch_index=0,
    security_groups=("default", "web"),
    block_device_mapping={"ami": "vda", "root": "/dev/vda"},
    keys=(KeyRecord(name="laptop", data="ssh-ed25519 AAAA me"),),
    meta={"role": "db"},
    user_data=b"#cloud-config\n\x00\xff\x1f\x8b",
    vendor_data={"cloud": "plane"},
    vendor_data2={"site": {"rack": 4}},
    devices=(
        DeviceRecord(
            type="nic", bus="pci", address="0000:00:02.0", mac=LINK.mac, tags=("public",), vlan=7, vf_trusted=True
        ),
        DeviceRecord(type="disk", bus="scsi", address="0:0:0:1", serial="disk-7", path="/dev/sdb", tags=("data",)),
        DeviceRecord(type="share", tags=("home",)),
    ),
    dedicated_cpus=(2, 3),
    files=(FileRecord(path="/etc/one", content=b"one\n"), FileRecord(path="/etc/two", content=b"\x00two")),
    links=(LINK,),
)

BARE = InstanceDocument(uuid=UUID, project_id="p", hostname="bare", domain="")
