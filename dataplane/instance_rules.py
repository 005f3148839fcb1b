"""Rules inside one instance: what guests will be shown of it."""

from __future__ import annotations

from collections.abc import Mapping

from dataplane import fields
from dataplane.fields import Findings, Rule
from dataplane.model import Device, File, Instance, Key, Record
from dataplane.strict import join

# Chosen: far above Nova's 64 KiB, and a bound on what one instance can cost.
USER_DATA_BYTES = 1 << 20
MAX_VLAN = 4094  # IEEE 802.1Q
MAX_HOP_LIMIT = 64  # AWS's


def _key_data(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _user_data(value: str) -> str:
    if len(value.encode()) > USER_DATA_BYTES:
        raise ValueError(f"is longer than {USER_DATA_BYTES} bytes")
    return value


def _user_data_base64(value: str) -> str:
    canonical = fields.base64_text(value)
    if len(canonical) // 4 * 3 > USER_DATA_BYTES:
        raise ValueError(f"is longer than {USER_DATA_BYTES} bytes")
    return canonical


_INSTANCE: dict[str, Rule] = {
    "id": fields.uuid,
    "project_id": lambda value: fields.visible(fields.label(value)),
    "name": fields.text,
    "hostname": fields.domain,
    "user_data": _user_data,
    "user_data_base64": _user_data_base64,
    "ec2_id": fields.optional(fields.ec2_id),
    "availability_zone": fields.text,
    "flavor": fields.text,
    "image_id": fields.text,
    "kernel_id": fields.text,
    "ramdisk_id": fields.text,
    "reservation_id": fields.text,
    "launch_index": fields.between(0, 2**31 - 1),
    "security_groups": fields.label,
    "public_ipv4": fields.ipv4,
    "dedicated_cpus": fields.between(0, 2**31 - 1),
    "vendor_data": fields.json_value,
    "vendor_data2": fields.json_value,
}
_KEY = {"name": fields.label, "data": _key_data}
_DEVICE: dict[str, Rule] = {
    "bus": fields.text,
    "address": fields.text,
    "mac": fields.mac,
    "serial": fields.text,
    "path": fields.text,
    "tags": fields.label,
    "vlan": fields.between(0, MAX_VLAN),
}
_METADATA_OPTIONS: dict[str, Rule] = {"http_put_response_hop_limit": fields.between(1, MAX_HOP_LIMIT)}
_FILE = {"path": fields.label, "content_base64": fields.base64_text}


def canonical(findings: Findings, instance: Instance, path: str) -> Instance:
    """The instance with canonical values; every broken rule is noted in `findings`."""
    instance = findings.fields(instance, path, _INSTANCE)
    _check_only_one(findings, instance, path, "user_data", "user_data_base64")
    _check_mapping(findings, instance.meta, f"{path}.meta", lambda value: value)
    _check_mapping(findings, instance.block_device_mapping, f"{path}.block_device_mapping", fields.text)
    if instance.keys:
        instance = findings.each(instance, path, "keys", _key)
        seen: dict[str, int] = {}
        for index, key in enumerate(instance.keys):
            if (first := seen.setdefault(key.name, index)) != index:
                findings.add(f"{path}.keys[{index}].name", f"{key.name} is also given by {path}.keys[{first}]")
    if instance.devices:
        instance = findings.each(instance, path, "devices", _device)
    if instance.files:
        instance = findings.each(instance, path, "files", _file)
    if instance.metadata_options is not None:
        findings.fields(instance.metadata_options, f"{path}.metadata_options", _METADATA_OPTIONS)
    return instance


def _key(findings: Findings, key: Key, path: str) -> Key:
    key = findings.fields(key, path, _KEY)
    if key.type == "ssh" and any(ord(character) < 32 for character in key.data.rstrip("\n")):
        findings.add(f"{path}.data", "an ssh key is one line")
    return key


def _device(findings: Findings, device: Device, path: str) -> Device:
    return findings.fields(device, path, _DEVICE)


def _file(findings: Findings, file: File, path: str) -> File:
    if file.content:
        _check_only_one(findings, file, path, "content", "content_base64")
    return findings.fields(file, path, _FILE)


def _check_only_one(findings: Findings, record: Record, path: str, first: str, second: str) -> None:
    if getattr(record, first) is not None and getattr(record, second) is not None:
        findings.add(f"{path}.{second}", f"give either {first} or {second}")


def _check_mapping(findings: Findings, mapping: Mapping[str, str], path: str, rule: Rule) -> None:
    for key, value in mapping.items():
        try:
            fields.label(key)
            rule(value)
        except ValueError as error:
            findings.add(join(path, key), str(error))
