"""`python -m bench list | run | report | compare`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console

from bench import compare, cores, html, machine, sandbox, tables
from bench.cases import CASES, PACKETS
from bench.classify import files, scan, sets, traces
from bench.classify.files import Version
from bench.compile import MissingToolError, program
from bench.context import Case, Context, Options, Progress
from bench.machine import Machine
from bench.markdown import page, targets
from bench.peers import PEERS, prepare
from bench.perpacket import native
from bench.perpacket.profiles import Profile, parse
from bench.results import CaseResult, Run, encoded, load, save

STDOUT = Path("-")


@click.group()
def bench() -> None:
    """Questions with numbers, asked of nodeplane and of what it replaces, in one run."""


@bench.command("list")
def list_() -> None:
    """The cases, and the peers that each can measure beside nodeplane."""
    width = max(map(len, CASES))
    for case in CASES.values():
        beside = f"  [--with {','.join(case.peers)}]" if case.peers else ""
        click.echo(f"{case.name:{width}}  {case.question}{beside}")


def _cases(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[Case, ...]:
    if names == ("all",):
        return tuple(CASES.values())
    if names == ("packets",):
        return tuple(case for case in CASES.values() if case.name in PACKETS)
    for name in names:
        if name not in CASES:
            raise click.BadParameter(f"{name!r} is none of {', '.join(CASES)}, all, packets")
    return tuple(CASES[name] for name in names)


def _peers(_context: click.Context, _parameter: click.Parameter, text: str) -> frozenset[str]:
    names = frozenset(filter(None, text.split(",")))
    if names == {"all"}:
        return frozenset(PEERS)
    if unknown := sorted(names - set(PEERS)):
        raise click.BadParameter(f"{', '.join(unknown)}: known are {', '.join(PEERS)}, all")
    return names


def _profiles(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[Profile, ...]:
    try:
        return tuple(map(parse, names))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _writable(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> Path | None:
    """Find out before the run that its result could not be written."""
    if file is not None and file != STDOUT:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("ab").close()
        except OSError as error:
            raise click.BadParameter(f"{file}: {error.strerror}") from error
    return file


def _check_input(rules: tuple[str, ...], trace: Path | None) -> None:
    """Read the files of the classify case once before anything else: what is wrong with them is said at once."""
    if trace is not None and len(rules) != 1:
        raise click.UsageError("--trace needs one --rules")
    version: Version = 4
    for name in rules:
        try:
            version = sets.check(name)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--rules") from error
    if trace is not None:
        try:
            files.read_trace(trace, version)
        except files.FileError as error:
            raise click.BadParameter(str(error), param_hint="--trace") from error


@bench.command()
@click.argument("cases", nargs=-1, required=True, callback=_cases, metavar="CASE...")
@click.option("--with", "peers", default="", callback=_peers, metavar="NAMES",
              help=f"Also measure these: {','.join(PEERS)} or all. acl needs libdpdk-dev.")  # fmt: skip
@click.option("--networks", type=click.IntRange(1, 5000), help="Number of networks, where a case has many.")
@click.option("--profile", "profiles", multiple=True, callback=_profiles, metavar="NAME",
              help="Packets of the per-packet cases, such as v6-tcp-imix-1m-zipf; repeatable.")  # fmt: skip
@click.option("--rules", multiple=True, metavar="FILE|SET",
              help="Of classify, flow-cache: a ClassBench filter file or a set such as acl-10k.")  # fmt: skip
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path),
              help="Of classify: headers for the one file of --rules.")  # fmt: skip
@click.option("--zipf", type=click.FloatRange(0, 5), help="Of classify: draw the trace anew by Zipf's law.")
@click.option("--updates", type=click.IntRange(1, 10_000_000), help="Of classify: updates a second beside lookups.")
@click.option("--repeat", type=click.IntRange(1, 100), help="Repetitions of each timed part.")
@click.option("--seconds", type=click.FloatRange(0.001, 600), help="Length of one timed load.")
@click.option("--peers-only", is_flag=True, help="Leave nodeplane out, to try the peers.")
@click.option("--seed", default=1, show_default=True, help="Of generated documents and samples.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), is_flag=False, flag_value="-",
              callback=_writable, help="Also write the result here; without a FILE: show it as JSON.")  # fmt: skip
def run(cases: tuple[Case, ...], peers: frozenset[str], networks: int | None, profiles: tuple[Profile, ...],
        repeat: int | None, seconds: float | None, peers_only: bool, seed: int, file: Path | None,
        rules: tuple[str, ...], trace: Path | None, zipf: float | None, updates: int | None) -> None:  # fmt: skip
    """Run CASE... (or all, or packets: the per-packet ones) and show the figures.

    Cases with servers run inside a private namespace; the per-packet ones need neither that nor root.
    """
    _check_input(rules, trace)
    errors = Console(stderr=True)
    if not sandbox.inside() and any(case.network for case in cases):
        _prepare(peers, errors)
        sandbox.enter(sys.argv[1:])
    started = datetime.now(UTC).isoformat(timespec="seconds")
    facts = machine.facts()
    options = Options(peers, networks, repeat, seconds, seed, profiles, not peers_only, rules, trace, zipf, updates)
    results: list[CaseResult] = []
    versions: dict[str, str] = {}
    try:
        with Progress(errors) as progress:
            for number, case in enumerate(cases, 1):
                results.append(_one(case, options, progress, f"[{number}/{len(cases)}] ", versions))
    except KeyboardInterrupt:
        errors.print("stopped: what was measured until now follows")
    if PACKETS.intersection(case.name for case in cases):
        facts = _with_clock(facts)
    found = Run(machine=facts, command=f"python -m bench {' '.join(sys.argv[1:])}", started=started, seed=seed,
                versions=versions, cases=tuple(results))  # fmt: skip
    if file == STDOUT:
        click.echo(encoded(found), nl=False)
    else:
        tables.show_run(_output(), found)
        if file is not None:
            save(found, file)
    if any(result.error for result in results) or len(results) < len(cases):
        sys.exit(1)


@bench.command()
@click.argument("name", metavar="SET")
@click.argument("rules", type=click.Path(dir_okay=False, path_type=Path), metavar="RULES")
@click.argument("trace", type=click.Path(dir_okay=False, path_type=Path), metavar="[TRACE]", required=False)
@click.option("--headers", type=click.IntRange(1, 10_000_000), default=traces.HEADERS, show_default=True)
@click.option("--seed", default=1, show_default=True)
def generate(name: str, rules: Path, trace: Path | None, headers: int, seed: int) -> None:
    """Write the rules of SET (acl-10k, fw-100k-v6 ...) to a file, and headers with the expected rules to another."""
    try:
        made = sets.load(name, seed)
        files.write_rules(made, rules)
        if trace is not None:
            drawn = traces.uniform(made, seed, headers)
            answers = scan.answers(made, drawn)
            files.write_trace(files.Trace(drawn.name, drawn.version, drawn.keys, tuple(answers)), trace)
    except (ValueError, OSError, MissingToolError) as error:
        raise click.ClickException(str(error)) from error


def _with_clock(facts: Machine) -> Machine:
    """The machine's facts with the rate of its time stamp counter, if that could be measured."""
    try:
        return msgspec.structs.replace(facts, tsc_ghz=round(native.clock()[0], 4))
    except (MissingToolError, subprocess.CalledProcessError):
        return facts


