"""The requests of the control API: one small function each, all talking to a `Backend`."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web

from dataplane import openapi, strict
from dataplane.control_peer import Gate, Peer, credentials
from dataplane.errors import DocumentError, Mistake, StoreError
from dataplane.explanation import (
    METHODS,
    PATH,
    MetadataExplanation,
    MetadataQuestion,
    PacketExplanation,
    PacketQuestion,
)
from dataplane.leases import LeaseRow
from dataplane.metrics import Metrics
from dataplane.metrics_text import render
from dataplane.model import KINDS, SINGULAR, Ip, Kind, Mac, NetworkId, Object, Port, PortId
from dataplane.status import DeleteRequest, NetworkStatus, Outcome, Problem, Status, Waited, faults
from metadata.identity import peer_address

log = logging.getLogger("nodeplane.control")

DEFAULT_WAIT = 30.0
MAX_WAIT = 600.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PEER: web.RequestKey[Peer] = web.RequestKey("peer", Peer)


class Backend(Protocol):
    """What the control API needs of the daemon. Everything is called on the event loop."""

    async def apply(self, document: object, *, prune: bool, dry_run: bool) -> Outcome:
        """Commit plain data as a document; returns after the durable commit.

        Raises DocumentError (nothing is changed), StoreError.
        """

    async def delete(self, refs: Sequence[tuple[Kind, str]]) -> Outcome:
        """Delete objects in one transaction; raises as `apply`, also for ids that do not exist."""

    def objects(self, kind: Kind) -> Mapping[str, Object]:
        """The committed objects of a kind by id; a view, not changed by the caller."""

    async def leases(self, network_id: NetworkId | None) -> Sequence[LeaseRow]:
        """What guests were told, of one network or all; what is returned survives a crash."""

    def status(self) -> Status:
        """The state of the node, now; quick, since probes ask often."""

    async def explain_metadata(self, question: MetadataQuestion) -> MetadataExplanation:
        """What becomes of a metadata request."""

    def explain_packet(self, question: PacketQuestion) -> PacketExplanation:
        """What becomes of a packet; raises ValueError for one that cannot be read."""

    async def wait_applied(self, position: int, timeout: float) -> bool:  # noqa: ASYNC109 - part of the protocol
        """Wait until every network was brought to `position` (or failed); False after `timeout` seconds."""


class RequestError(Exception):
    """Ends a request with a Problem."""

    def __init__(self, code: int, error: str, hint: str = "") -> None:
        self.code = code
        self.problem = Problem(error=error, hint=hint)
        super().__init__(error)


class Routes:
    """The handlers over one backend; `app` makes the application for the control socket or the TCP port."""

    def __init__(self, backend: Backend, metrics: Metrics, body_bytes: int) -> None:
        self._backend = backend
        self._metrics = metrics
        self._body_bytes = body_bytes
        self._requests = metrics.counter("nodeplane_control_requests_total")
        self._openapi = msgspec.json.encode(openapi.document())
        self._handlers: dict[str, Handler] = {
            "apply": self._apply,
            "delete": self._delete,
            **{f"list_{kind}": self._list(kind) for kind in KINDS},
            **{f"get_{SINGULAR[kind]}": self._get(kind) for kind in KINDS},
            "list_leases": self._leases,
            "status": self._status,
            "wait": self._wait,
            "explain_metadata": self._explain_metadata,
            "explain_packet": self._explain_packet,
            "openapi": self._describe,
            "metrics": self._metrics_text,
            "livez": self._livez,
            "readyz": self._readyz,
        }

    def app(self, gate: Gate | None) -> web.Application:
        """Everything behind `gate`; without a gate only the health and metrics pages."""
        app = web.Application(client_max_size=self._body_bytes, middlewares=[self._guard(gate)])
        for operation in openapi.OPERATIONS:
            if gate is not None or not operation.path.startswith("/v1/"):
                app.router.add_route(operation.method, operation.path, self._handlers[operation.id], name=operation.id)
        return app

    def _guard(self, gate: Gate | None) -> Any:
        """The middleware: who may pass, every failure as a Problem, every answer counted."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            operation = request.match_info.route.name or "unknown"
            try:
                if gate is not None:
                    request[PEER] = _admit(gate, request)
                response = await handler(request)
            except RequestError as refusal:
                response = _json(refusal.problem, refusal.code)
            except DocumentError as error:
                log.info("control.refused", extra={"fields": {"mistakes": len(error.mistakes)}})
                count = len(error.mistakes)
                text = f"nothing was changed: {count} mistake{'s' if count > 1 else ''} in the document"
                response = _json(Problem(error=text, mistakes=faults(error.mistakes)), 422)
            except StoreError as error:
                response = _json(Problem(error=f"nothing was changed: {error}", hint="see the daemon's log"), 503)
            except web.HTTPRequestEntityTooLarge:
                text = f"the document is larger than {self._body_bytes} bytes"
                response = _json(Problem(error=text, hint="apply it in parts, or raise control.body_bytes"), 413)
            except web.HTTPException as error:
                response = _json(
                    Problem(error=error.reason.lower(), hint="GET /v1/openapi.json lists all"), error.status
                )
            except Exception:
                log.exception("control.failed", extra={"fields": {"operation": operation}})
                response = _json(Problem(error="internal error", hint="see the daemon's log for control.failed"), 500)
            self._requests.add(operation, str(response.status))
            return response

        return guard

    async def _apply(self, request: web.Request) -> web.Response:
        prune, dry_run, wait = _flag(request, "prune"), _flag(request, "dry_run"), _seconds(request, "wait")
        document = await _body(request)
        # shield: a client that goes away must not interrupt a transaction halfway
        outcome = await asyncio.shield(self._backend.apply(document, prune=prune, dry_run=dry_run))
        if not dry_run:
            log.info("control.applied", extra={"fields": _committed(request[PEER], outcome)})
        return _json(outcome if dry_run else await self._waited(outcome, wait))

    async def _delete(self, request: web.Request) -> web.Response:
        wait = _seconds(request, "wait")
        wanted, mistakes = strict.decode(DeleteRequest, await _body(request))
        if wanted is None:
            raise DocumentError(mistakes)
        refs = [(kind, id_) for kind in KINDS for id_ in getattr(wanted, kind)]
        if not refs:
            raise DocumentError([Mistake("", "names nothing to delete")])
        outcome = await asyncio.shield(self._backend.delete(refs))
        log.info("control.deleted", extra={"fields": _committed(request[PEER], outcome)})
        return _json(await self._waited(outcome, wait))

    async def _waited(self, outcome: Outcome, wait: float | None) -> Outcome:
        if wait is None:
            return outcome
        applied = await self._backend.wait_applied(outcome.position, wait)
        return msgspec.structs.replace(outcome, waited=True, applied=applied, failed=self._failed())

    def _failed(self) -> tuple[NetworkStatus, ...]:
        return tuple(network for network in self._backend.status().networks if network.state == "error")

    def _list(self, kind: Kind) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            objects: Iterable[Object] = self._backend.objects(kind).values()
            if kind == "ports" and (network := request.query.get("network_id")):
                objects = [port for port in objects if isinstance(port, Port) and port.network_id == network]
            return _json({kind: list(objects)})

        return handler

    def _get(self, kind: Kind) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            return _json(self._find(kind, request.match_info["id"]))

        return handler

    def _find(self, kind: Kind, wanted: str) -> Object:
        return _found(kind, self._backend.objects(kind), wanted)

    async def _leases(self, request: web.Request) -> web.Response:
        network = request.query.get("network_id")
        return _json({"leases": list(await self._backend.leases(NetworkId(network) if network else None))})

    async def _status(self, request: web.Request) -> web.Response:
        return _json(self._backend.status())

    async def _wait(self, request: web.Request) -> web.Response:
        text = request.query.get("position", "")
        if text and not text.isdecimal():
            raise RequestError(400, "position is not a whole number")
        position = int(text) if text else self._backend.status().revision
        timeout = _seconds(request, "timeout")
        applied = await self._backend.wait_applied(position, DEFAULT_WAIT if timeout is None else timeout)
        return _json(Waited(position=position, applied=applied, failed=self._failed()))

    async def _describe(self, request: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")

    async def _explain_metadata(self, request: web.Request) -> web.Response:
        query = request.query
        if not query.get("network"):
            raise RequestError(400, "network is missing")
        mac = query.get("mac")
        path = query.get("path") or PATH
        method = query.get("method", "GET").upper()
        if method not in METHODS:
            raise RequestError(400, f"method is none of {', '.join(METHODS)}")
        question = MetadataQuestion(
            network=NetworkId(self._find("networks", query["network"]).id),
            address=_address(query.get("address", "")),
            mac=_mac(mac) if mac else None,
            path=path if path.startswith("/") else f"/{path}",
            method="HEAD" if method == "HEAD" else "GET",
            token=_flag(request, "token"),
        )
        return _json(await self._backend.explain_metadata(question))

    async def _explain_packet(self, request: web.Request) -> web.Response:
        query = request.query
        for name in ("network", "port", "packet"):
            if not query.get(name):
                raise RequestError(400, f"{name} is missing")
        direction, mac = query.get("direction") or None, query.get("mac")
        if direction is not None and direction not in ("ingress", "egress"):
            raise RequestError(400, "direction is neither ingress nor egress")
        network = self._find("networks", query["network"]).id
        ports = self._backend.objects("ports")
        of_network = {id_: port for id_, port in ports.items() if isinstance(port, Port) and port.network_id == network}
        question = PacketQuestion(
            port=PortId(_found("ports", of_network, query["port"]).id),
            packet=query["packet"],
            direction="ingress" if direction == "ingress" else "egress" if direction else None,
            mac=_mac(mac) if mac else None,
        )
        try:
            return _json(self._backend.explain_packet(question))
        except ValueError as error:
            raise RequestError(400, str(error)) from None

    async def _metrics_text(self, request: web.Request) -> web.Response:
        snapshot = self._metrics.snapshot()
        text, content_type = await asyncio.to_thread(render, snapshot, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self._backend.status().ready
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)


def _found(kind: Kind, objects: Mapping[str, Object], wanted: str) -> Object:
    """The object of an id, or of the beginning of one."""
    if (found := objects.get(wanted)) is not None:
        return found
    near = [id_ for id_ in objects if id_.startswith(wanted)]
    if not near:
        one = SINGULAR[kind].replace("_", " ")
        raise RequestError(404, f"there is no {one} {wanted}", f"nodeplane get {kind} lists them")
    if len(near) > 1:
        many = kind.replace("_", " ")
        raise RequestError(409, f"{len(near)} {many} begin with {wanted}", f"for example {near[0]} and {near[1]}")
    return objects[near[0]]


def _admit(gate: Gate, request: web.Request) -> Peer:
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None:
        raise RequestError(403, "the connection is gone")
    peer = credentials(connection)
    if not gate.allows(peer):
        log.warning("control.denied", extra={"fields": {"uid": peer.uid, "gid": peer.gid, "pid": peer.pid}})
        hint = "use sudo, or let the operator add you to control.allow_users or control.allow_groups"
        raise RequestError(403, f"user {peer.uid} may not use the control socket", hint)
    return peer


def _committed(peer: Peer, outcome: Outcome) -> dict[str, object]:
    """Log fields of a transaction: what it touched and who sent it."""
    changed = {
        kind: touched
        for kind, counts in msgspec.to_builtins(outcome.changed).items()
        if (touched := {verb: count for verb, count in counts.items() if count and verb != "unchanged"})
    }
    return {"position": outcome.position, "changed": changed, "uid": peer.uid, "pid": peer.pid}


def _json(value: object, code: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=code, content_type="application/json")


async def _body(request: web.Request) -> object:
    try:
        return msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None


def _address(text: str) -> Ip:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise RequestError(400, f"address {text!r} is not an IP address") from None
    return Ip(peer_address(str(address)))


def _mac(text: str) -> Mac:
    mac = text.lower().replace("-", ":")
    if not re.fullmatch("[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise RequestError(400, f"mac {text!r} is not a MAC address")
    return Mac(mac)


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "0").lower()
    if text in ("1", "true", "yes", ""):
        return True
    if text in ("0", "false", "no"):
        return False
    raise RequestError(400, f"{name} is neither 1 nor 0")


def _seconds(request: web.Request, name: str) -> float | None:
    """A span of time of the query, at most MAX_WAIT; the default wait if it has no value; None if it is not there."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        seconds = float(text) if text else DEFAULT_WAIT
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT:
        raise RequestError(400, f"{name} is not a number of seconds from 0 to {MAX_WAIT:g}")
    return seconds
