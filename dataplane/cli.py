"""The `nodeplane` command: every verb but `run` talks to the daemon through its control socket.

Exit status: 0 done; 1 refused, or not healthy; 2 wrong usage (of `check`: something referred to is missing);
3 no daemon; 4 not within the time; 5 committed, but a network of this node is in error.

Modules that a verb needs are imported by the verb: the command must answer within a blink, and a shell that completes
words starts it often.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

import click

from dataplane import __version__
from dataplane.errors import ConfigError, DocumentError, ListenError, NodeplaneError

if TYPE_CHECKING:
    from dataplane.control_client import ControlClient

SOCKET = "/run/nodeplane/control.sock"
CONFIG = "/etc/nodeplane/nodeplane.toml"
WAIT_SECONDS = "30"
# Chosen: quick enough for a person, slow enough for a node that is busy starting.
POLL_SECONDS = 0.1
# Chosen: above the time that the daemon gives a backend.
EXPLAIN_SECONDS = 80.0

REFUSED, MISSING, UNREACHABLE, LATE, FAILED = 1, 2, 3, 4, 5

KIND_NAMES = {
    "network": "networks",
    "port": "ports",
    "instance": "instances",
    "security_group": "security_groups",
    "address_group": "address_groups",
    "firewall_policy": "firewall_policies",
}
"""What `delete` takes, in the singular and in the plural."""


class Failure(click.ClickException):
    """Ends the command: one line why, one line with the next step, and the exit status."""

    def __init__(self, text: str, hint: str = "", code: int = REFUSED) -> None:
        super().__init__(text)
        self.hint = hint
        self.exit_code = code  # type: ignore[misc]  # click: one per class; here one per cause

    def show(self, file: IO[Any] | None = None) -> None:
        """Write both lines to standard error."""
        click.echo(f"nodeplane: {self.message}", file=file, err=True)
        if self.hint:
            click.echo(f"  {self.hint}", file=file, err=True)


class Commands(click.Group):
    """Turns the errors of our own tree into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        from dataplane.control_client import RefusedError, UnreachableError

        try:
            return super().invoke(ctx)
        except UnreachableError as error:
            raise Failure(str(error), error.hint, UNREACHABLE) from error
        except RefusedError as error:
            raise Failure(_listed(str(error), error.mistakes), error.hint) from error
        except DocumentError as error:
            count = len(error.mistakes)
            text = f"refused, with {count} mistake{'s' if count > 1 else ''}"
            raise Failure(_listed(text, error.mistakes)) from error


def _listed(text: str, lines: Iterable[object]) -> str:
    """A text with further lines below it, indented."""
    return "\n  ".join([text, *map(str, lines)])


def seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """A span of time from 0 to 600 seconds."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 600:
        raise click.BadParameter("expected seconds from 0 to 600")
    return value


def wait_option(meaning: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--wait [SECONDS]`."""
    return click.option(
        "--wait", is_flag=False, flag_value=WAIT_SECONDS, callback=seconds, metavar="[SECONDS]", help=meaning
    )


