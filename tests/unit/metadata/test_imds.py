"""The gate of IMDSv2: one row for every status code of the reference."""

from __future__ import annotations

import pytest

from metadata.access import Access
from metadata.backend import OwnBackend
from metadata.http1 import Request
from metadata.identity import Known
from metadata.imds import gate
from metadata.responses import Response
from metadata.tokens import KeyRing, TokenKeys
from metadata.tree import InstanceTree
from tests.unit.metadata.sample import FULL, NOW

KEYS = TokenKeys(KeyRing.fresh(NOW))
TREE = OwnBackend(InstanceTree(FULL))
OPTIONAL, REQUIRED, OFF = Access(), Access(http_tokens_required=True), Access(http_endpoint=False)
TTL = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "x-aws-ec2-metadata-token"
XFF = {"x-forwarded-for": "10.0.0.6"}
GOOD = KEYS.make("port-1", 21600, NOW)
EXPIRED = KEYS.make("port-1", 1, NOW - 10)
FOREIGN = KEYS.make("port-2", 21600, NOW)
HOSTNAME = "/latest/meta-data/hostname"


def ask(method: str, target: str, headers: dict[str, str] | None = None, access: Access = OPTIONAL) -> Response | None:
    known = Known("port-1", TREE, access)
    return gate(Request(method, target.encode("latin-1"), True, None, headers or {}), known, KEYS, NOW)


def status(method: str, target: str, headers: dict[str, str] | None = None, access: Access = OPTIONAL) -> int | None:
    response = ask(method, target, headers, access)
    return None if response is None else response.status


@pytest.mark.parametrize("access", [OPTIONAL, REQUIRED])
@pytest.mark.parametrize("ttl", ["1", "60", "21600", "00060"])
def test_a_token_is_made(ttl: str, access: Access) -> None:
    response = ask("PUT", "/latest/api/token", {TTL: ttl}, access)
    assert response is not None
    assert (response.status, response.content_type) == (200, "text/plain")
    assert response.headers == (("X-aws-ec2-metadata-token-ttl-seconds", str(int(ttl))),)
    token = response.body.decode()
    assert KEYS.valid(token, "port-1", NOW + int(ttl) - 0.5)
    assert not KEYS.valid(token, "port-1", NOW + int(ttl) + 0.5)
    assert not KEYS.valid(token, "port-2", NOW)
    assert not response.lasting


@pytest.mark.parametrize(
    "ttl", ["", "0", "-1", "+60", "21601", "99999999999", "1.5", "60, 60", "sixty", "²", " 1", "1e3"]
)
def test_a_wrong_ttl(ttl: str) -> None:
    assert status("PUT", "/latest/api/token", {TTL: ttl}) == 400


def test_no_ttl() -> None:
    assert status("PUT", "/latest/api/token") == 400


def test_a_query_is_not_part_of_the_path() -> None:
    assert status("PUT", "/latest/api/token?x=y", {TTL: "60"}) == 200


def test_other_spellings_of_the_token_path_are_forbidden() -> None:
    for target in ("/latest/api/token/", "/latest//api/token", "/2021-03-23/api/token", "/1.0/api/token",
                   "/ec2/latest/api/token", "/latest/api/%74oken", "/x/../latest/api/token"):  # fmt: skip
        response = ask("PUT", target, {TTL: "60"})
        assert response is not None
        assert (response.status, response.body, response.hop_limit) == (403, b"", None), target
        assert status("GET", target) is None, target


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize("access", [OPTIONAL, REQUIRED])
def test_other_methods_on_the_token_path(method: str, access: Access) -> None:
    response = ask(method, "/latest/api/token", access=access)
    assert response is not None
    assert response.status == 405
    assert response.headers == (("Allow", "OPTIONS, PUT"),)


def test_options_of_the_token_path() -> None:
    response = ask("OPTIONS", "/latest/api/token")
    assert response is not None
    assert (response.status, response.headers) == (200, (("Allow", "OPTIONS, PUT"),))


