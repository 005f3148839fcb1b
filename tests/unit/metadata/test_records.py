"""What a document derives from itself."""

from __future__ import annotations

import msgspec
import pytest

from metadata.records import LinkRecord, SubnetRecord
from tests.unit.metadata.sample import BARE, FULL


def test_fqdn() -> None:
    assert FULL.fqdn == "blue-one.novalocal"
    assert BARE.fqdn == "bare"


def test_local_ipv4_is_the_first_ipv4_address() -> None:
    six = LinkRecord(port_id="a", network_id="n", mac="m", subnets=(SubnetRecord(address="fd00::1", cidr="fd00::/64"),))
    assert msgspec.structs.replace(FULL, links=(six, *FULL.links)).local_ipv4 == "10.0.0.5"
    assert msgspec.structs.replace(FULL, links=(six,)).local_ipv4 == ""


def test_documents_are_immutable() -> None:
    with pytest.raises(AttributeError):
        FULL.name = "other"  # type: ignore[misc]