OFFLINE = ("run", "check", "version")
"""Commands that talk to no daemon, and need not wait for the import of an HTTP client."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nodeplane", message="%(prog)s %(version)s")
@click.option("--socket", envvar="NODEPLANE_SOCKET", default=SOCKET, show_default=True, help="The control socket.")
@click.pass_context
def main(context: click.Context, socket: str) -> None:
    """DHCP and instance metadata for every tenant network of a node, from one process."""
    if context.invoked_subcommand in OFFLINE:
        return
    from dataplane.control_client import ControlClient

    context.obj = ControlClient(socket)


@main.command()
@click.option("--config", type=click.Path(), default=CONFIG, show_default=True, help="The configuration file.")
def run(config: str) -> None:
    """Run the daemon in the foreground, as a service manager wants it."""
    from dataplane.config import load

    settings = load(config)
    from dataplane.daemon import run as run_daemon

    try:
        sys.exit(run_daemon(settings, config))
    except ListenError as error:
        raise Failure(str(error)) from error
    except NodeplaneError as error:
        raise Failure(str(error), "the log above may say more") from error


@main.command()
@click.argument("config", type=click.Path(), default=CONFIG)
@click.option("--effective", is_flag=True, help="Print the configuration with all defaults filled in.")
def check(config: str, effective: bool) -> None:
    """Check a configuration file without starting anything.

    Exit status 0: good; 1: it has mistakes; 2: it is valid, but something it refers to is not there.
    """
    from dataplane.config import dumps, load, missing

    settings = load(config)
    if effective:
        click.echo(dumps(settings), nl=False)
    if absent := missing(settings):
        raise Failure(_listed(f"{config} is valid, but refers to what is not there", absent), code=MISSING)
    if not effective:
        click.echo(f"{config} is valid")


@main.group()
def explain() -> None:
    """Say why something is as it is."""


@explain.command("metadata")
@click.argument("path", required=False)
@click.option("--network", required=True, metavar="ID", help="The network; the id may be shortened while it is unique.")
@click.option("--ip", "address", required=True, metavar="ADDRESS", help="Source address of the request.")
@click.option("--mac", metavar="MAC", help="Source MAC; without it, the address alone counts.")
@click.option("--head", is_flag=True, help="Ask with HEAD instead of GET.")
@click.option("--token", is_flag=True, help="Ask with a valid token, as after PUT /latest/api/token.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.pass_obj
def explain_metadata(
    client: ControlClient,
    path: str | None,
    network: str,
    address: str,
    mac: str | None,
    head: bool,
    token: bool,
    output: str,
) -> None:
    """Say which port a metadata request comes from, what answers it, and how.

    PATH is what the guest asks for, such as /latest/meta-data/. The request is made as a guest's would be: Nova is
    asked if Nova answers this port. Exit status 0 if the answer is a document, 1 if not.
    """
    import msgspec

    from dataplane.cli_explain import lines
    from dataplane.explanation import MetadataExplanation

    raw = client.get(
        "v1", "explain", "metadata", seconds=EXPLAIN_SECONDS,
        network=network, address=address, mac=mac, path=path,
        method="HEAD" if head else None, token=1 if token else None,
    )  # fmt: skip
    found = msgspec.json.decode(raw, type=MetadataExplanation)
    if output == "json":
        click.echo(msgspec.json.format(raw, indent=2))
    else:
        click.echo("\n".join(lines(found)))
    if found.status >= 400:
        sys.exit(REFUSED)


@explain.command("packet")
@click.argument("packet", nargs=-1, required=True)
@click.option("--network", required=True, metavar="ID", help="The network; the id may be shortened while it is unique.")
@click.option("--port", required=True, metavar="ID", help="The port; the id may be shortened while it is unique.")
@click.option("--direction", type=click.Choice(["ingress", "egress"]),
              help="To the guest or from it; left out, as the addresses tell.")  # fmt: skip
@click.option("--mac", metavar="MAC", help="Source MAC of what the guest sends; the port's if left out.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.pass_obj
def explain_packet(
    client: ControlClient,
    packet: tuple[str, ...],
    network: str,
    port: str,
    direction: str | None,
    mac: str | None,
    output: str,
) -> None:
    """Say what port security, firewall policies and security groups make of a packet, and which rule decides.

    PACKET begins a connection: 'tcp 10.0.0.5:1234 > 10.0.0.9:80', 'udp [2001:db8::5]:1234 > [2001:db8::9]:53',
    'icmp 10.0.0.5 > 10.0.0.9 8/0' (type and code), 'gre 10.0.0.5 > 10.0.0.9', 'udp A > B fragment' (not the first one),
    'arp A > B', 'icmpv6 A > B 136/0 of ADDRESS'. Exit status 0 if it is allowed, 1 if not.
    """
    import msgspec

    from dataplane.cli_explain import lines
    from dataplane.explanation import PacketExplanation

    raw = client.get(
        "v1", "explain", "packet", network=network, port=port, packet=" ".join(packet), direction=direction, mac=mac
    )
    found = msgspec.json.decode(raw, type=PacketExplanation)
    if output == "json":
        click.echo(msgspec.json.format(raw, indent=2))
    else:
        click.echo("\n".join(lines(found)))
    if found.verdict != "allow":
        sys.exit(REFUSED)


@main.group()
def config() -> None:
    """Make configuration files."""


@config.command("import-neutron")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def import_neutron(files: tuple[str, ...]) -> None:
    """Translate the configuration of Neutron's metadata agent; the result goes to standard output.

    FILE is metadata_agent.ini, neutron_ovn_metadata_agent.ini or the like; several are merged in order, as the agent
    does with several --config-file. What has no counterpart is named on standard error. Exit status 0: nodeplane can
    start with the result; 1: something in it has to be set first, or a file cannot be read.
    """
    from dataplane.config import loads
    from dataplane.neutron_import import render, translate
    from dataplane.oslo_ini import merge

    found = translate(merge((name, _text(name)) for name in files))
    text = render(found.settings)
    click.echo(text, nl=False)
    for note in found.notes:
        click.echo(note, err=True)
    try:
        loads(text)
    except ConfigError as error:
        raise Failure(_listed("this is not a whole configuration yet", error.mistakes)) from error


@main.command()
@click.option("-f", "--file", "name", required=True, metavar="FILE", help="YAML or JSON document; - is standard input.")
@click.option("--prune", is_flag=True, help="Also delete every object that the document does not name.")
@click.option("--dry-run", is_flag=True, help="Check everything and say what would change, but change nothing.")
@wait_option(f"Return when the node has carried it out, or after so many seconds ({WAIT_SECONDS}).")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print the result.")
@click.pass_obj
def apply(client: ControlClient, name: str, prune: bool, dry_run: bool, wait: float | None, output: str) -> None:
    """Create and update networks, ports, instances and groups; refused whole if anything in the document is wrong."""
    body = _document(name)[1]
    answer = client.post(
        "v1", "apply", body=body, seconds=wait or 0.0,
        prune=1 if prune else None, dry_run=1 if dry_run else None, wait=wait,
    )  # fmt: skip
    _outcome(json.loads(answer), output)


@main.command()
@click.argument("kind", required=False, type=click.Choice([*KIND_NAMES, *KIND_NAMES.values()]), metavar="[KIND]")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("-f", "--file", "name", metavar="FILE", help="Delete what this document names; - is standard input.")
@wait_option(f"Return when the node has carried it out, or after so many seconds ({WAIT_SECONDS}).")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print the result.")
@click.pass_obj
def delete(
    client: ControlClient, kind: str | None, ids: tuple[str, ...], name: str | None, wait: float | None, output: str
) -> None:
    """Delete objects by KIND (network, port, security_group and so on) and ID, or those that a document names.

    Refused whole if something that stays refers to one of them.
    """
    if name is not None and kind is None:
        document = _document(name)[0]
        wanted = {key: [row["id"] for row in rows] for key, rows in _objects(document, name)}
    elif name is None and kind is not None and ids:
        wanted = {KIND_NAMES.get(kind, kind): list(ids)}
    else:
        raise click.UsageError("give either KIND and at least one ID, or -f FILE")
    answer = client.post("v1", "delete", body=json.dumps(wanted).encode(), seconds=wait or 0.0, wait=wait)
    _outcome(json.loads(answer), output)


@main.command()
@click.argument("kind", type=click.Choice([*KIND_NAMES.values(), "leases"]))
@click.argument("wanted", required=False, metavar="[ID]")
@click.option("--network", metavar="ID", help="Only ports or leases of this network.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True,
              help="yaml gives a document that apply takes back.")  # fmt: skip
@click.pass_obj
def get(client: ControlClient, kind: str, wanted: str | None, network: str | None, output: str) -> None:
    """Show objects of the store or leases; an ID may be shortened while it is unique.

    For leases the ID is the port's.
    """
    from dataplane import cli_output

    if network is not None and kind not in ("ports", "leases"):
        raise click.UsageError("--network goes with ports and leases")
    if wanted is not None and kind != "leases":
        found = json.loads(client.get("v1", kind, wanted))
        rows = [found]
    else:
        rows = json.loads(client.get("v1", kind, network_id=network))[kind]
        rows = [row for row in rows if wanted is None or row["port_id"].startswith(wanted)]
        found = rows
    if output == "json":
        cli_output.write_json(found)
    elif output == "yaml":
        cli_output.write_yaml(kind, rows)
    elif rows or not sys.stdout.isatty():
        cli_output.write_table(kind, rows)
    else:
        click.echo(f"no {kind.replace('_', ' ')}")


@main.command()
@click.option("--brief", is_flag=True, help="One line; for probes.")
@click.option("--all", "everything", is_flag=True, help="All networks, not only the first.")
@wait_option(f"Return when the node is ready and everything is carried out, or after so many seconds ({WAIT_SECONDS}).")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.pass_obj
def status(client: ControlClient, brief: bool, everything: bool, wait: float | None, output: str) -> None:
    """Show the node's health on one screen; exit status 0 if it is ready, 1 if not."""
    import msgspec

    from dataplane import cli_status
    from dataplane.status import Status

    raw = client.get("v1", "status") if wait is None else _wait(client, wait)
    found = msgspec.json.decode(raw, type=Status)
    if output == "json":
        click.echo(msgspec.json.format(raw, indent=2))
    elif brief:
        click.echo(cli_status.brief(found))
    else:
        cli_status.show(found, everything=everything)
    if not found.ready or (wait is not None and not found.in_step):
        sys.exit(LATE if wait is not None else REFUSED)


