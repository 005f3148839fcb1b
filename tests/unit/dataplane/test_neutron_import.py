"""What becomes of the options of Neutron's metadata agents."""

from __future__ import annotations

import tomllib

import pytest

from dataplane import config
from dataplane.neutron_import import Translation, render, translate
from dataplane.oslo_ini import merge

SECRET = 's3cr3t with "quotes" and \\ and =='

AGENT = f"""\
[DEFAULT]
debug = true
host = compute-7
state_path = /srv/neutron
nova_metadata_host = 2001:db8::5
nova_metadata_port = 8780
nova_metadata_protocol = https
nova_metadata_insecure = false
auth_ca_cert = /etc/ssl/ca.pem
nova_client_cert = /etc/ssl/client.pem
nova_client_priv_key = /etc/ssl/client.key
metadata_proxy_shared_secret = {SECRET}
metadata_proxy_socket = $state_path/metadata_proxy
metadata_proxy_user = haproxy
metadata_proxy_group = 991
metadata_proxy_socket_mode = all
metadata_workers = 4
metadata_backlog = 4096
nonsense = 1
[metadata_rate_limiting]
rate_limit_enabled = yes
ip_versions = 4
base_window_duration = 20
base_query_rate_limit = 30
burst_query_rate_limit = 5
[metadata_haproxy]
timeout_http_request = 15
timeout_http_keep_alive = 20
timeout_connect = 5
timeout_server = 40
[agent]
report_interval = 30
"""


def translated(*files: str) -> Translation:
    return translate(merge((f"f{number}.ini", text) for number, text in enumerate(files)))


def test_everything_with_a_counterpart() -> None:
    assert translated(AGENT).settings == {
        "node.name": "compute-7",
        "log.level": "debug",
        "metadata.backend": "nova",
        "nova.url": "https://[2001:db8::5]:8780",
        "nova.shared_secret": SECRET,
        "nova.ca_file": "/etc/ssl/ca.pem",
        "nova.client_cert": "/etc/ssl/client.pem",
        "nova.client_key": "/etc/ssl/client.key",
        "metadata.dropin_socket": "/srv/neutron/metadata_proxy",
        "metadata.dropin_users": ["haproxy"],
        "metadata.dropin_groups": [991],
        "metadata.dropin_only": True,
        "metadata.limit": "windows",
        "metadata.base_window_duration": 20,
        "metadata.base_query_rate_limit": 30,
        "metadata.burst_window_duration": 10,
        "metadata.burst_query_rate_limit": 5,
        "metadata.header_timeout": 15.0,
        "metadata.idle_timeout": 20.0,
        "nova.timeout": 40.0,
    }


def test_everything_else_is_named() -> None:
    notes = translated(AGENT).notes
    named = [note.partition("] ")[2].partition(":")[0] for note in notes if note.startswith("f0.ini:")]
    assert named == [
        "metadata_proxy_socket_mode", "metadata_workers", "metadata_backlog", "nonsense", "timeout_connect",
        "report_interval",
    ]  # fmt: skip
    assert "f0.ini:19: [DEFAULT] nonsense: has no counterpart" in notes
    assert any("ip_versions" in note for note in notes)


def test_no_value_is_named() -> None:
    assert not any(SECRET in note or "report_interval: 30" in note for note in translated(AGENT, AGENT).notes)


def test_empty_files_mean_the_agents_defaults() -> None:
    found = translated("")
    assert found.settings == {
        "metadata.backend": "nova",
        "nova.url": "http://127.0.0.1:8775",
        "metadata.dropin_socket": "/var/lib/neutron/metadata_proxy",
        "metadata.dropin_users": ["neutron"],
        "metadata.dropin_only": True,
    }
    assert [note.partition(" ")[0].strip(":") for note in found.notes] == [
        "metadata_proxy_shared_secret",
        "metadata.dropin_only",
        "metadata_proxy_user",
    ]


def test_later_files_count() -> None:
    later = "[DEFAULT]\nnova_metadata_host = nova.internal\nnova_metadata_protocol = http\ndebug = false\n"
    settings = translated(AGENT, later).settings
    assert settings["nova.url"] == "http://nova.internal:8780"
    assert "log.level" not in settings


def test_the_old_name_of_the_host() -> None:
    assert translated("[DEFAULT]\nnova_metadata_ip = 10.0.0.9\n").settings["nova.url"] == "http://10.0.0.9:8775"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("fd00::1", "http://[fd00::1]:8775"),
        ("[fd00::1]", "http://[fd00::1]:8775"),
        ("10.0.0.9", "http://10.0.0.9:8775"),
        ("nova.internal", "http://nova.internal:8775"),
    ],
)
def test_hosts_as_files_have_them(host: str, url: str) -> None:
    assert translated(f"[DEFAULT]\nnova_metadata_host = {host}\n").settings["nova.url"] == url


def test_dhcp_from_the_same_files() -> None:
    text = "[DEFAULT]\ndns_domain = cloud.example.\ndhcp_lease_duration = {}\nuse_json = 1\n"
    assert translated(text.format(-1)).settings["dhcp.lease_time"] == 0xFFFFFFFF
    settings = translated(text.format(600)).settings
    assert (settings["dhcp.domain"], settings["dhcp.lease_time"]) == ("cloud.example", 600)
    assert settings["log.format"] == "json"


@pytest.mark.parametrize("versions", ["4,6", "5", "4, 6"])
def test_a_limit_that_does_not_limit_is_not_translated(versions: str) -> None:
    found = translated(f"[metadata_rate_limiting]\nrate_limit_enabled = true\nip_versions = {versions}\n")
    assert not any("rate" in key or "window" in key or key == "metadata.limit" for key in found.settings)
    assert any("does not limit" in note for note in found.notes)


def test_a_limit_that_is_off_is_named() -> None:
    found = translated("[metadata_rate_limiting]\nbase_query_rate_limit = 5\n")
    assert "metadata.limit" not in found.settings
    assert any("is off" in note for note in found.notes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nova_metadata_port = 99999", "whole number from 1 to 65535"),
        ("nova_metadata_port = x", "whole number"),
        ("debug = perhaps", "neither true nor false"),
        ("nova_metadata_protocol = ftp", "neither http nor https"),
        ("nova_client_cert = /x", "count only together"),
    ],
)
def test_wrong_values_are_named(line: str, reason: str) -> None:
    found = translated(f"[DEFAULT]\n{line}\n")
    assert any(reason in note for note in found.notes)
    assert "nova.client_cert" not in found.settings


def test_text_is_toml() -> None:
    settings = translated(AGENT).settings
    read = tomllib.loads(render(settings))
    assert {f"{section}.{key}": item for section, keys in read.items() for key, item in keys.items()} == settings


def test_nodeplane_starts_with_it() -> None:
    """Every key that can come out exists, and every value is one that it takes."""
    known = config.loads(render(translated(AGENT).settings))
    assert known.nova.url == "https://[2001:db8::5]:8780"
    assert known.metadata.dropin_groups == (991,)
