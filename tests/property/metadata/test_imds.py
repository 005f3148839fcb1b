"""The gate on any input: it never raises, and no token opens another port's documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metadata.access import Access
from metadata.backend import OwnBackend
from metadata.http1 import Request
from metadata.identity import Known
from metadata.imds import concerns, gate
from metadata.tokens import MAX_TTL, ROTATE_SECONDS, KeyRing, TokenKeys
from metadata.tree import InstanceTree
from tests.unit.metadata.sample import FULL, NOW

KEYS = TokenKeys(KeyRing.fresh(NOW))
TREE = OwnBackend(InstanceTree(FULL))
TOKEN = "x-aws-ec2-metadata-token"
NAMES = [TOKEN, f"{TOKEN}-ttl-seconds", "x-metadata-token", "x-metadata-token-ttl-seconds", "x-forwarded-for", "accept"]

ports = st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "replace").decode())
headers = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(
        st.text(alphabet=st.characters(max_codepoint=255), max_size=60),
        st.integers(0, 30000).map(str),
        st.just(KEYS.make("port-1", 60, NOW)),
    ),
)
targets = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"/latest/api/token", b"/latest/api/token/", b"/2020-01-01/api/token", b"/", b"/openstack"]),
)
accesses = st.builds(
    Access, http_endpoint=st.booleans(), http_tokens_required=st.booleans(), hop_limit=st.integers(1, 64)
)


@given(st.sampled_from(["GET", "HEAD", "PUT", "POST", "OPTIONS", "DELETE"]), targets, headers, accesses)
def test_any_request(method: str, target: bytes, given_headers: dict[str, str], access: Access) -> None:
    request = Request(method, target, True, None, given_headers)
    known = Known("port-1", TREE, access)
    response = gate(request, known, KEYS, NOW)
    if not known.gated and not concerns(request):
        assert response is None  # so it need not be asked
    if not access.http_endpoint:
        assert response is not None
        assert response.status == 403
    elif response is None:
        assert not access.http_tokens_required or KEYS.valid(
            given_headers.get(TOKEN, given_headers.get("x-metadata-token", "")), "port-1", NOW
        )
    else:
        assert response.status in {200, 400, 401, 403, 405}
        assert (response.hop_limit is not None) == (response.status == 200 and method == "PUT")
        if response.hop_limit is not None:
            assert target.partition(b"?")[0] == b"/latest/api/token"
            assert "x-forwarded-for" not in given_headers


@given(ports, ports, st.integers(1, MAX_TTL), st.floats(0, 3 * MAX_TTL))
def test_a_token_is_for_one_port_and_one_time(port: str, other: str, ttl: int, later: float) -> None:
    token = KEYS.make(port, ttl, NOW)
    if abs(later - ttl) > 0.01:
        assert KEYS.valid(token, port, NOW + later) == (later < ttl)
    assert KEYS.valid(token, other, NOW) == (other == port)


@given(st.text(max_size=60), st.one_of(st.none(), st.binary(min_size=37, max_size=37)))
def test_no_text_is_a_token(text: str, raw: bytes | None) -> None:
    import base64

    assert not KEYS.valid(text if raw is None else base64.urlsafe_b64encode(raw).decode(), "port-1", NOW)


@given(st.lists(st.floats(0, 2 * ROTATE_SECONDS), min_size=1, max_size=20), st.integers(1, MAX_TTL))
def test_rotation_never_ends_a_living_token(steps: list[float], ttl: int) -> None:
    """However often somebody looks whether a rotation is due, and whatever restarts there are between."""
    keys, now = TokenKeys(KeyRing.fresh(NOW)), NOW
    living: list[tuple[str, float]] = []
    for step in steps:
        living.append((keys.make("port", ttl, now), now + ttl))
        now += step
        if keys.ring.due(now):
            keys = TokenKeys(KeyRing.load(keys.ring.rotated(now).export()))
        for token, ends in living:
            if abs(ends - now) > 0.01:
                assert keys.valid(token, "port", now) == (now < ends)