@main.command()
@click.option("--verbose", is_flag=True, help="Also Python, the fastpath's build and the libraries.")
def version(verbose: bool) -> None:
    """Show the version."""
    click.echo(f"nodeplane {__version__}")
    if verbose:
        from dataplane.cli_version import details

        for name, text in details():
            click.echo(f"  {name:<18} {text}")


def _document(name: str) -> tuple[Any, bytes]:
    """A document as plain data and as JSON."""
    from dataplane.cli_input import as_json, read

    try:
        data = read(name)
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}", "name a YAML or JSON file, or - for standard input") from error
    return data, as_json(data, name)


def _text(name: str) -> str:
    """The text of a file, or of standard input for `-`."""
    try:
        if name == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        with open(name, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}", "name a file that can be read, or - for standard input") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{name}: is not UTF-8 text") from error


def _objects(document: Any, name: str) -> list[tuple[str, list[Any]]]:
    """The lists of objects in a document; every object with its id."""
    lists = [(key, document.get(key) or []) for key in KIND_NAMES.values()] if isinstance(document, dict) else []
    for key, rows in lists:
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows
        ):
            raise Failure(f"{name}: {key} is not a list of objects with an id")
    if not any(rows for _, rows in lists):
        raise Failure(f"{name} names nothing to delete")
    return lists