def _prepare(peers: frozenset[str], console: Console) -> None:
    """What needs the network or the machine's own view, before the private namespace: peers and load clients."""
    try:
        for source in ("http_close", "dhcp_loop"):
            program(source)
        prepare(peers, lambda text: console.print(text, highlight=False))
    except MissingToolError as error:
        raise click.ClickException(str(error)) from error


def _one(case: Case, options: Options, progress: Progress, prefix: str, versions: dict[str, str]) -> CaseResult:
    """Run one case; whatever stops it is kept in its result, so that the others still run."""
    directory = Path(tempfile.mkdtemp(prefix=f"bench-{case.name}-"))
    directory.chmod(0o755)
    context = Context(case, options, cores.choose(), directory, progress, prefix, versions)
    began = time.monotonic()
    error = ""
    try:
        case.run(context)
    except Exception as problem:
        notes = " ".join(getattr(problem, "__notes__", ()))
        error = f"{type(problem).__name__}: {problem} {notes}".strip()
        for log in sorted(directory.rglob("daemon.log")):
            error += f"\n{log.name}: {log.read_text(errors='replace')[-2000:]}"
        if os.environ.get("BENCH_TRACEBACK"):
            problem.add_note(error)
            raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return context.result(time.monotonic() - began, error)


_DIFFERENT = click.option("--different-machines", is_flag=True, help="Compare although the machines differ.")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@bench.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@_DIFFERENT
@click.option("--markdown", is_flag=True, help="One file as Markdown, for docs/benchmarks.md; nothing else.")
@click.option(
    "--targets",
    "only_targets",
    is_flag=True,
    help="Of one or more files only what has a target, as one table in Markdown.",
)
@click.option("--html", "folder", type=click.Path(file_okay=False, path_type=Path),
              help="Where the page and its plots go; by default next to the file, without its .json.")  # fmt: skip
