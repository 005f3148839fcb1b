"""The control API: HTTP and JSON on a Unix socket, and the health and metrics pages on an optional TCP port.

`Backend` is all it knows of the daemon. Life cycle: `ControlServer(...)`, `await start()`, `await close()`.
"""

from __future__ import annotations

import logging
import socket

from aiohttp import http_parser, web

from dataplane.config import Config, listen_address
from dataplane.control_peer import Gate
from dataplane.control_routes import Backend, Routes
from dataplane.errors import ListenError
from dataplane.metrics import Metrics
from dataplane.unix_socket import UnixListener

__all__ = ["Backend", "ControlServer"]

log = logging.getLogger("nodeplane.control")

# Chosen: applies finish within milliseconds, only `wait` takes longer, and a client can repeat that.
SHUTDOWN_SECONDS = 1.0
BACKLOG = 128


def require_compiled_parser() -> None:
    """Raise ListenError if aiohttp parses HTTP in Python: most of its holes in parsing were in that parser only."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ListenError("aiohttp runs without its compiled parser: is AIOHTTP_NO_EXTENSIONS set?")


class ControlServer:
    """Serves a backend on `control.socket` and, if configured, on `metrics.listen`."""

    def __init__(self, backend: Backend, config: Config, metrics: Metrics) -> None:
        self._config = config
        self._routes = Routes(backend, metrics, config.control.body_bytes)
        self._runners: list[web.AppRunner] = []
        self._unix: UnixListener | None = None

    async def start(self) -> None:
        """Open the listeners; raises ListenError, also when another daemon answers on the socket."""
        require_compiled_parser()
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening, give running requests a moment, and remove the socket if it is still ours."""
        if self._unix is not None:
            self._unix.remove()
            self._unix = None
        while self._runners:
            await self._runners.pop().cleanup()

    async def _start(self) -> None:
        gate = Gate.of(self._config.control)
        for name in gate.unknown:
            log.warning("control.unknown_name", extra={"fields": {"name": name}})
        path = self._config.control.socket
        self._unix = UnixListener.open(path, self._config.socket_mode, "the control socket", "control.socket", BACKLOG)
        await self._serve(self._routes.app(gate), self._unix.sock)
        log.info("control.listening", extra={"fields": {"socket": path}})
        if self._config.metrics.listen:
            await self._serve(self._routes.app(None), _listen_tcp(self._config.metrics.listen))
            log.info("metrics.listening", extra={"fields": {"listen": self._config.metrics.listen}})

    async def _serve(self, app: web.Application, listener: socket.socket) -> None:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
        self._runners.append(runner)
        await runner.setup()
        await web.SockSite(runner, listener, backlog=BACKLOG).start()


def _listen_tcp(listen: str) -> socket.socket:
    host, port = listen_address(listen)
    try:
        family, type_, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, type_ | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ListenError(f"cannot open metrics.listen {listen}: {error.strerror or error}") from error
    return listener
