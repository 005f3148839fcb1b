"""A thousand guests in one namespace: a device per network, each with the MAC and the address of its VM.

Sockets are bound to a device, so that equal addresses do not matter. That is far cheaper than a namespace per VM, and
the network sees the same frames.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench import spaces

SERVICE = "169.254.169.254"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Guest:
    """One VM: its tap's name, MAC, address with prefix length, and the instance that it must find itself to be."""

    tap: str
    mac: str
    cidr: str
    instance: str = ""
    netns: str = ""
    """The namespace its tap is in; empty: the root namespace."""

    @property
    def address(self) -> str:
        return self.cidr.partition("/")[0]


@dataclass(frozen=True)
class Guests:
    """The guests' namespace; guest number i has the device `g<i>`, its tap is the other end of that veth pair."""

    guests: Sequence[Guest]
    netns: str = "guests"

    @staticmethod
    def device(number: int) -> str:
        return f"g{number}"

    def plug(self) -> Guests:
        """Make everything; taps in the root namespace are up and without IPv6 addresses, others are left down."""
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        spaces.settings(self.netns, net__ipv6__conf__all__disable_ipv6="1", net__ipv6__conf__default__disable_ipv6="1",
                        net__ipv4__conf__all__arp_ignore="1", net__ipv4__ip_local_port_range="1024 65535")  # fmt: skip
        each = list(enumerate(self.guests))
        spaces.batch(
            f"link add {guest.tap} {f'netns {guest.netns}' if guest.netns else ''} type veth "
            f"peer name {self.device(i)} address {guest.mac} netns {self.netns}"
            for i, guest in each
        )
        spaces.batch(f"link set {guest.tap} addrgenmode none up" for _, guest in each if not guest.netns)
        inside = ["link set lo up"]
        for i, guest in each:
            inside += [f"link set {self.device(i)} up", f"addr add {guest.cidr} dev {self.device(i)}"]
        spaces.batch(inside, self.netns)
        return self

    def learn(self, servers: Mapping[int, str]) -> None:
        """Enter the servers' MACs as permanent neighbours.

        Two neighbour entries per network would overrun the kernel's default limit (gc_thresh3, 1,024 for the whole
        machine) with a thousand networks on one machine; permanent entries do not count.
        """
        spaces.batch(
            (f"neigh replace {SERVICE} lladdr {mac} dev {self.device(i)} nud permanent" for i, mac in servers.items()),
            self.netns,
        )

    def within(self, function: Callable[[], Result]) -> Result:
        """Call `function` in the guests' namespace."""
        return spaces.within(self.netns, function)

    def unplug(self) -> None:
        """Remove the namespace; the taps go with it."""
        subprocess.run(["ip", "netns", "del", self.netns], check=True)
