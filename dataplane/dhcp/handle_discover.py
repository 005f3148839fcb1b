"""DISCOVER (RFC 2131 section 4.3.1), with rapid commit (RFC 4039), and BOOTP requests (RFC 951)."""

from __future__ import annotations

from dataplane.dhcp import constants as c
from dataplane.dhcp.packet import Output, Packet
from dataplane.dhcp.respond import RAPID_COMMIT, Responder
from dataplane.dhcp.served import ServedPort, template_for_offer
from dataplane.dhcp.template import PortTemplate


def discover(
    responder: Responder, packet: Packet, port: ServedPort, templates: tuple[PortTemplate, ...], now: float
) -> list[Output]:
    """Offer the port's address, whatever address the client would like (option 50) or claims to have (ciaddr)."""
    options = packet.message.options
    template = template_for_offer(templates, packet.message)
    lease = template.lease_for(options.get(c.LEASE_TIME))
    if responder.policy.rapid_commit and c.RAPID_COMMIT in options:
        send = responder.reply(packet, port, template, c.ACK, lease=lease, extra=(RAPID_COMMIT,))
        return [send, responder.event("bound", port, packet, template.ip, now, lease)]
    send = responder.reply(packet, port, template, c.OFFER, lease=lease)
    return [send, responder.event("offered", port, packet, template.ip, now, lease)]


def bootp(
    responder: Responder, packet: Packet, port: ServedPort, templates: tuple[PortTemplate, ...], now: float
) -> list[Output]:
    """Answer a message without option 53 if the policy says so; there is no lease and no event."""
    if not responder.policy.bootp:
        return responder.drop("bootp_disabled")
    template = template_for_offer(templates, packet.message)
    return [responder.reply(packet, port, template, c.BOOTP, ciaddr=packet.message.ciaddr)]
