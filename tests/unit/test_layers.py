"""Who may import whom.

`fastpath` and `metadata` import nothing of ours; inside `dataplane` a lower layer never imports a higher one; some
libraries are for some modules only. A new module of `dataplane` needs a line in LAYERS.
"""

from __future__ import annotations

import re

import pytest

from tests.sources import PACKAGES, ROOT, imports, shipped

PURE, STATE, KERNEL, SERVICES, TOP = range(5)

LAYERS: dict[str, int] = {
    # 0: pure. No sockets, no loop, no clock, no log.
    "dataplane": PURE,
    "dataplane.connection_state": PURE,
    "dataplane.desired": PURE,
    "dataplane.dhcp": PURE,
    "dataplane.documents": PURE,
    "dataplane.errors": PURE,
    "dataplane.events": PURE,
    "dataplane.explain_packet": PURE,
    "dataplane.explanation": PURE,
    "dataplane.fields": PURE,
    "dataplane.five_tuple": PURE,
    "dataplane.indexes": PURE,
    "dataplane.instance_rules": PURE,
    "dataplane.leases": PURE,
    "dataplane.model": PURE,
    "dataplane.names": PURE,
    "dataplane.neighbours": PURE,
    "dataplane.network_rules": PURE,
    "dataplane.neutron_import": PURE,
    "dataplane.oslo_ini": PURE,
    "dataplane.policy": PURE,
    "dataplane.policy_shared": PURE,
    "dataplane.port_rules": PURE,
    "dataplane.protocols": PURE,
    "dataplane.relations": PURE,
    "dataplane.rtnetlink": PURE,
    "dataplane.security": PURE,
    "dataplane.status": PURE,
    "dataplane.strict": PURE,
    # 1: state.
    "dataplane.config": STATE,
    "dataplane.metrics": STATE,
    "dataplane.plan": STATE,
    "dataplane.source": STATE,
    "dataplane.store": STATE,
    # 2: the kernel and the outside.
    "dataplane.carry_out": KERNEL,
    "dataplane.claim": SERVICES,
    "dataplane.fdstore": KERNEL,
    "dataplane.kernel": KERNEL,
    "dataplane.links": KERNEL,
    "dataplane.log": KERNEL,
    "dataplane.netlink": KERNEL,
    "dataplane.netns": KERNEL,
    "dataplane.observe": KERNEL,
    "dataplane.packets": KERNEL,
    "dataplane.privileges": KERNEL,
    "dataplane.sdnotify": KERNEL,
    "dataplane.unix_socket": KERNEL,
    # 3: services.
    "dataplane.backend": SERVICES,
    "dataplane.backends": SERVICES,
    "dataplane.callers": SERVICES,
    "dataplane.closer": KERNEL,
    "dataplane.control": SERVICES,
    "dataplane.dhcp_service": SERVICES,
    "dataplane.explain": SERVICES,
    "dataplane.forwarded": SERVICES,
    "dataplane.heartbeat": SERVICES,
    "dataplane.lease_book": SERVICES,
    "dataplane.metadata_view": SERVICES,
    "dataplane.network": SERVICES,
    "dataplane.neutron_socket": SERVICES,
    "dataplane.node": SERVICES,
    "dataplane.nova_link": SERVICES,
    "dataplane.password_book": SERVICES,
    "dataplane.openapi": SERVICES,
    "dataplane.readings": SERVICES,
    "dataplane.reconcile": SERVICES,
    "dataplane.token_keeper": SERVICES,
    # 4: the composition root and the command line.
    "dataplane.cli": TOP,
    "dataplane.control_client": TOP,
    "dataplane.daemon": TOP,
}
"""Module to layer; a package or a stem stands for all modules `stem.*` and `stem_*` that have no line of their own."""

FORBIDDEN_IN_PURE = (
    "asyncio",
    "logging",
    "select",
    "selectors",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
)

