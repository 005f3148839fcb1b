"""VXLAN (RFC 7348) over IPv4 and IPv6: compiled, or the plain twin.

`encap` and `decap` work on batches, in place, without an object for each packet:

    tunnels = Tunnels()
    number = tunnels.add(vni=5001, source="192.0.2.1", destination="192.0.2.2",
                         source_mac="02:00:00:00:00:01", destination_mac="02:00:00:00:00:02")
    batch = Batch(256)
    batch.fill(frames)
    batch.tunnel[0] = number
    encap(batch, tunnels)

    vtep = Vtep(addresses=["192.0.2.2"])
    vtep.allow(5001, network=7, sources=["192.0.2.1"])
    decap(batch, vtep)

`Tunnel`, `encapsulate`, `decapsulate` and `decap_list` are for single frames and lists of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.vxlan_errors import DroppedError, TableFullError, VxlanError

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._tunnels_py import Tunnels
    from fastpath._vtep_py import Vtep
    from fastpath._vxlan_py import Tunnel, decap, decap_list, decapsulate, encap, encapsulate
else:
    from fastpath._calibrate import serving
    from fastpath._tunnels_c import Tunnels
    from fastpath._vtep_c import Vtep

    _stage = serving("vxlan")
    Tunnel, encap, decap = _stage.Tunnel, _stage.encap, _stage.decap
    encapsulate, decapsulate, decap_list = _stage.encapsulate, _stage.decapsulate, _stage.decap_list

__all__ = [
    "DroppedError",
    "TableFullError",
    "Tunnel",
    "Tunnels",
    "Vtep",
    "VxlanError",
    "decap",
    "decap_list",
    "decapsulate",
    "encap",
    "encapsulate",
]