def _outcome(outcome: dict[str, Any], output: str) -> None:
    """Say what became of a document; ends the command unless all is well."""
    if output == "json":
        click.echo(json.dumps(outcome, indent=2))
    else:
        singular = {many: one for one, many in KIND_NAMES.items()}
        changes = [
            f"{count} {kind if count > 1 else singular[kind]} {verb}".replace("_", " ")
            for kind, counts in outcome["changed"].items()
            for verb, count in counts.items()
            if count and verb != "unchanged"
        ]
        text = ", ".join(changes) or "nothing to change"
        if outcome["dry_run"]:
            click.echo(f"{text} (dry run: nothing was changed)")
        else:
            click.echo(f"{text} (revision {outcome['position']}{', carried out' if outcome['applied'] else ''})")
    if outcome["waited"] and not outcome["applied"]:
        raise Failure(
            "committed, but not carried out within the time", "nodeplane status shows what it waits for", LATE
        )
    if failed := outcome["failed"]:
        errors = [f"{network['name'] or network['id']}: {network['error']}" for network in failed]
        raise Failure(_listed(f"{len(failed)} in error on this node", errors), "nodeplane status", FAILED)


def _wait(client: ControlClient, limit: float) -> bytes:
    """The status once the node is ready and in step, or when the time is over; waits for the socket too."""
    from dataplane.control_client import UnreachableError

    deadline = time.monotonic() + limit
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            client.get("v1", "wait", timeout=left, seconds=left)
            raw = client.get("v1", "status")
        except UnreachableError:
            if left <= 0:
                raise
        else:
            status = json.loads(raw)
            if (status["ready"] and status["applied"] >= status["revision"]) or left <= 0:
                return raw
        time.sleep(min(POLL_SECONDS, left))


if __name__ == "__main__":
    main(prog_name="nodeplane")
