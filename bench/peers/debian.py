"""Programs from Debian packages: the installed one, or unpacked below .cache/peers without installing anything.

Unpacking starts no service, needs no root and leaves the package database alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.compile import MissingToolError
from bench.machine import ROOT

CACHE = ROOT / ".cache" / "peers"
UNPACKED = CACHE / "debian"
BINARIES = ("usr/sbin", "usr/bin")
PACKAGES = {
    "haproxy": ("haproxy",),
    "dnsmasq": ("dnsmasq-base",),
    "kea": ("kea-dhcp4-server", "kea-admin"),
    "wrk": ("wrk",),
    "perfdhcp": ("kea-admin",),
}
"""What --with may name, and the packages that hold it."""
PROGRAMS = {"haproxy": ("haproxy",), "dnsmasq": ("dnsmasq",), "kea": ("kea-dhcp4", "perfdhcp"), "wrk": ("wrk",),
            "perfdhcp": ("perfdhcp",)}  # fmt: skip
VERSION_FLAGS = {"haproxy": "-v", "dnsmasq": "-v", "kea-dhcp4": "-v", "wrk": "-v", "perfdhcp": "-v"}


@dataclass(frozen=True)
class Program:
    """An executable with the environment it needs."""

    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables in addition to the usual ones."""
        if not self.path.is_relative_to(UNPACKED):
            return {}
        triple = str(sysconfig.get_config_var("MULTIARCH") or "")
        return {"LD_LIBRARY_PATH": f"{UNPACKED}/usr/lib/{triple}:{UNPACKED}/lib/{triple}"}

    @property
    def version(self) -> str:
        """The number in the first line of what it says about itself."""
        done = subprocess.run([self.path, VERSION_FLAGS[self.path.name]], capture_output=True, text=True,
                              env=full(self.environment))  # fmt: skip
        found = re.search(r"\d+\.[\w.+~-]+", done.stdout or done.stderr)
        return found[0] if found else "unknown"


def full(environment: Mapping[str, str]) -> dict[str, str]:
    """This process' environment with additions."""
    return {**os.environ, **environment}


def find(name: str) -> Program | None:
    """The program, installed or unpacked; None if it is neither."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"]
    if found := shutil.which(name, path=":".join(places)):
        return Program(Path(found))
    for folder in BINARIES:
        if (path := UNPACKED / folder / name).exists():
            return Program(path)
    return None


def need(name: str, asked_by: str) -> Program:
    """The program, or MissingToolError naming the --with that fetches it."""
    program = find(name)
    if program is None:
        raise MissingToolError(f"{name} is not here: run again with --with {asked_by}")
    return program


def fetch(names: Iterable[str]) -> None:
    """Make the programs of these PACKAGES available; MissingToolError when Debian's archive cannot be reached."""
    wanted = [name for name in names if any(find(program) is None for program in PROGRAMS[name])]
    packages = [package for name in wanted for package in PACKAGES[name]]
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise MissingToolError(f"no apt-get here to fetch {' '.join(packages)}: install {', '.join(wanted)} yourself")
    archives = CACHE / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    downloads = _closure(packages)
    done = subprocess.run(["apt-get", "-q", "download", *downloads], cwd=archives, capture_output=True, text=True)
    if done.returncode:
        raise MissingToolError(f"apt-get download {' '.join(packages)}: {done.stderr.strip()[-500:]}")
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, UNPACKED], check=True)
        archive.unlink()


def _closure(packages: list[str]) -> list[str]:
    """The packages and those of their dependencies that this machine lacks, by asking apt what it would install."""
    command = ["apt-get", "-s", "install", "--no-install-recommends", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and os.geteuid() == 0:
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MissingToolError(f"apt-get knows no {' '.join(packages)} (apt-get update?): {done.stderr.strip()[-300:]}")
    lines = (line.split() for line in done.stdout.splitlines())
    missing = [words[1] for words in lines if words and words[0] == "Inst"]
    return sorted({*missing, *packages})
