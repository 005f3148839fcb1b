"""REQUEST in its four states (RFC 2131 section 4.3.2).

========== ========= ========= ======= =====================================================
state      option 54 option 50 ciaddr  answer
========== ========= ========= ======= =====================================================
SELECTING  ours      set       -       ACK if it is the port's address, else NAK
SELECTING  another   -         -       silence: the guest took another server's offer
INIT-REBOOT -        set       -       ACK if it is the port's address, else NAK
RENEWING   -         -         set     ACK to ciaddr if it is the port's address, else NAK
REBINDING  -         -         set     the same, also when another node gave the lease
(broken)   -         -         -       ACK for a known port (policy), else NAK
========== ========= ========= ======= =====================================================

A ciaddr beside option 50 is ignored, as dnsmasq does; option 54 of ours beside a ciaddr is a renewal.
"""

from __future__ import annotations

from dataplane.dhcp import constants as c
from dataplane.dhcp.packet import Output, Packet
from dataplane.dhcp.respond import Responder
from dataplane.dhcp.served import ServedPort, template_at, template_for_offer
from dataplane.dhcp.template import PortTemplate
from dataplane.leases import LeaseEventKind


def request(
    responder: Responder, packet: Packet, port: ServedPort, templates: tuple[PortTemplate, ...], now: float
) -> list[Output]:
    """Answer a REQUEST of a known port."""
    message = packet.message
    options = message.options
    server = options.get(c.SERVER_ID)
    if server is not None and server != responder.server_id:
        responder.counters.drop("other_server")
        offered = template_for_offer(templates, message)
        return [responder.event("withdrawn", port, packet, offered.ip, now)]
    asked = options.get(c.REQUESTED_ADDRESS)
    ciaddr = c.ANY if asked is not None else message.ciaddr
    if asked is None:
        if ciaddr != c.ANY:
            asked = ciaddr
        elif responder.policy.accept_bare_request:
            asked = template_for_offer(templates, message).address
        else:
            asked = c.ANY
    template = template_at(templates, asked)
    if template is None:
        return responder.nak(packet, port, asked, now)
    lease = template.lease_for(options.get(c.LEASE_TIME))
    send = responder.reply(packet, port, template, c.ACK, ciaddr=ciaddr, lease=lease)
    kind: LeaseEventKind = "bound" if ciaddr == c.ANY else "renewed"
    return [send, responder.event(kind, port, packet, template.ip, now, lease)]
