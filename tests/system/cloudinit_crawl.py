"""Run cloud-init's own datasource code in this namespace and print what it found, as JSON.

Usage: cloudinit_crawl.py openstack|ec2|aws|nocloud DIRECTORY, with cloud-init's modules on PYTHONPATH. Only the look at
the machine's DMI tables and command line is replaced: a namespace has none of its own.
"""

from __future__ import annotations

import json
import sys
from unittest import mock

from cloudinit import helpers, url_helper, util  # type: ignore[import-not-found]
from cloudinit.net import network_state  # type: ignore[import-not-found]
from cloudinit.sources import (  # type: ignore[import-not-found]
    DataSourceEc2,
    DataSourceNoCloud,
    DataSourceOpenStack,
)

URL = "http://169.254.169.254"
URLS = {"metadata_urls": [URL], "timeout": 10, "max_wait": 15, "strict_id": "false"}


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
    elif kind == "nocloud":
        # As on the kernel's command line: ds=nocloud-net;s=http://169.254.169.254/nocloud/
        line = f"ro ds=nocloud-net;s={URL}/nocloud/"
        source = DataSourceNoCloud.DataSourceNoCloudNet(config, distro, paths)
        with (
            mock.patch.object(DataSourceNoCloud.util, "get_cmdline", return_value=line),
            mock.patch.object(DataSourceNoCloud.dmi, "read_dmi_data", return_value=None),
            mock.patch.object(source, "_get_devices", return_value=[]),
        ):
            found = source._get_data()
        # This release does not ask for it, later ones do; its parser is the same.
        network = util.load_yaml(url_helper.readurl(f"{URL}/nocloud/network-config").contents)
        state = network_state.parse_net_config_data(network)
        extra = {
            "network": network,
            "interfaces": list(state.iter_interfaces()),
            "vendordata": text(source.vendordata_raw),
            "keys": source.get_public_ssh_keys(),
        }
    else:
        # AWS's machines are told by their DMI data; only there does cloud-init ask for a token.
        cloud = DataSourceEc2.CloudNames.AWS if kind == "aws" else DataSourceEc2.CloudNames.UNKNOWN
        with mock.patch.object(DataSourceEc2, "identify_platform", return_value=cloud):
            source = DataSourceEc2.DataSourceEc2(config, distro, paths)
            found = source._get_data()
            extra = {"token": bool(source._api_token), "identity": source.identity, "id": source.get_instance_id()}
    print(json.dumps({"found": found, "metadata": source.metadata, "userdata": text(source.userdata_raw), **extra},
                     default=text))  # fmt: skip


main()
