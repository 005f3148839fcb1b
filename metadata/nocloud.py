"""cloud-init's NoCloud seed: `/nocloud/{meta-data,user-data,vendor-data,network-config}`.

For hosts without OpenStack: the guest is told `ds=nocloud;s=http://169.254.169.254/nocloud/` (older releases:
`ds=nocloud-net;s=...`), by the kernel's command line or the DMI serial number. The documents are YAML; they are written
as JSON, which YAML readers take, so that nothing a tenant wrote can change their structure.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from metadata.records import InstanceDocument, LinkRecord, SubnetRecord
from metadata.responses import TEXT, Response

API = "nocloud"
META_DATA = "meta-data"
NETWORK_CONFIG = "network-config"
USER_DATA = "user-data"
VENDOR_DATA = "vendor-data"
ITEMS = (META_DATA, NETWORK_CONFIG, USER_DATA, VENDOR_DATA)

# What YAML 1.1 counts as not printable, or as a line break, and JSON leaves as it is (YAML 5.1).
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

_DHCP = {4: "dhcp4", 6: "dhcp6"}
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def find(document: InstanceDocument, elements: tuple[str, ...]) -> Response | None:
    """The answer to a normalised path without its `nocloud` prefix; None: there is no such item.

    Every item is always there, maybe empty: cloud-init gives the seed up when one that it asks for is missing.
    """
    match elements:
        case ():
            return _text("\n".join(ITEMS).encode())
        case ("meta-data",):
            return _text(_yaml(meta_data(document)))
        case ("network-config",):
            return _text(_yaml(network_config(document)))
        case ("user-data",):
            return _text(document.user_data or b"")
        case ("vendor-data",):
            return _text(_vendor_data(document))
        case _:
            return None


def meta_data(document: InstanceDocument) -> dict[str, Any]:
    """What the instance is: the keys that cloud-init reads."""
    content: dict[str, Any] = {
        "instance-id": document.uuid,
        "local-hostname": document.fqdn,
        "launch-index": document.launch_index,
    }
    for name, value in (
        ("availability-zone", document.availability_zone),
        ("region", document.region),
        ("instance-type", document.flavor),
        ("project-id", document.project_id),
    ):
        if value:
            content[name] = value
    if keys := {key.name: key.data for key in document.keys if key.type == "ssh"}:
        content["public-keys"] = keys
    if document.meta:
        content["meta"] = document.meta
    return content


def network_config(document: InstanceDocument) -> dict[str, Any]:
    """Version 2 (netplan's form): every link by its MAC, every address of it."""
    links = (link for link in document.links if link.subnets)
    return {"version": 2, "ethernets": {f"eth{number}": _ethernet(link) for number, link in enumerate(links)}}


def _ethernet(link: LinkRecord) -> dict[str, Any]:
    found: dict[str, Any] = {"match": {"macaddress": link.mac}}
    addresses: list[str] = []
    routes: list[dict[str, str]] = []
    servers: list[str] = []
    for subnet in link.subnets:
        version = 6 if ":" in subnet.address else 4
        if version == 6 and subnet.ipv6_address_mode in ("slaac", "dhcpv6-stateless"):
            found["accept-ra"] = True
        elif subnet.dhcp:
            found[_DHCP[version]] = True
        else:
            addresses.append(f"{subnet.address}/{ipaddress.ip_network(subnet.cidr, strict=False).prefixlen}")
            routes += [route for route in _routes(subnet, version) if route not in routes]
            servers += [server for server in subnet.dns_nameservers if server not in servers]
    if addresses:
        found["addresses"] = addresses
        if link.mtu is not None:
            found["mtu"] = link.mtu
    if routes:
        found["routes"] = routes
    if servers:
        found["nameservers"] = {"addresses": servers}
    return found


def _routes(subnet: SubnetRecord, version: int) -> list[dict[str, str]]:
    gateways = [(_ANYWHERE[version], subnet.gateway)] if subnet.gateway else []
    return [
        {"to": destination, "via": gateway}
        for destination, gateway in (*gateways, *((route.destination, route.gateway) for route in subnet.routes))
    ]


def _vendor_data(document: InstanceDocument) -> bytes:
    """What cloud-init takes out of OpenStack's vendor_data.json: the text below the key `cloud-init`."""
    text = (document.vendor_data or {}).get("cloud-init")
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""


def _yaml(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    return (_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n").encode("utf-8", "surrogatepass")


def _text(body: bytes) -> Response:
    return Response(200, TEXT, body, api=API)