@pytest.mark.parametrize("target", ["/latest/api/token", "/latest/api/token/", HOSTNAME, "/nothing"])
def test_a_proxied_put_is_forbidden(target: str) -> None:
    assert status("PUT", target, {TTL: "60", **XFF}) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "access", "expected"),
    [
        ({}, OPTIONAL, None),
        ({}, REQUIRED, 401),
        ({TOKEN: GOOD}, OPTIONAL, None),
        ({TOKEN: GOOD}, REQUIRED, None),
        ({TOKEN: EXPIRED}, OPTIONAL, 401),
        ({TOKEN: EXPIRED}, REQUIRED, 401),
        ({TOKEN: FOREIGN}, OPTIONAL, 401),
        ({TOKEN: FOREIGN}, REQUIRED, 401),
        ({TOKEN: "nonsense"}, OPTIONAL, 401),
        ({TOKEN: ""}, OPTIONAL, 401),
        ({TOKEN: f"{GOOD}, {GOOD}"}, OPTIONAL, 401),
        (XFF, OPTIONAL, None),
        (XFF, REQUIRED, 403),
        ({TOKEN: GOOD, **XFF}, OPTIONAL, 403),
        ({TOKEN: GOOD, **XFF}, REQUIRED, 403),
        ({TOKEN: "nonsense", **XFF}, OPTIONAL, 403),
    ],
)
def test_reading(method: str, headers: dict[str, str], access: Access, expected: int | None) -> None:
    for target in (HOSTNAME, "/", "/openstack/latest/meta_data.json", "/nocloud/meta-data", "/nothing"):
        assert status(method, target, headers, access) == expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "access", "expected"),
    [(XFF, REQUIRED, 403), ({TOKEN: GOOD, **XFF}, OPTIONAL, 403), ({TOKEN: GOOD, **XFF}, REQUIRED, 403)],
)
@pytest.mark.parametrize("target", ["/latest/api/token", "/latest/api/token/", "/openstack/latest/password", HOSTNAME])
def test_proxied_requests_with_a_token_or_where_one_is_needed(
    method: str, headers: dict[str, str], access: Access, expected: int, target: str
) -> None:
    assert status(method, target, headers, access) == expected


@pytest.mark.parametrize("value", ["", "10.0.0.6", "10.0.0.6, 10.0.0.7", "nonsense", "unknown"])
def test_what_the_header_says_does_not_matter(value: str) -> None:
    proxied = {"x-forwarded-for": value}
    assert status("PUT", "/latest/api/token", {TTL: "60", **proxied}) == 403
    assert status("GET", HOSTNAME, {TOKEN: GOOD, **proxied}) == 403
    assert status("GET", HOSTNAME, proxied, REQUIRED) == 403


def test_proxied_requests_without_a_token_are_as_ever_where_none_is_needed() -> None:
    """AWS answers them, too: proxies such as kube2iam send the header with every request of version 1."""
    assert status("GET", HOSTNAME, XFF) is None
    assert status("HEAD", HOSTNAME, XFF) is None
    assert status("POST", "/openstack/latest/password", XFF) is None
    assert status("GET", "/latest/api/token", XFF) == 405
    assert status("OPTIONS", "/latest/api/token", XFF) == 200


def test_unknown_foreign_and_expired_tokens_look_alike() -> None:
    bodies = {
        (response.status, response.body, response.headers)
        for token in (EXPIRED, FOREIGN, "nonsense", "")
        if (response := ask("GET", HOSTNAME, {TOKEN: token}))
    }
    assert len(bodies) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "OPTIONS"])
@pytest.mark.parametrize("target", ["/", HOSTNAME, "/latest/api/token", "/openstack", "/nocloud/"])
def test_an_endpoint_that_is_off(method: str, target: str) -> None:
    for headers in ({}, {TTL: "60"}, {TOKEN: GOOD}):
        assert status(method, target, headers, OFF) == 403


def test_writing_needs_a_token_as_well() -> None:
    path = "/openstack/latest/password"
    assert status("POST", path) is None
    assert status("POST", path, {}, REQUIRED) == 401
    assert status("POST", path, {TOKEN: GOOD}, REQUIRED) is None
    assert status("PUT", HOSTNAME, {TOKEN: GOOD}, REQUIRED) is None  # its 405 is the tree's


@pytest.mark.parametrize("hops", [1, 2, 64])
def test_only_the_answer_with_a_token_has_a_hop_limit(hops: int) -> None:
    access = Access(hop_limit=hops)
    made = ask("PUT", "/latest/api/token", {TTL: "60"}, access)
    refused = ask("PUT", "/latest/api/token", {TTL: "0"}, access)
    assert made is not None
    assert refused is not None
    assert (made.hop_limit, refused.hop_limit) == (hops, None)


def test_firecrackers_names() -> None:
    response = ask("PUT", "/latest/api/token", {"x-metadata-token-ttl-seconds": "60"}, REQUIRED)
    assert response is not None
    assert (response.status, response.headers) == (200, (("X-metadata-token-ttl-seconds", "60"),))
    token = response.body.decode()
    assert status("GET", HOSTNAME, {"x-metadata-token": token}, REQUIRED) is None
    assert status("GET", HOSTNAME, {TOKEN: token}, REQUIRED) is None
    assert status("GET", HOSTNAME, {"x-metadata-token": FOREIGN}) == 401
    assert status("GET", HOSTNAME, {"x-metadata-token": GOOD, **XFF}) == 403


def test_awss_names_come_first() -> None:
    headers = {TTL: "60", "x-metadata-token-ttl-seconds": "0"}
    assert status("PUT", "/latest/api/token", headers) == 200
    assert status("GET", HOSTNAME, {TOKEN: "nonsense", "x-metadata-token": GOOD}) == 401


def test_answers_are_counted_as_the_gates() -> None:
    for response in (ask("PUT", "/latest/api/token", {TTL: "1"}), ask("GET", HOSTNAME, {}, REQUIRED)):
        assert response is not None
        assert response.label[0] == "imds"
