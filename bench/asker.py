"""One guest that asks for its address at full speed: the clock of what changes for a VM, and when."""

from __future__ import annotations

import select
import socket
import time

from bench import dhcp_frames, spaces
from bench.dhcp_frames import ACK, DISCOVER, NAK, OFFER, REQUEST, Reply
from bench.sweep import packet_socket


class Asker:
    """Raw DHCP out of the namespace `netns`, as the guest with `mac`."""

    def __init__(self, netns: str, mac: str, device: str = "eth0", interval: float = 0.001) -> None:
        """Ask every `interval` seconds, until there is an answer."""
        self.mac = mac
        self.interval = interval
        self.device = device
        self.socket: socket.socket = spaces.within(netns, packet_socket)
        self.poll = select.poll()
        self.poll.register(self.socket, select.POLLIN)
        self.xid = 0

    def close(self) -> None:
        self.socket.close()

    def offered(self, address: str, seconds: float = 60.0) -> tuple[float, Reply]:
        """Send DISCOVERs until `address` is offered: the moment, and the OFFER."""
        return self._until(DISCOVER, OFFER, address, "", seconds)

    def acknowledged(self, offer: Reply, seconds: float = 10.0) -> float:
        """Send REQUESTs until the offer is acknowledged: the moment."""
        return self._until(REQUEST, ACK, offer.address, offer.server, seconds)[0]

    def _until(self, ask: int, wanted: int, address: str, server: str, seconds: float) -> tuple[float, Reply]:
        deadline = time.monotonic() + seconds
        last: Reply | None = None
        while (now := time.monotonic()) < deadline:
            self.xid += 1
            option = address if ask == REQUEST else ""
            payload = dhcp_frames.message(ask, self.mac, self.xid, address=option, server=server)
            self.socket.sendto(dhcp_frames.broadcast(payload, self.mac), (self.device, 0))
            until = now + self.interval
            while (left := until - time.monotonic()) > 0:
                # poll() counts whole milliseconds: the last part of the interval is spent asking it again.
                if not self.poll.poll(1 if left > 0.0005 else 0):
                    continue
                reply = dhcp_frames.reply_frame(self.socket.recv(2048))
                if reply is None or reply.mac != self.mac:
                    continue
                last = reply
                if reply.kind == wanted and reply.address == address:
                    return time.monotonic(), reply
                if reply.kind == NAK:
                    raise RuntimeError(f"refused: {reply}")
        raise TimeoutError(f"no answer with {address} within {seconds:g} s; last: {last}")
