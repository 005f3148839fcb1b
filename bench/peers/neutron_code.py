"""Runs inside neutron's own virtual environment: its real programs, with only the message bus answered from memory.

    neutron_code.py agent --config-file FILE      the complete neutron-metadata-agent
    neutron_code.py haproxy NETWORK SOCKET STATE PIDFILE    writes the haproxy configuration, prints its path
    neutron_code.py change STATE HOSTS            seconds that the DHCP driver needs to write one changed port

Not imported by anything: neutron is not installed beside nodeplane.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
import os
import sys
import time
from unittest import mock


def agent() -> None:
    """neutron_metadata_agent's main; the RPC that asks neutron-server for the port is answered here."""
    from neutron.agent import metadata_agent
    from neutron.agent.metadata import agent as metadata

    with open(os.environ["PORTS"]) as file:
        ports = json.load(file)
    known = {}
    for port in ports:
        known[port["network_id"], port["address"]] = [{**port, "tenant_id": port["project_id"]}]

    def get_ports(_self, _context, filters):
        [network], [address] = filters["network_id"], filters["fixed_ips"]["ip_address"]
        return known.get((network, address), [])

    metadata.MetadataPluginAPI.get_ports = get_ports
    metadata_agent.main()


def haproxy(network: str, socket: str, state: str, pidfile: str) -> None:
    """The configuration that Neutron gives the haproxy of a network."""
    from neutron.agent.metadata import driver
    from neutron.conf.agent.metadata import config
    from oslo_config import cfg
    from oslo_log import log

    log.register_options(cfg.CONF)
    cfg.CONF([])
    config.register_meta_conf_opts(config.METADATA_RATE_LIMITING_OPTS, group=config.RATE_LIMITING_GROUP)
    config.register_meta_conf_opts(config.METADATA_HAPROXY_OPTS, group=config.HAPROXY_GROUP)
    made = driver.HaproxyConfigurator(
        network, None, socket, "169.254.169.254", 80, "root", "root", state, pidfile,
        cfg.CONF.metadata_rate_limiting, cfg.CONF.metadata_haproxy,
    )  # fmt: skip
    made.create_config_file()
    print(made.cfg_path)


def change(state: str, hosts: int) -> None:
    """What neutron.agent.linux.dhcp.Dnsmasq does for one changed port, without RPC and without the signal."""
    from neutron.agent.linux import dhcp
    from neutron.common import config as common
    from neutron.conf.agent import common as agent_common
    from neutron.conf.agent import dhcp as dhcp_options
    from oslo_config import cfg
    from oslo_log import log

    log.register_options(cfg.CONF)
    common.register_common_config_options()
    agent_common.register_interface_driver_opts_helper(cfg.CONF)
    agent_common.register_interface_opts()
    dhcp_options.register_agent_dhcp_opts(cfg.CONF)
    cfg.CONF([])
    cfg.CONF.set_override("dhcp_confs", f"{state}/dhcp")
    cfg.CONF.set_override("state_path", state)
    subnet = {
        "id": "s", "ip_version": 4, "cidr": "10.64.0.0/16", "gateway_ip": "10.64.0.1", "enable_dhcp": True,
        "dns_nameservers": [], "host_routes": [], "ipv6_address_mode": None, "ipv6_ra_mode": None,
    }  # fmt: skip
    ports = [
        {
            "id": f"{i:032x}", "mac_address": f"00:0c:01:02:{i >> 8:02x}:{i & 255:02x}", "extra_dhcp_opts": [],
            "fixed_ips": [{"subnet_id": "s", "ip_address": f"10.64.{(i >> 8) + 1}.{i & 255}"}],
            "device_owner": "compute:nova", "device_id": "x", "admin_state_up": True,
        }
        for i in range(hosts)
    ]  # fmt: skip
    network = dhcp.NetModel({
        "id": "n", "subnets": [subnet], "ports": ports, "mtu": 1450, "tenant_id": "t", "project_id": "t",
        "admin_state_up": True, "non_local_subnets": [],
    })  # fmt: skip
    with mock.patch.object(dhcp, "DeviceManager"):
        driver = dhcp.Dnsmasq(cfg.CONF, network, mock.Mock(), plugin=mock.Mock())
        driver.device_manager.driver.bridged = True
        with mock.patch.object(type(driver), "interface_name", "tap0", create=True):
            driver._output_init_lease_file()
            driver._output_config_files()
            began = time.perf_counter()
            driver._release_unused_leases()
            driver._output_config_files()
            print(time.perf_counter() - began)


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "agent":
        del sys.argv[1]
        agent()
    elif verb == "haproxy":
        haproxy(*rest)
    else:
        change(rest[0], int(rest[1]))