ONLY_IN: dict[str, tuple[str, ...]] = {
    # The pure-Python HTTP parsers are no match for guests, and the loop's framework has no business in the core.
    "aiohappyeyeballs": ("metadata.nova_client",),
    "aiohttp": ("dataplane.control",),
    # Guests' tokens, and seeds for their generators; nothing else here is sealed.
    "cryptography": ("metadata.seeds", "metadata.tokens"),
    "httptools": ("metadata",),
    # 5.5 ms for a socket in a namespace: our own codec does it, and pyroute2 is its oracle in the tests.
    "pyroute2": (),
    "sqlite3": ("dataplane.store",),
    # Slow to import; for people at a terminal.
    "rich": ("dataplane.cli",),
    # The rest decode and render off the hot path or choose the loop in one place.
    "click": ("dataplane.cli",),
    "prometheus_client": ("dataplane.metrics", "dataplane.control"),
    "uvloop": ("dataplane.cli", "dataplane.daemon"),
    # Only in tests and bench; scapy is GPL-2.0-only.
    "scapy": (),
    "dpkt": (),
    "matplotlib": (),
    "pypacker": (),
    "hypothesis": (),
    "pytest": (),
}
"""Library to the stems of the shipped modules that may import it."""

OURS = ("bench", "dataplane", "fastpath", "metadata", "scripts", "tests")
ALLOWED_PACKAGES = {
    "fastpath": {"fastpath"},
    "metadata": {"metadata"},
    "dataplane": {"dataplane", "fastpath", "metadata"},
}
LONGEST_FILE = 500

MODULES = {name: path for name, path in shipped().items() if path.suffix == ".py"}


def top(name: str) -> str:
    return name.partition(".")[0]


def stands_for(stem: str, name: str) -> bool:
    return name == stem or name.startswith((f"{stem}.", f"{stem}_"))


def layer(name: str) -> int | None:
    """The layer of the longest stem that stands for a module; `dataplane` itself stands for no other."""
    stems = [stem for stem in LAYERS if stands_for(stem, name) and (stem != "dataplane" or name == stem)]
    return LAYERS[max(stems, key=len)] if stems else None


@pytest.mark.parametrize("name", MODULES)
def test_packages(name: str) -> None:
    allowed = ALLOWED_PACKAGES[top(name)]
    wrong = [f"line {line}: {what}" for what, line in imports(MODULES[name]) if top(what) in set(OURS) - allowed]
    assert not wrong, f"{name} may import of ours only {sorted(allowed)}"


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "dataplane"])
def test_layers(name: str) -> None:
    own = layer(name)
    assert own is not None, f"{name} has no layer: give it a line in LAYERS"
    wrong = []
    for what, line in imports(MODULES[name]):
        # `from dataplane.x import y` also gives `dataplane.x.y`, which is a name in a module.
        if what in MODULES and top(what) == "dataplane":
            theirs = layer(what)
            assert theirs is not None, f"{what} has no layer: give it a line in LAYERS"
            if theirs > own:
                wrong.append(f"line {line}: {what} is of layer {theirs}")
        elif own == PURE and top(what) in FORBIDDEN_IN_PURE:
            wrong.append(f"line {line}: {what} is not for pure modules")
    assert not wrong, f"{name} is of layer {own}"


@pytest.mark.parametrize("stem", LAYERS)
def test_no_line_is_left_over(stem: str) -> None:
    assert any(stands_for(stem, name) for name in MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_libraries(name: str) -> None:
    wrong = [
        f"line {line}: {what}"
        for what, line in imports(MODULES[name])
        if top(what) in ONLY_IN and not any(stands_for(stem, name) for stem in ONLY_IN[top(what)])
    ]
    assert not wrong


def test_cython_imports_only_fastpath() -> None:
    pattern = re.compile(r"^\s*(?:from|cimport|import)\s+([\w.]+)", re.MULTILINE)
    for path in (ROOT / "fastpath").glob("*.p[yx][xd]"):
        for what in pattern.findall(path.read_text()):
            assert top(what) in {"array", "cpython", "cython", "fastpath", "libc", "os", "threading", "time"}, (
                f"{path.name} imports {what}"
            )


def test_nobody_imports_bench_or_tests() -> None:
    for folder, forbidden in (("scripts", {"bench", "tests"}), ("bench", {"tests"})):
        for path in (ROOT / folder).rglob("*.py"):
            wrong = [f"line {line}: {what}" for what, line in imports(path) if top(what) in forbidden]
            assert not wrong, path


def test_every_package_is_listed() -> None:
    folders = {path.parent.relative_to(ROOT) for top in ALLOWED_PACKAGES for path in (ROOT / top).rglob("__init__.py")}
    assert sorted(".".join(folder.parts) for folder in folders) == sorted(PACKAGES)


@pytest.mark.parametrize("name", shipped())
def test_files_are_short(name: str) -> None:
    assert len(shipped()[name].read_text().splitlines()) <= LONGEST_FILE
