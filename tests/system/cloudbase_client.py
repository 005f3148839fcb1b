"""Run cloudbase-init's own metadata services in this namespace and print what they found, as JSON.

Usage: cloudbase_client.py [PASSWORD], with the Python of an environment that has cloudbase-init. Nothing of it is
replaced: its services need no Windows, and only their time between two attempts is shortened.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import requests
from cloudbaseinit import conf  # type: ignore[import-not-found]
from cloudbaseinit.metadata.services import base, ec2service, httpservice  # type: ignore[import-not-found]
from oslo_log import log  # type: ignore[import-not-found]


def post(service: Any, password: bytes) -> object:
    """True when the password was taken; the status when it was not."""
    try:
        return service.post_password(password)
    except requests.HTTPError as failure:
        return getattr(failure.response, "status_code", None)


def absent(service: Any, path: str) -> bool:
    """Whether it takes the path as one that is not there, and does not ask again."""
    try:
        service._get_cache_data(path)
    except base.NotExistingMetadataException:
        return True
    return False


def details(found: Any) -> dict[str, object]:
    return {
        "links": [[link.mac_address, link.type, link.mtu] for link in found.links],
        "networks": [
            [network.address_cidr, network.dns_nameservers, [[r.network_cidr, r.gateway] for r in network.routes]]
            for network in found.networks
        ],
        "services": [list(service.addresses) for service in found.services],
    }


def main() -> None:
    log.register_options(conf.CONF)
    conf.CONF([], project="cloudbase-init")
    log.setup(conf.CONF, "cloudbase-init")
    conf.CONF.set_override("retry_count", 2)
    conf.CONF.set_override("retry_count_interval", 0.1)
    service, ec2 = httpservice.HttpService(), ec2service.EC2Service()
    found: dict[str, object] = {"loaded": service.load(), "ec2_loaded": ec2.load()}
    found |= {
        "id": service.get_instance_id(),
        "hostname": service.get_host_name(),
        "keys": service.get_public_keys(),
        "user_data": service.get_decoded_user_data().decode(),
        "admin": service.get_admin_username(),
        "network": details(service.get_network_details_v2()),
        "content": service.get_content("0000").decode(),
        "absent": absent(service, "openstack/content/0001"),
        "instance_data": service.get_instance_data(),
        "can_post": service.can_post_password,
        "was_set": service.is_password_set,
    }
    if sys.argv[1:]:
        found["posted"] = post(service, sys.argv[1].encode())
        found["is_set"] = service.is_password_set
        found["posted_again"] = post(service, b"another")
    found["ec2"] = {
        "id": ec2.get_instance_id(),
        "hostname": ec2.get_host_name(),
        "keys": ec2.get_public_keys(),
        "user_data": ec2.get_user_data().decode(),
    }
    print(json.dumps(found))


main()
