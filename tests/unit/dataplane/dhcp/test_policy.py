from __future__ import annotations

from typing import Any

import pytest

from dataplane.dhcp.policy import Policy, ServerIdentity
from dataplane.model import Ip


def test_defaults() -> None:
    policy = Policy()
    assert policy.lease_seconds == 86400
    assert not policy.rapid_commit
    assert ServerIdentity(mac=bytes(6)).address == bytes([169, 254, 169, 254])


def test_minus_one_is_for_ever() -> None:
    assert Policy(lease_time=-1).lease_seconds == 0xFFFFFFFF


@pytest.mark.parametrize(
    "values",
    [
        {"lease_time": 0},
        {"lease_time": -2},
        {"lease_time": 1 << 32},
        {"hold_seconds": -1.0},
        {"hold_limit": 0},
        {"rate": -1.0},
        {"burst": 0},
    ],
)
def test_values_that_cannot_work(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Policy(**values)


def test_an_identity_has_a_mac_and_an_address() -> None:
    with pytest.raises(ValueError, match="6 bytes"):
        ServerIdentity(mac=b"12345")
    with pytest.raises(ValueError, match="4 octets"):
        ServerIdentity(mac=bytes(6), server_id=Ip("10.0.0"))
