"""The daemon, put together: what there is, in which order it starts, and in which order it ends.

Reads as a table of contents. Nothing here decides anything about guests; each line names the part that does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from pathlib import Path

import uvloop

import fastpath
from dataplane import __version__, privileges
from dataplane import config as configuration
from dataplane import log as logs
from dataplane.backend import NodeBackend
from dataplane.backends import Backends
from dataplane.callers import Callers
from dataplane.claim import claim
from dataplane.config import Config
from dataplane.desired import Desired
from dataplane.dhcp.policy import Policy
from dataplane.errors import ConfigError, NodeplaneError
from dataplane.explain import Explainer
from dataplane.fdstore import FdStore
from dataplane.heartbeat import Heartbeat
from dataplane.kernel import Kernel
from dataplane.lease_book import LeaseBook
from dataplane.metadata_view import Defaults
from dataplane.metrics import Metrics
from dataplane.neutron_socket import NeutronSocket
from dataplane.node import Node
from dataplane.nova_link import open_proxy
from dataplane.password_book import PasswordBook
from dataplane.readings import Readings
from dataplane.sdnotify import Notifier
from dataplane.store import Store
from dataplane.token_keeper import TokenKeeper
from fastpath import sockets
from metadata.access import Access
from metadata.limits import Window
from metadata.server import MetadataServer
from metadata.settings import Settings

log = logging.getLogger("nodeplane.daemon")

STORE_FILE = "nodeplane.db"
# Chosen: time for a restart with a thousand networks; after it the control socket opens whatever the node does.
GUESTS_FIRST_SECONDS = 1.5


def run(config: Config, path: str) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. `path` is read again at SIGHUP.

    Raises NodeplaneError when the daemon cannot start.
    """
    suppressed = logs.configure(config.log)
    # Until the daemon serves there is nothing to reload, and the signal's default is to end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _raise_descriptor_limit()
    _give_up_what_nobody_needs()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Daemon(config, path, suppressed).run())
    except NodeplaneError as error:
        log.error("daemon.failed", extra={"fields": {"error": str(error)}})
        raise


class _Daemon:
    """The parts that live as long as the process, and the signals that concern them."""

    def __init__(self, config: Config, path: str, log_limit: logs.RateLimit) -> None:
        self._log_limit = log_limit
        self._config = config
        self._path = path
        self._notifier = Notifier()
        self._stopping = asyncio.Event()
        self._suppressed_before = 0

    @property
    def _suppressed(self) -> int:
        return self._suppressed_before + self._log_limit.suppressed_total

    async def run(self) -> int:
        """Start everything, serve, end everything."""
        # While all that is made stays, looking for garbage only delays the first answer.
        gc.disable()
        log.info("daemon.starting", extra={"fields": {
            "version": __version__, "node": self._config.node_name, "config": self._path}})  # fmt: skip
        metrics = Metrics(self._config.metrics.per_network, fastpath.LEVEL)
        heartbeat = Heartbeat(metrics.histogram("nodeplane_event_loop_lag_seconds"), self._notifier)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(claim())
            fdstore = FdStore(self._notifier)
            kernel = await Kernel.open()
            stack.push_async_callback(kernel.close)
            # The namespace thread runs; no other, and this one reads what guests send.
            _give_up(privileges.LOOP)
            store = await Store.open(Path(self._config.node.state_dir) / STORE_FILE)
            stack.push_async_callback(store.close)
            log.info("store.opened", extra={"fields": {
                "position": store.position, "networks": len(store.desired.networks), "ports": len(store.desired.ports),
                "instances": len(store.desired.instances)}})  # fmt: skip
            rows = await store.load_leases()
            leases = LeaseBook(store, rows)
            # The journal is written a moment after a transaction: a crash in between leaves rows of deleted ports.
            leases.forget_ports({row.port_id for row in rows} - store.desired.ports.keys())
            desired = Desired()
            nova = open_proxy(self._config.nova, metrics)
            if nova is not None:
                stack.push_async_callback(nova.close)
            backends = Backends(PasswordBook(store, lambda: self._node.position), nova, self._config.metadata.backend)
            self._callers = Callers(desired, _defaults(self._config), backends)
            answered = metrics.histogram("nodeplane_metadata_request_duration_seconds").observer()
            self._tokens = await TokenKeeper.open(store)
            self._metadata = MetadataServer(
                self._callers, sockets, _settings(self._config), observe=answered, gate=self._tokens.gate
            )
            stack.callback(self._metadata.close)
            self._node = Node(
                self._config.node_name, store, kernel, self._metadata, self._callers, desired, leases, metrics, fdstore,
                _policy(self._config), self._config.node.coalesce_ms / 1000,
                serve=not self._config.metadata.dropin_only,
            )  # fmt: skip
            metrics.add_reader(Readings(store, self._node, leases, self._metadata, lambda: self._suppressed).read)
            explainer = Explainer(desired, self._callers, self._metadata)
            backend = NodeBackend(store, self._node, leases, self._metadata, explainer, heartbeat, metrics)
            if self._config.metadata.dropin_socket:
                stack.callback(NeutronSocket(self._metadata, self._config.metadata).close)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stopping.set)
            starting = asyncio.create_task(self._node.start(), name="start")
            stack.push_async_callback(_cancel, starting)
            # Guests first: after a restart the node is up by then. A long first start is to be watched, though.
            await asyncio.wait([starting], timeout=GUESTS_FIRST_SECONDS)
            from dataplane.control import ControlServer  # aiohttp: a third of the time to the first answer

            control = ControlServer(backend, self._config, metrics)
            await control.start()
            stack.push_async_callback(control.close)
            await starting
            return await self._serve(heartbeat)

    async def _serve(self, heartbeat: Heartbeat) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        pulse = asyncio.create_task(heartbeat.run(), name="heartbeat")
        # What is here now stays: the collector need not look at it again, and pauses stay short.
        gc.collect()
        gc.freeze()
        gc.enable()
        work = asyncio.create_task(self._node.run(), name="node")
        rotation = asyncio.create_task(self._tokens.run(), name="tokens")
        stop = asyncio.create_task(self._stopping.wait(), name="stop")
        networks = len(self._node.networks)
        log.info("daemon.ready", extra={"fields": {"networks": networks, "position": self._node.applied}})
        self._notifier.ready(f"{networks} networks")
        await asyncio.wait([work, stop, pulse, rotation], return_when=asyncio.FIRST_COMPLETED)
        failed = _failure(work) or _failure(pulse) or _failure(rotation)
        log.info("daemon.stopping", extra={"fields": {"on_stop": self._config.node.on_stop}})
        self._notifier.stopping()
        for task in (work, stop, pulse, rotation):
            task.cancel()
        await asyncio.gather(work, stop, pulse, rotation, return_exceptions=True)
        if failed is not None:
            log.error("daemon.task_failed", extra={"fields": {"error": repr(failed)}}, exc_info=failed)
            await self._node.stop(teardown=False)
            return 1
        await self._node.stop(teardown=self._config.node.on_stop == "teardown")
        log.info("daemon.stopped", extra={"fields": {}})
        return 0

    def _reload(self) -> None:
        """SIGHUP: take over what can change while running, and name what cannot."""
        self._notifier.reloading()
        try:
            new = configuration.load(self._path)
        except ConfigError as error:
            log.error("daemon.reload_refused", extra={"fields": {"error": str(error)}})
        else:
            changed = configuration.changed(self._config, new)
            self._take_over(new)
            log.info("daemon.reloaded", extra={"fields": {"changed": [key.path for key in changed]}})
            if waiting := [key.path for key in changed if not key.reload]:
                log.warning("daemon.restart_needed", extra={"fields": {"keys": waiting}})
        self._notifier.ready()

    def _take_over(self, new: Config) -> None:
        self._suppressed_before += self._log_limit.suppressed_total
        self._log_limit = logs.configure(new.log)
        self._node.set_policy(_policy(new))
        self._node.reconciler.coalesce_seconds = new.node.coalesce_ms / 1000
        self._metadata.configure(_settings(new))
        self._callers.defaults = _defaults(new)
        self._config = new


