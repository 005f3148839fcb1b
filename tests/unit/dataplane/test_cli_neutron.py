"""`nodeplane config import-neutron`."""

from __future__ import annotations

from pathlib import Path

import click.testing
import pytest

from dataplane import cli, config

AGENT = "[DEFAULT]\nmetadata_proxy_shared_secret = s3cr3t\nmetadata_workers = 2\n"


def run(*argv: str | Path, input: str | None = None) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(cli.main, ["config", "import-neutron", *map(str, argv)], input=input, prog_name="nodeplane")


def test_files_are_merged_in_order(tmp_path: Path) -> None:
    (tmp_path / "neutron.conf").write_text("\ufeff[DEFAULT]\nhost = a\nnova_metadata_host = first\n", encoding="utf-8")
    (tmp_path / "agent.ini").write_text(AGENT + "nova_metadata_host = second\n")
    done = run(tmp_path / "neutron.conf", tmp_path / "agent.ini")
    assert done.exit_code == 0, done.output
    settings = config.loads(done.stdout)
    assert (settings.node.name, settings.nova.url) == ("a", "http://second:8775")
    assert settings.nova.shared_secret == "s3cr3t"
    assert f"{tmp_path}/agent.ini:3: [DEFAULT] metadata_workers: one process serves all networks" in done.stderr
    assert "s3cr3t" not in done.stderr


def test_standard_input() -> None:
    assert config.loads(run("-", input=AGENT).stdout).metadata.backend == "nova"


def test_what_is_still_to_be_set_is_said(tmp_path: Path) -> None:
    done = run("-", input="[DEFAULT]\n")
    assert done.exit_code == cli.REFUSED
    assert "nova.url" not in done.stderr
    assert "nova.shared_secret" in done.stderr
    assert 'url = "http://127.0.0.1:8775"' in done.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff", "not UTF-8"), (b"[DEFAULT]\nnothing s3cr3t\n", "f:2: is neither a section nor an option")],
)
def test_unreadable_files(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "f").write_bytes(content)
    done = run(tmp_path / "f")
    assert done.exit_code == cli.REFUSED
    assert done.stdout == ""
    assert said in done.stderr
    assert "s3cr3t" not in done.stderr
    missing = run(tmp_path / "none")
    assert missing.exit_code == cli.REFUSED
    assert "No such file" in missing.stderr


def test_at_least_one_file() -> None:
    assert run().exit_code == 2
