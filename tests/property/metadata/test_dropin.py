"""Whatever a guest sends through a proxy, it is taken for nobody but itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metadata.dropin import Forwarded, ForwardedReader
from metadata.settings import Settings

ITSELF = Forwarded("blue", None, "10.0.0.5")
NAMES = (
    "X-Neutron-Network-ID", "X-Neutron-Router-ID", "X-OVN-Network-ID", "x-ovn-network-id", "X_OVN_Network_ID",
    "X-OVN-Router-ID", "X-Forwarded-For", "Forwarded", "X-Real-IP", "Connection", "Host", "Accept", "Content-Length",
    "Transfer-Encoding", "Trailer",
)  # fmt: skip
VALUES = (
    "green",
    "blue",
    "10.0.0.6",
    "10.0.0.5",
    "::1",
    "fe80::f816:3eff:fe00:6",
    "",
    ",",
    "chunked",
    "3",
    "close",
    "a\tb",
)

headers = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)
bodies = st.one_of(
    st.just(""),
    st.binary(max_size=40).map(lambda data: data.decode("latin-1")),
    headers.map(lambda lines: "0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"),
)


@given(headers, bodies, st.sampled_from(("GET", "POST", "PUT")), st.integers(1, 400))
def test_the_proxy_has_the_last_word(lines: list[tuple[str, str]], body: str, method: str, cut: int) -> None:
    """haproxy appends its own headers to the guest's and sends one request per connection of ours."""
    head = [f"{method} /latest HTTP/1.1", *(f"{name}: {value}" for name, value in lines)]
    text = "\r\n".join((*head, "X-OVN-Network-ID: blue", "X-Forwarded-For: 10.0.0.5", "", body)).encode("latin-1")
    reader = ForwardedReader(Settings())
    for start in range(0, len(text), cut):
        reader.feed(text[start : start + cut])
    assert len(reader.callers) >= len(reader.requests)
    for found in list(reader.callers)[:1]:
        assert found == ITSELF
    named = any(
        name.lower() in ("x-neutron-network-id", "x-neutron-router-id", "x-ovn-network-id") for name, _ in lines
    )
    if named:
        assert not reader.requests


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    reader = ForwardedReader(Settings())
    reader.feed(b"GET /latest HTTP/1.1\r\n" + data)
    reader.feed(b"\r\n\r\n")
    assert len(reader.callers) >= len(reader.requests)
