"""INFORM, DECLINE and RELEASE (RFC 2131 sections 4.3.3 to 4.3.5)."""

from __future__ import annotations

from dataplane.dhcp import constants as c
from dataplane.dhcp.packet import Output, Packet
from dataplane.dhcp.respond import Responder
from dataplane.dhcp.served import ServedPort, template_at
from dataplane.dhcp.template import PortTemplate


def inform(
    responder: Responder, packet: Packet, port: ServedPort, templates: tuple[PortTemplate, ...], now: float
) -> list[Output]:
    """Send the options of the subnet that the guest's address is in; no address, no times, no lease."""
    ciaddr = packet.message.ciaddr
    address = packet.src_ip if ciaddr == c.ANY else ciaddr
    if address == c.ANY:
        return responder.drop("no_address")
    for template in templates:
        if template.contains(address):
            return [responder.reply(packet, port, template, c.INFORM, ciaddr=ciaddr, destination=address)]
    return responder.drop("foreign_address")


def decline(
    responder: Responder, packet: Packet, port: ServedPort, templates: tuple[PortTemplate, ...], now: float
) -> list[Output]:
    """The guest found its address in use. Only for the port's own address, so it can harm nobody else."""
    options = packet.message.options
    server = options.get(c.SERVER_ID)
    if server is not None and server != responder.server_id:
        return responder.drop("other_server")
    asked = options.get(c.REQUESTED_ADDRESS)
    if asked is None:
        return responder.drop("no_address")
    template = template_at(templates, asked)
    if template is None:
        return responder.drop("wrong_address")
    if server is None:  # against RFC 2131 table 5, but clients do it and Kea and ISC take it
        responder.counters.note("decline_without_server_id")
    return [responder.event("declined", port, packet, template.ip, now)]


def release(
    responder: Responder, packet: Packet, port: ServedPort, templates: tuple[PortTemplate, ...], now: float
) -> list[Output]:
    """The guest gives its address back. The next DISCOVER is answered as always."""
    message = packet.message
    server = message.options.get(c.SERVER_ID)
    if server is None:
        return responder.drop("no_server_id")
    if server != responder.server_id:
        return responder.drop("other_server")
    if message.ciaddr == c.ANY:
        return responder.drop("no_address")
    template = template_at(templates, message.ciaddr)
    if template is None:
        return responder.drop("wrong_address")
    return [responder.event("released", port, packet, template.ip, now)]
