"""The catalogue of log events: every stable event name, its level and what it means to an operator.

A name is `<subject>.<what happened>` and never changes its meaning; the details are fields (`network`, `port`, ...).
The metadata package has a catalogue of its own, `metadata.events`; docs/events.md shows both.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["debug", "info", "warning", "error"]


class Event(NamedTuple):
    """One kind of log record."""

    level: Level
    meaning: str
    """One sentence, for the operator who meets it in a log."""


EVENTS: dict[str, Event] = {
    # the process
    "daemon.starting": Event("info", "The process begins: version, node name, configuration file."),
    "daemon.ready": Event("info", "The first synchronisation is done and every healthy network is served."),
    "daemon.stopping": Event("info", "A signal asked the process to end; what happens to kernel state is in on_stop."),
    "daemon.stopped": Event("info", "The process has closed everything and ends."),
    "daemon.claim_ignored": Event(
        "warning", "A local user holds the name by which a second nodeplane is kept off; theirs does not count."
    ),
    "daemon.failed": Event("error", "The process cannot start or continue; error says why."),
    "daemon.task_failed": Event("error", "A task of the daemon ended by an unexpected error; it is a bug, report it."),
    "daemon.reloaded": Event("info", "SIGHUP: the configuration was read again; changed lists the keys that differ."),
    "daemon.reload_refused": Event("error", "SIGHUP: the new configuration is wrong and the old one stays in force."),
    "daemon.restart_needed": Event("warning", "SIGHUP: these changed keys take effect only after a restart."),
    "daemon.privileges_kept": Event(
        "warning", "The process could not give capabilities up: its unit forbids the system call; take the newer unit."
    ),
    "daemon.loop_late": Event("warning", "The event loop was blocked for lag_seconds; guests had to wait that long."),
    # the store and the source of desired state
    "store.opened": Event("info", "The embedded store was read: revision and number of objects."),
    "store.failed": Event("error", "The embedded store refused a transaction; nothing of it is kept."),
    "source.gap": Event("warning", "Changes were missed; a snapshot was taken and compared instead."),
    # control API
    "control.listening": Event("info", "The control socket is open."),
    "control.unknown_name": Event(
        "warning", "A name in allow_users, allow_groups, dropin_users or dropin_groups is not known on this machine."
    ),
    "control.denied": Event("warning", "A local user who is not allowed tried the control socket: uid, gid, pid."),
    "control.applied": Event("info", "A document was committed: position, changed objects and the user who sent it."),
    "control.deleted": Event("info", "Objects were deleted: position, their number and the user who asked."),
    "control.refused": Event("info", "A document was refused whole; mistakes is their number."),
    "control.failed": Event("error", "A control request failed by an unexpected error; it is a bug, report it."),
    "metrics.listening": Event("info", "The optional metrics port is open."),
    # networks and devices
    "network.ready": Event("info", "A network is served on this node."),
    "network.failed": Event(
        "error",
        "A network could not be brought to its desired state; others are not affected. Without `network`: a whole pass "
        "failed and is made again, or networks that the store does not know were left alone (`count`, `networks`).",
    ),
    "network.removed": Event("info", "A network is no longer on this node."),
    "network.foreign_object": Event("error", "A namespace or device with our name is not ours; it is left alone."),
    "network.adopted": Event("info", "A network is served in an existing namespace, of which nothing is changed."),
    "port.plugged": Event("info", "The device of a port was put into its network's bridge."),
    "port.unplugged": Event("info", "The device of a port has gone."),
    "links.resync": Event("warning", "The kernel's link notifications overran; all links were read again."),
    # DHCP
    "dhcp.offered": Event("debug", "A guest was offered its address."),
    "dhcp.bound": Event("info", "A guest took its address."),
    "dhcp.renewed": Event("debug", "A guest prolonged its lease."),
    "dhcp.released": Event("info", "A guest gave its address back."),
    "dhcp.withdrawn": Event("debug", "A guest took the offer of another DHCP server on its segment."),
    "dhcp.declined": Event("warning", "A guest found its address in use by somebody else on the segment."),
    "dhcp.nak": Event("info", "A guest asked for an address that is not its port's and was told so."),
    # tokens and passwords of the metadata service
    "passwords.not_kept": Event(
        "error", "The store did not take a guest's password; the guest was answered 503 and may post it again."
    ),
    "tokens.rotated": Event("info", "A new key makes guests' tokens; those made before stay good until they end."),
    "tokens.rotation_failed": Event("warning", "The store did not take a new key; the old one goes on making tokens."),
    "tokens.not_kept": Event(
        "warning", "The store did not take the first key; tokens end with the process unless it does until then."
    ),
    "tokens.keys_unreadable": Event("warning", "The stored keys cannot be read; new ones are made, all tokens end."),
    # the metadata agent's socket
    "dropin.listening": Event("info", "The metadata agent's socket is open: haproxy may connect."),
    "dropin.denied": Event("warning", "A local user who is not allowed tried metadata.dropin_socket: uid, gid, pid."),
    # logging itself
    "python.message": Event("warning", "A library's own message; text is what it said, level is the library's."),
}
