from __future__ import annotations

import pytest

from dataplane.dhcp.boot import HTTP, IPXE, PXE, client_class

ROM = b"PXEClient:Arch:00000:UNDI:002001"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0),
        ({60: b"udhcp 1.35.0"}, 0),
        ({60: ROM}, PXE),
        ({60: b"HTTPClient:Arch:00016:UNDI:003001"}, HTTP),
        ({60: ROM, 175: b"\xb1\1\1"}, PXE | IPXE),
        ({60: ROM, 77: b"iPXE"}, PXE | IPXE),
        ({77: b"\x04iPXE"}, IPXE),
        ({77: b"\x04iPXF"}, 0),
        ({77: b""}, 0),
        ({60: b""}, 0),
    ],
)
def test_client_class(options: dict[int, bytes], expected: int) -> None:
    assert client_class(options) == expected
