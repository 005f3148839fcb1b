"""The programs nodeplane replaces, started as their users start them: named with --with, fetched into .cache/peers."""

from __future__ import annotations

from collections.abc import Callable

from bench.peers import debian, neutron

PEERS = (*debian.PACKAGES, "neutron", "acl")
"""What --with may name; wrk and perfdhcp are load clients, not peers, and acl is a library that must be installed."""


def prepare(names: frozenset[str], say: Callable[[str], None]) -> None:
    """Fetch what is asked for and not there. Raises MissingToolError naming what cannot be had."""
    # Neutron's metadata path is an agent and a haproxy.
    wanted = [name for name in debian.PACKAGES if name in names or (name == "haproxy" and "neutron" in names)]
    if any(debian.find(program) is None for name in wanted for program in debian.PROGRAMS[name]):
        say(f"fetching {', '.join(wanted)} from Debian into {debian.CACHE}")
    debian.fetch(wanted)
    if "neutron" in names and not neutron.PYTHON.exists():
        say(f"installing neutron from PyPI into {neutron.VENV}")
        neutron.install()
