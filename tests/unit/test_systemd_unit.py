"""The systemd unit: what it starts exists, and nothing in it hides our namespaces from others."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from dataplane import cli, config

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

NEEDS_A_MOUNT_NAMESPACE = {
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "InaccessiblePaths", "MountFlags", "NoExecPaths", "PrivateDevices",
    "PrivateIPC", "PrivateMounts", "PrivateNetwork", "PrivateTmp", "ProcSubset", "ProtectControlGroups", "ProtectHome",
    "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem",
    "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootImage", "TemporaryFileSystem",
}  # fmt: skip


def settings(name: str) -> list[tuple[str, str]]:
    lines = (line.strip() for line in (EXAMPLES / name).read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#[")
    return [(key, value) for key, _, value in pairs]


def test_no_mount_namespace() -> None:
    assert not {key for key, _ in settings("nodeplane.service")} & NEEDS_A_MOUNT_NAMESPACE
    assert {key for key, _ in settings("nodeplane.service.d/10-adopt-only.conf")} <= NEEDS_A_MOUNT_NAMESPACE


def test_the_metadata_agents_socket_needs_one_capability_more() -> None:
    assert settings("nodeplane.service.d/20-neutron-socket.conf") == [("CapabilityBoundingSet", "CAP_DAC_OVERRIDE")]
    assert "CAP_DAC_OVERRIDE" not in dict(settings("nodeplane.service"))["CapabilityBoundingSet"]


def test_it_starts_what_there_is() -> None:
    unit = dict(settings("nodeplane.service"))
    program, *words = shlex.split(unit["ExecStart"])
    assert program.endswith("/nodeplane")
    context = cli.main.make_context("nodeplane", words, allow_extra_args=True)
    name, command, rest = cli.main.resolve_command(context, [*context._protected_args, *context.args])
    assert name == "run"
    assert command is not None
    assert command.make_context(name, rest).params == {"config": cli.CONFIG}


def test_directories_are_those_of_the_defaults() -> None:
    unit, defaults = dict(settings("nodeplane.service")), config.Config()
    assert f"/var/lib/{unit['StateDirectory']}" == defaults.node.state_dir
    assert f"/run/{unit['RuntimeDirectory']}" == str(Path(defaults.control.socket).parent)
    assert defaults.control.socket == cli.SOCKET


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_knows_every_setting_and_finds_it_tight(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=40", str(EXAMPLES / "nodeplane.service")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert "Unknown" not in done.stderr
