"""Run cloud-init's own datasource code in this namespace and print what it found, as JSON.

Usage: cloudinit_crawl.py openstack|ec2 DIRECTORY, with cloud-init's modules on PYTHONPATH. Only the look at the
machine's DMI tables is replaced: a namespace has none of its own.
"""

from __future__ import annotations

import json
import sys
from unittest import mock

from cloudinit import helpers  # type: ignore[import-not-found]
from cloudinit.sources import DataSourceEc2, DataSourceOpenStack  # type: ignore[import-not-found]

URLS = {"metadata_urls": ["http://169.254.169.254"], "timeout": 10, "max_wait": 15, "strict_id": "false"}


def text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def main() -> None:
    kind, directory = sys.argv[1:]
    paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
    config = {"datasource_list": ["OpenStack", "Ec2"], "datasource": {"OpenStack": URLS, "Ec2": URLS}}
    distro = mock.Mock()
    if kind == "openstack":
        source = DataSourceOpenStack.DataSourceOpenStack(config, distro, paths)
        with mock.patch.object(DataSourceOpenStack, "detect_openstack", return_value=True):
            found = source._get_data()
        extra = {"network": source.network_json, "ec2": source.ec2_metadata, "version": source.version}
    else:
        with mock.patch.object(DataSourceEc2, "identify_platform", return_value=DataSourceEc2.CloudNames.UNKNOWN):
            source = DataSourceEc2.DataSourceEc2(config, distro, paths)
            found = source._get_data()
        extra = {}
    print(json.dumps({"found": found, "metadata": source.metadata, "userdata": text(source.userdata_raw), **extra},
                     default=text))  # fmt: skip


main()
