"""Runs one metadata request through the parts that answer guests, and says what each of them decided.

Nothing here decides anything itself: the caller is looked up as for a guest, the same gate and the same backend are
asked. The request is counted nowhere and uses up no guest's allowance.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, runtime_checkable

import msgspec

from dataplane.desired import Desired
from dataplane.explanation import MetadataExplanation, MetadataPolicy, MetadataQuestion, Upstream
from dataplane.model import PortId
from dataplane.security import project_of
from metadata.access import Access
from metadata.backend import OwnBackend, RetiredError
from metadata.dropin import Forwarded, link_local_mac
from metadata.http1 import Request
from metadata.identity import REASONS, Caller, CallerLookup, Known, Refused, Unknown
from metadata.responses import Response, error
from metadata.streamed import Streamed
from metadata.upstream import UpstreamError

TOKEN_PATH = b"/latest/api/token"
TOKEN_TTL = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
TOKEN_HEADER = "x-aws-ec2-metadata-token"

# Chosen: above the time that Nova may take for vendor data.
ANSWER_SECONDS = 75.0

Gate = Callable[[Request, Known, float], Response | None]


class Guarding(Protocol):
    """Who has the gate; `metadata.server.MetadataServer`."""

    @property
    def gate(self) -> Gate | None:
        """See `MetadataServer`."""


@runtime_checkable
class Proxying(Protocol):
    """A backend that asks somebody else."""

    def upstream(self, request: Request) -> tuple[str, str, dict[str, str]]:
        """Method, URL and the headers that say who is asking, without a signature."""


class Explainer:
    """Explains what `callers` and the gate of `guard` make of a request."""

    def __init__(self, desired: Desired, callers: CallerLookup, guard: Guarding) -> None:
        self._desired = desired
        self._callers = callers
        self._guard = guard

    async def metadata(self, question: MetadataQuestion) -> MetadataExplanation:
        """What becomes of the request; waits for the backend as a guest does, and asks again when a guest would."""
        while True:
            with suppress(RetiredError):
                return await self._metadata(question)

    async def _metadata(self, question: MetadataQuestion) -> MetadataExplanation:
        request = Request(question.method, question.path.encode(), False)
        said = MetadataExplanation(
            request_id=request.id,
            network=question.network,
            address=question.address,
            mac=question.mac,
            method=question.method,
            path=question.path,
            by="address" if question.mac is None else "mac",
            verdict="unknown",
        )
        caller = _caller(question)
        verdict = self._callers.lookup(caller)
        if isinstance(verdict, Unknown):
            return _with(said, reason=verdict.reason, meaning=REASONS[verdict.reason], response=error(503))
        if isinstance(verdict, Refused):
            return _with(
                said, verdict="refused", reason=verdict.reason, meaning=REASONS[verdict.reason], response=error(403)
            )
        port = self._desired.ports[PortId(verdict.port_id)]
        said = msgspec.structs.replace(
            said,
            verdict="known",
            port=verdict.port_id,
            instance=port.device_id,
            project=project_of(self._desired, port),
            backend="own" if isinstance(verdict.backend, OwnBackend) else "nova",
            policy=_policy(verdict.access),
        )
        began = time.perf_counter()
        gate = self._guard.gate
        if gate is not None:
            if question.token:
                request = _with_token(request, gate, verdict)
            refusal = gate(request, verdict, time.time())
            if refusal is not None:
                return _with(said, decided_by="policy", response=refusal)
        if isinstance(verdict.backend, Proxying):
            method, url, headers = verdict.backend.upstream(request)
            said = msgspec.structs.replace(said, upstream=Upstream(method=method, url=url, headers=headers))
        given = verdict.backend.answer(request, caller, time.time())
        answer: Response | Streamed
        if isinstance(given, Response):
            answer = given
        else:
            try:
                answer = await asyncio.wait_for(given, ANSWER_SECONDS)
            except TimeoutError:
                answer = error(504)
        size = await _whole(answer) if isinstance(answer, Streamed) else None
        return _with(said, decided_by="backend", response=answer, size=size, seconds=time.perf_counter() - began)


def _caller(question: MetadataQuestion) -> Caller:
    if question.mac is not None:
        return Caller(question.network, question.mac, question.address)
    return Forwarded(question.network, link_local_mac(question.address), question.address)


def _with_token(request: Request, gate: Gate, known: Known) -> Request:
    """The request with a token that this gate has made for this port, if it makes tokens."""
    made = gate(Request("PUT", TOKEN_PATH, False, None, TOKEN_TTL), known, time.time())
    if made is None or made.status != 200:
        return request
    return Request(request.method, request.target, False, None, {**request.headers, TOKEN_HEADER: made.body.decode()})


def _policy(access: Access) -> MetadataPolicy:
    return MetadataPolicy(
        http_endpoint="enabled" if access.http_endpoint else "disabled",
        http_tokens="required" if access.http_tokens_required else "optional",
        http_put_response_hop_limit=access.hop_limit,
        instance_metadata_tags="enabled" if access.tags else "disabled",
    )


async def _whole(answer: Streamed) -> int:
    """Bytes of the body, read to its end."""
    size = len(answer.first)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while part := await answer.rest.read():
                size += len(part)
    except (TimeoutError, UpstreamError):
        pass
    finally:
        answer.close()
    return size


def _with(
    said: MetadataExplanation, *, response: Response | Streamed, size: int | None = None, **fields: object
) -> MetadataExplanation:
    return msgspec.structs.replace(
        said,
        status=response.status,
        content_type=response.content_type,
        size=len(response.content()) if isinstance(response, Response) else size,
        **fields,
    )