def _policy(config: Config) -> Policy:
    dhcp = config.dhcp
    return Policy(
        lease_time=dhcp.lease_time,
        min_lease_time=dhcp.min_lease_time,
        hold_seconds=dhcp.hold_seconds,
        hold_limit=dhcp.held_per_network,
        rate=dhcp.rate,
        burst=dhcp.burst,
        rapid_commit=dhcp.rapid_commit,
        domain=dhcp.domain,
    )


def _settings(config: Config) -> Settings:
    metadata = config.metadata
    return Settings(
        hold_seconds=metadata.hold_seconds,
        retry_after=metadata.retry_after,
        connections_per_network=metadata.connections_per_network,
        connections_per_port=metadata.connections_per_port,
        rate=metadata.rate,
        burst=metadata.burst,
        windows=_windows(config),
        header_bytes=metadata.header_bytes,
        body_bytes=metadata.body_bytes,
        header_timeout=metadata.header_timeout,
        idle_timeout=metadata.idle_timeout,
    )


def _windows(config: Config) -> tuple[Window, Window] | None:
    metadata = config.metadata
    if metadata.limit != "windows":
        return None
    return (
        Window(metadata.base_window_duration, metadata.base_query_rate_limit),
        Window(metadata.burst_window_duration, metadata.burst_query_rate_limit),
    )


def _defaults(config: Config) -> Defaults:
    metadata = config.metadata
    access = Access(
        http_endpoint=metadata.http_endpoint == "enabled",
        http_tokens_required=metadata.http_tokens == "required",
        hop_limit=metadata.http_put_response_hop_limit,
        tags=metadata.instance_metadata_tags == "enabled",
    )
    return Defaults(domain=metadata.dhcp_domain, region=metadata.region, access=access)


async def _cancel(task: asyncio.Task[None]) -> None:
    """End a task that may be under way; what it raised has been seen by whoever awaited it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _give_up_what_nobody_needs() -> None:
    """Before there is a second thread: all that no part of the process needs, and what programs could give it."""
    try:
        privileges.refuse_new()
    except OSError as error:
        log.warning("daemon.privileges_kept", extra={"fields": {"error": str(error)}})
    _give_up(privileges.NAMESPACES)


def _give_up(kept: frozenset[privileges.Capability]) -> None:
    """All capabilities of this thread but these, unless the unit, of an older release, forbids the system call."""
    try:
        privileges.keep(kept)
    except OSError as error:
        log.warning("daemon.privileges_kept", extra={"fields": {"error": str(error)}})


def _raise_descriptor_limit() -> None:
    """Five sockets a network and one a connection: take all that we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
