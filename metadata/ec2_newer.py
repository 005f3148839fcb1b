"""What AWS added to the EC2 tree after 2009-04-04, the last version that Nova knows.

Names, forms and the dates of their release are AWS's; what the model has nothing for is not there (iam, events, spot,
signatures). Ids are made of ours, always the same for the same object.
"""

from __future__ import annotations

import json
from typing import Any

from metadata.ec2_ids import instance_id, plain, short_id
from metadata.records import InstanceDocument, LinkRecord

Leaf = str | bytes
Directory = dict[str, "Leaf | Directory"]

PARTITION = "openstack"
"""`services/partition`: not AWS's, so that no client takes AWS's addresses for ours."""
IDENTITY_VERSION = "2017-09-30"
"""Of the form of the identity document."""

_UNSAFE_NAMES = (".", "..")


def meta_data(document: InstanceDocument, date: str) -> Directory:
    """What a version (YYYY-MM-DD) adds to `meta-data/`; directories of that name are to be merged."""
    first = document.links[0] if document.links else None
    ipv6 = next((address for link in document.links for address in _addresses(link, 6)), "")
    macs: Directory = {}
    for number, link in enumerate(document.links):
        macs.setdefault(link.mac, _interface(document, link, number, date))
    added: Directory = {}
    network: Directory = {"interfaces": {"macs": macs}}
    _put(added, date, "2011-01-01", "mac", first.mac if first else "")
    _put(added, date, "2011-01-01", "network", network if macs else "")
    services: Directory = {}
    _put(services, date, "2014-02-25", "domain", document.domain)
    _put(services, date, "2015-10-20", "partition", PARTITION)
    _put(added, date, "2014-02-25", "services", services or "")
    _put(added, date, "2019-10-01", "instance-life-cycle", "on-demand")
    placement: Directory = {}
    _put(placement, date, "2019-10-01", "availability-zone-id", document.availability_zone)
    _put(placement, date, "2020-08-24", "region", document.region)
    _put(added, date, "2019-10-01", "placement", placement or "")
    _put(added, date, "2021-01-03", "ipv6", ipv6)
    if document.tags is not None and date >= "2021-03-23":
        # A name that is no single element of a path cannot be asked for.
        named = {key: value for key, value in document.tags.items() if key == plain(key) and key not in _UNSAFE_NAMES}
        added["tags"] = {"instance": {key: value for key, value in named.items() if key and "/" not in key}}
    return added


def dynamic(document: InstanceDocument) -> Directory:
    """`dynamic/`: the identity document, without a signature."""
    return {"instance-identity": {"document": json.dumps(_identity(document), indent=2)}}


def _identity(document: InstanceDocument) -> dict[str, Any]:
    return {
        "accountId": document.project_id,
        "architecture": document.architecture,
        "availabilityZone": document.availability_zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": short_id("ami", document.image_id) if document.image_id else None,
        "instanceId": instance_id(document),
        "instanceType": document.flavor,
        "kernelId": short_id("aki", document.kernel_id) if document.kernel_id else None,
        "pendingTime": None,
        "privateIp": document.local_ipv4 or None,
        "ramdiskId": short_id("ari", document.ramdisk_id) if document.ramdisk_id else None,
        "region": document.region,
        "version": IDENTITY_VERSION,
    }


def _interface(document: InstanceDocument, link: LinkRecord, number: int, date: str) -> Directory:
    """`network/interfaces/macs/<mac>/`."""
    ipv4, ipv6 = _addresses(link, 4), _addresses(link, 6)
    blocks4, blocks6 = _prefixes(link, 4), _prefixes(link, 6)
    subnet = next((subnet.id for subnet in link.subnets if subnet.id), "")
    public = document.public_ipv4 if number == 0 and ipv4 else None
    found: Directory = {}
    associations: Directory = {public: ipv4[0]} if public else {}
    for since, name, value in (
        ("2011-01-01", "device-number", str(number)),
        ("2011-01-01", "interface-id", short_id("eni", link.port_id)),
        ("2011-01-01", "ipv4-associations", associations or ""),
        ("2016-06-30", "ipv6s", "\n".join(ipv6)),
        ("2011-01-01", "local-hostname", document.fqdn),
        ("2011-01-01", "local-ipv4s", "\n".join(ipv4)),
        ("2011-01-01", "mac", link.mac),
        ("2020-11-01", "network-card-index", "0"),
        ("2011-01-01", "owner-id", document.project_id),
        ("2011-01-01", "public-hostname", document.fqdn if public else ""),
        ("2011-01-01", "public-ipv4s", public or ""),
        ("2011-01-01", "security-groups", "\n".join(map(plain, document.security_groups))),
        ("2011-01-01", "security-group-ids", "\n".join(short_id("sg", group) for group in link.security_groups)),
        ("2011-01-01", "subnet-id", short_id("subnet", subnet) if subnet else ""),
        ("2011-01-01", "subnet-ipv4-cidr-block", blocks4[0] if blocks4 else ""),
        ("2016-06-30", "subnet-ipv6-cidr-blocks", "\n".join(blocks6)),
        ("2011-01-01", "vpc-id", short_id("vpc", link.network_id)),
        ("2011-01-01", "vpc-ipv4-cidr-block", blocks4[0] if blocks4 else ""),
        ("2016-06-30", "vpc-ipv4-cidr-blocks", "\n".join(blocks4)),
        ("2016-06-30", "vpc-ipv6-cidr-blocks", "\n".join(blocks6)),
    ):
        _put(found, date, since, name, value)
    return found


def _put(directory: Directory, date: str, since: str, name: str, value: Leaf | Directory) -> None:
    """Add what a version has and what is not empty."""
    if date >= since and value:
        directory[name] = value


def _addresses(link: LinkRecord, version: int) -> list[str]:
    return [subnet.address for subnet in link.subnets if (":" in subnet.address) == (version == 6)]


def _prefixes(link: LinkRecord, version: int) -> list[str]:
    found = (subnet.cidr for subnet in link.subnets if (":" in subnet.address) == (version == 6))
    return list(dict.fromkeys(found))
