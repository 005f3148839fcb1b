"""Run the EC2 clients of PyPI in this namespace and print what they found, as JSON.

`ec2-metadata` asks for a token and shows it with every request; botocore tries with a token, and goes on without one
if it gets none. Only the addresses that they have of themselves are asked.
"""

from __future__ import annotations

import json

from botocore.utils import (  # type: ignore[import-untyped]
    IMDSFetcher,
    InstanceMetadataFetcher,
    InstanceMetadataRegionFetcher,
)
from ec2_metadata import ec2_metadata

PLAIN = (
    "account_id", "ami_id", "ami_launch_index", "availability_zone", "availability_zone_id", "domain", "iam_info",
    "instance_action", "instance_id", "instance_life_cycle", "instance_type", "kernel_id", "mac", "partition",
    "private_hostname", "private_ipv4", "public_hostname", "region", "reservation_id", "security_groups",
    "spot_instance_action",
)  # fmt: skip
OF_INTERFACE = (
    "device_number", "interface_id", "ipv6s", "owner_id", "private_hostname", "private_ipv4s", "public_ipv4s",
    "subnet_id", "subnet_ipv4_cidr_block", "vpc_id", "vpc_ipv4_cidr_block", "vpc_ipv4_cidr_blocks",
)  # fmt: skip


class Seen(IMDSFetcher):  # type: ignore[misc]
    """Which statuses botocore saw, by path."""

    def read(self, path: str) -> tuple[int, str]:
        answer = self._get_request(path, None, token=self._fetch_metadata_token())
        return answer.status_code, answer.text


def main() -> None:
    seen = Seen(timeout=5, num_attempts=1)
    found = {
        "plain": {name: getattr(ec2_metadata, name) for name in PLAIN},
        "interfaces": {
            mac: {name: getattr(interface, name) for name in OF_INTERFACE}
            for mac, interface in ec2_metadata.network_interfaces.items()
        },
        "tags": dict(ec2_metadata.tags),
        "keys": {name: key.openssh_key for name, key in ec2_metadata.public_keys.items()},
        "user_data": (ec2_metadata.user_data or b"").decode(),
        "botocore": {
            "credentials": InstanceMetadataFetcher(timeout=5, num_attempts=1).retrieve_iam_role_credentials(),
            "region": InstanceMetadataRegionFetcher(timeout=5, num_attempts=1).retrieve_region(),
            "hostname": seen.read("latest/meta-data/hostname"),
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