def report(
    files: tuple[Path, ...], different_machines: bool, markdown: bool, only_targets: bool, folder: Path | None
) -> None:
    """Show a result file and write it as an HTML page with plots; or the medians of several from one machine."""
    console = _output()
    runs = _load(files)
    if only_targets:
        click.echo(targets(runs), nl=False)
    elif markdown:
        if len(runs) > 1:
            raise click.UsageError("--markdown takes one file")
        click.echo(page(runs[0]), nl=False)
    elif len(runs) == 1:
        tables.show_run(console, runs[0])
        try:
            written = html.write(runs[0], folder or files[0].with_suffix(""))
        except ImportError as error:
            raise click.ClickException(f"no plots without {error.name}: pip install '.[bench]'") from error
        console.print(f"\npage: {written}", highlight=False, soft_wrap=True)
    else:
        _one_machine(console, files, runs, different_machines)
        console.print(tables.comparison(runs))


@bench.command("compare")
@click.argument("first", type=_FILE)
@click.argument("last", type=_FILE)
@_DIFFERENT
@click.option("--changed", is_flag=True, help="Only what differs by more than the spread.")
def compare_(first: Path, last: Path, different_machines: bool, changed: bool) -> None:
    """Compare FIRST and LAST figure by figure: ratios, and which differences are more than the spread."""
    console = _output()
    runs = _load((first, last))
    _one_machine(console, (first, last), runs, different_machines)
    found = list(compare.changes(runs[0], runs[1]))
    shown = [change for change in found if not changed or change.verdict in ("better", "worse", "differs")]
    console.print(compare.table(runs[0], runs[1], shown))
    console.print(compare.summary(found), highlight=False)


def _load(files: tuple[Path, ...]) -> list[Run]:
    try:
        return [load(path) for path in files]
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _one_machine(console: Console, files: tuple[Path, ...], runs: list[Run], different_machines: bool) -> None:
    """Refuse files of different machines, or say that they are."""
    for path, other in zip(files[1:], runs[1:], strict=True):
        if differences := runs[0].machine.differences(other.machine):
            text = f"{files[0]} and {path} are from different machines ({'; '.join(differences)})"
            if not different_machines:
                raise click.ClickException(f"{text}: figures do not compare (--different-machines shows them anyway)")
            console.print(f"[red]{text}: the ratios say little", highlight=False, soft_wrap=True)


def _output() -> Console:
    """Standard output, wide enough for the tables when it goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def main() -> int:
    """Entry point; a termination ends a run as Ctrl-C does."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bench(prog_name="python -m bench")
    return 0
