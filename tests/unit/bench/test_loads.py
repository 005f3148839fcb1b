"""What load clients say, and several loads as one."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from bench.cases import metadata
from bench.compile import program
from bench.context import Context, Options, Progress
from bench.cores import choose
from bench.loads import Load, together
from bench.percentile import percentile, percentile_of_counts
from bench.segment import Server
from scripts.lab import Vm


@pytest.mark.parametrize("percent", [0.1, 1, 50, 90, 99, 99.9, 100])
def test_a_percentile_of_counts_is_that_of_the_values(percent: float) -> None:
    values = [float(number * number % 97) for number in range(1, 500)]
    assert percentile_of_counts(Counter(values), percent) == percentile(values, percent)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile_of_counts({1.0: 0}, 99)


def test_percentiles_of_loads_together_are_those_of_all_answers() -> None:
    quick = Load(98, 1.0, 1.0, 2.0, {"late": 1}, {1.0: 97, 2.0: 1})
    slow = Load(102, 3.0, 1.0, 9.0, {"late": 2, "wrong": 1}, {1.0: 99, 8.0: 1, 9.0: 2})
    both = together([quick, slow])
    assert (both.answered, both.seconds, both.rate) == (200, 4.0, 50.0)
    assert (both.p50, both.p99) == (1.0, 8.0)
    assert both.failures == {"late": 3, "wrong": 1}
    assert both.times == {1.0: 196, 2.0: 1, 8.0: 1, 9.0: 2}


def test_loads_without_answers_are_together_one() -> None:
    assert together([Load(0, 1.0, 0.0, 0.0, {"refused": 1})] * 2) == Load(0, 2.0, 0.0, 0.0, {"refused": 2})


def test_a_load_without_its_times_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="times"):
        together([Load(1, 1.0, 5.0, 5.0)])


def test_the_client_tells_the_times_but_those_of_its_beginning() -> None:
    def serve(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        argv = [program("http_close"), "127.0.0.1", str(listening.getsockname()[1]), "/", "2", "0.5", "2"]
        said = json.loads(subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True).stdout)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert said["answered"] > sum(count for _, count in said["times"]) > 0
    assert said["times"] == sorted(said["times"])
    assert said["max"] == said["times"][-1][0]


@pytest.mark.parametrize(
    ("clients", "repetition", "order"),
    [(64, 0, "npha"), (64, 1, "ahpn"), (1, 0, "nha"), (1, 1, "ahn"), (256, 0, "nhahnnhhn"), (256, 1, "nhahnnhhn")],
)
def test_servers_are_taken_forth_and_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clients: int, repetition: int, order: str
) -> None:
    bench = Context(metadata.CASE, Options(), choose(), tmp_path, Progress(Console(quiet=True)))
    taken: list[str] = []

    def load(_bench: Context, subject: metadata.Subject, *_: object) -> metadata.Sample:
        taken.append(subject.server.name[0])
        return metadata.Sample(Load(1, 1.0, 1.0, 1.0, {}, {1.0: 1}), 1.0)

    monkeypatch.setattr(metadata, "_load", load)
    monkeypatch.setattr(metadata, "_rest", lambda _: None)
    subjects = [
        metadata.Subject(Server(name), Vm(name, name, ""), lambda: None, "Nova's" if name == "proxying" else "")
        for name in ("nodeplane", "proxying", "haproxy", "agent")
    ]
    rounds = metadata._rounds(bench, subjects, metadata.NEW, clients, repetition, 1.0, 1)
    assert "".join(taken) == order
    assert {subject.server.name[0]: len(samples) for subject, samples in rounds} == Counter(order)
