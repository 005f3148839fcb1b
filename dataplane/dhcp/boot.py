"""What kind of boot client asks: PXE ROM, UEFI HTTP boot, iPXE or an ordinary system (RFC 4578, RFC 3004)."""

from __future__ import annotations

from typing import Final

from dataplane.dhcp.constants import ETHERBOOT, USER_CLASS, VENDOR_CLASS

# Bits of a client class; 0 is an ordinary client.
IPXE: Final = 1
PXE: Final = 2
HTTP: Final = 4

PXE_VENDOR_CLASS: Final = b"PXEClient"
HTTP_VENDOR_CLASS: Final = b"HTTPClient"
# Intel PXE 2.1, PXE_DISCOVERY_CONTROL: bit 3, "do not prompt or discover: use the boot file of this reply".
PXE_SKIP_DISCOVERY: Final = b"\x06\x01\x08\xff"
# iPXE's sub-option 176, "no-pxedhcp": do not wait two seconds for a ProxyDHCP offer.
IPXE_NO_PROXY: Final = b"\xb0\x01\x01"

# RFC 3004 puts a length before each user class; iPXE's own scripts and dnsmasq's users send the bare word too.
_IPXE_USER_CLASSES: Final = (b"iPXE", b"\x04iPXE")


def client_class(options: dict[int, bytes]) -> int:
    """The bits `IPXE`, `PXE` and `HTTP` that a client's options claim.

    iPXE often names itself PXEClient as well. A claim decides only which boot options are sent.
    """
    found = 0
    if ETHERBOOT in options or options.get(USER_CLASS) in _IPXE_USER_CLASSES:
        found = IPXE
    vendor = options.get(VENDOR_CLASS)
    if vendor is not None:
        if vendor.startswith(PXE_VENDOR_CLASS):
            found |= PXE
        elif vendor.startswith(HTTP_VENDOR_CLASS):
            found |= HTTP
    return found
