"""Nova's own test vectors, and which headers name the caller."""

from __future__ import annotations

import pytest

from metadata.signature import Signer, Subject, sign

SUBJECT = Subject(
    port_id="p", network_id="blue-net", instance_id="b65cee2f-8c69-4aeb-be2f-f79742548fc2", project_id="blue",
    address="10.0.0.5",
)  # fmt: skip
SIGNATURE = "823491c9c66985fac0685c45d8eda8869d581ff62c4661479451ee51e2946737"


@pytest.mark.parametrize(
    ("secret", "text", "signature"),
    [
        ("s3cr3t", "b65cee2f-8c69-4aeb-be2f-f79742548fc2", SIGNATURE),
        ("s3cr3t", "a-b-c-d", "e8935dadee80c6eb255c82f3f25df89646d37bc9ed008a06ffb541516ab5c9fa"),
        (
            "",
            "b65cee2f-8c69-4aeb-be2f-f79742548fc2",
            "988ce0432879b2da725247b4a4c1a9ea78966115a19bcd11de5389b1e37c0fed",
        ),
    ],
)
def test_vectors(secret: str, text: str, signature: str) -> None:
    assert sign(secret, text) == signature


def test_instance_headers() -> None:
    assert Signer(("s3cr3t",)).headers(SUBJECT, "s3cr3t") == {
        "X-Instance-ID": SUBJECT.instance_id,
        "X-Tenant-ID": "blue",
        "X-Forwarded-For": "10.0.0.5",
        "X-Instance-ID-Signature": SIGNATURE,
    }


def test_provider_headers() -> None:
    signer = Signer(("s3cr3t",), "provider", "edge-{network_id}")
    assert signer.headers(SUBJECT, "s3cr3t") == {
        "X-Metadata-Provider": "edge-blue-net",
        "X-Forwarded-For": "10.0.0.5",
        "X-Metadata-Provider-Signature": sign("s3cr3t", "edge-blue-net"),
    }


def test_identity_holds_no_signature() -> None:
    for signer in (Signer(("s3cr3t",)), Signer(("s3cr3t",), "provider", "edge")):
        assert not any("Signature" in name for name in signer.identity(SUBJECT))


@pytest.mark.parametrize("secrets", [(), ("",), ("s3cr3t", "")])
def test_an_empty_secret_is_refused(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="secret is empty"):
        Signer(secrets)


def test_a_provider_needs_an_id() -> None:
    with pytest.raises(ValueError, match="provider's id"):
        Signer(("s3cr3t",), "provider")
