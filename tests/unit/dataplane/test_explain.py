"""Explanations of requests that a backend elsewhere answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

from dataplane import documents
from dataplane.desired import Desired
from dataplane.explain import Explainer
from dataplane.explanation import MetadataExplanation, MetadataQuestion, Upstream
from dataplane.model import Ip, NetworkId
from metadata.access import Access
from metadata.backend import RetiredError
from metadata.http1 import Request
from metadata.identity import Caller, Known, Verdict
from metadata.responses import Response
from tests.unit.dataplane.fake_backend import TENANT

QUESTION = MetadataQuestion(network=NetworkId("blue-net"), address=Ip("10.0.0.5"), path="/latest")


class Elsewhere:
    """A backend that asks somebody, and whose port changes under the first `changes` requests."""

    def __init__(self, changes: int = 0) -> None:
        self.changes = changes
        self.asked: list[str] = []

    def answer(self, request: Request, caller: Caller, now: float) -> Awaitable[Response]:
        return self._answer(request)

    def upstream(self, request: Request) -> tuple[str, str, dict[str, str]]:
        return "GET", f"http://nova{request.target.decode()}", {"X-Instance-ID": "i"}

    async def _answer(self, request: Request) -> Response:
        await asyncio.sleep(0)
        self.asked.append(request.id)
        if len(self.asked) <= self.changes:
            raise RetiredError
        return Response(200, "text/plain", b"body")


class Guard:
    gate = None


def explained(backend: Elsewhere, document: Any = TENANT) -> MetadataExplanation:
    class Fixed:
        def lookup(self, caller: Caller) -> Verdict:
            return Known("blue-port", backend, Access(http_tokens_required=True, hop_limit=3))

    desired = Desired.of(documents.decode(document))
    return asyncio.run(Explainer(desired, Fixed(), Guard()).metadata(QUESTION))


def test_upstream() -> None:
    backend = Elsewhere()
    found = explained(backend)
    assert found.backend == "nova"
    assert found.upstream == Upstream(method="GET", url="http://nova/latest", headers={"X-Instance-ID": "i"})
    assert (found.status, found.size, found.decided_by, found.project) == (200, 4, "backend", "blue-project")
    assert backend.asked == [found.request_id]
    assert found.policy is not None
    assert (found.policy.http_tokens, found.policy.http_put_response_hop_limit) == ("required", 3)


def test_a_port_that_changes_meanwhile_is_looked_up_again() -> None:
    backend = Elsewhere(2)
    assert explained(backend).status == 200
    assert len(backend.asked) == 3


def test_the_project_of_a_port_whose_instance_only_nova_knows() -> None:
    document = json.loads(json.dumps(TENANT))
    document["instances"] = []
    document["ports"][0]["project_id"] = "blue-project"
    found = explained(Elsewhere(), document)
    assert (found.instance, found.project) == (document["ports"][0]["device_id"], "blue-project")
