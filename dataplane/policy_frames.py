"""Judges whole Ethernet frames: the packets that the engine does not decide by itself, ARP first of all."""

from __future__ import annotations

from typing import Literal

from dataplane import protocols
from dataplane.model import Mac, PortId
from dataplane.neighbours import ARP, Claim, MalformedError, arp_claim, discovery_claim
from dataplane.policy import Policies
from dataplane.policy_judge import Judgement, judge, judge_arp
from dataplane.policy_tables import Action
from dataplane.security import Direction
from fastpath import flow
from fastpath.batch import Batch
from fastpath.flags import Flags
from fastpath.rules import Header

_BROKEN = Flags.TRUNCATED | Flags.MALFORMED
_SLOT = 1 << 17
"""Bytes: more than any frame has."""


def judge_frame(policies: Policies, port_id: PortId, direction: Direction, frame: bytes) -> Judgement:
    """What becomes of a frame that a port here sends or gets, as `policy_judge` says; for one frame at a time.

    A frame that is neither IP nor ARP, or that is broken, passes only at ports that are not filtered; what is no IP
    passes their firewall policies as well.
    """
    batch = Batch(1, slot=_SLOT, headroom=0, huge=False)
    batch.fill([frame])
    flow.keys(batch)
    flags, start, at = batch.flags[0], batch.layers[0] & 0xFFFF, batch.layers[0] >> 16
    is_ip, port = bool(flags & (Flags.IPV4 | Flags.IPV6)), policies.ports.get(port_id)
    if port is None:
        return Judgement(action=Action.DROP, reason="not_here")
    firewall = port.ingress_firewall if direction == "ingress" else port.egress_firewall
    if port.trusted and (firewall is None or not is_ip):
        return Judgement(action=Action.ALLOW, reason="not_filtered")
    mac = Mac(frame[6:12].hex(":"))
    try:
        if not is_ip:
            if flags & Flags.TRUNCATED or int.from_bytes(frame[start - 2 : start], "big") != ARP:
                return Judgement(action=Action.DROP, reason="not_ip")
            return judge_arp(policies, port_id, direction, arp_claim(frame[start:]), mac)
        if flags & _BROKEN:
            raise MalformedError
        header = _header(batch)
        claim: Claim | None = None
        if header.version == 6 and header.protocol == protocols.ICMPV6 and at:
            end = start + 40 + int.from_bytes(frame[start + 4 : start + 6], "big")
            claim = discovery_claim(header, frame[at:end])
    except MalformedError:
        return Judgement(action=Action.DROP, reason="malformed")
    return judge(policies, port_id, direction, header, mac, claim)


def _header(batch: Batch) -> Header:
    key = batch.key.cast("B")[:40]
    version: Literal[4, 6] = 4 if key[37] == 4 else 6
    size = 4 if version == 4 else 16
    return Header(
        version=version,
        source=int.from_bytes(key[:size], "big"),
        destination=int.from_bytes(key[16 : 16 + size], "big"),
        protocol=key[36],
        source_port=int.from_bytes(key[32:34], "big"),
        destination_port=int.from_bytes(key[34:36], "big"),
        ports_known=not batch.flags[0] & Flags.LATER_FRAGMENT,
    )
