"""The load clients, run in a client's namespace on the load's core, and what they say afterwards."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.compile import program
from bench.cores import Cores, pinned
from bench.peers import debian
from bench.percentile import percentile_of_counts

PERFDHCP_MAC = "00:0c:01:02:00:00"
"""perfdhcp adds the client's number to each octet without carry: a base that does not end in zeros leaves its range."""

_WRK_SCRIPT = """
done = function(summary, latency, requests)
  local times = {}
  for number = 1, #latency do
    times[number] = string.format("[%d,%d]", latency(number))
  end
  io.write(string.format(
    '\\n{"answered":%d,"seconds":%.6f,"p50":%.1f,"p99":%.1f,"max":%.1f,"wrong":%d,"refused":%d,"broken":%d,"late":%d,"times":[',
    summary.requests - summary.errors.status, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    latency.max, summary.errors.status, summary.errors.connect, summary.errors.read + summary.errors.write,
    summary.errors.timeout), table.concat(times, ","), "]}\\n")
end
"""
_WRK_NUMBERS = """
local number = 0
request = function()
  number = number + 1
  return wrk.format("GET", string.format("%s", number))
end
"""


@dataclass(frozen=True)
class Load:
    """One timed load."""

    answered: int
    seconds: float
    p50: float
    """Microseconds, like p99."""
    p99: float
    failures: Mapping[str, int] = field(default_factory=dict)
    """Everything that was not answered rightly, by kind; no zeros."""
    times: Mapping[float, int] = field(default_factory=dict)
    """How many answers took how many microseconds; not all of them are timed, and none if the client does not say."""

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


def together(loads: Sequence[Load]) -> Load:
    """Several loads as one: the percentiles are those of all their answers. ValueError if one has no `times`."""
    if any(load.answered and not load.times for load in loads):
        raise ValueError("a load without its times")
    times: Counter[float] = Counter()
    failures: Counter[str] = Counter()
    for load in loads:
        times.update(load.times)
        failures.update(load.failures)
    p50, p99 = (percentile_of_counts(times, percent) if times else 0.0 for percent in (50, 99))
    return Load(sum(load.answered for load in loads), sum(load.seconds for load in loads), p50, p99, failures, times)


def _run(netns: str, cores: Cores, argv: Sequence[str | Path], seconds: float, environment: Mapping[str, str]) -> str:
    with pinned(cores.load):
        done = subprocess.run(["ip", "netns", "exec", netns, *map(str, argv)], capture_output=True, text=True,
                              timeout=seconds + 60, env=debian.full(environment))  # fmt: skip
    if done.returncode not in (0, 3):  # 3: perfdhcp's word for losses
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout


def _load(output: str) -> Load:
    said = json.loads(output.strip().splitlines()[-1])
    failures = {name: said[name] for name in ("wrong", "refused", "broken", "late", "lost") if said.get(name)}
    return Load(said["answered"], said["seconds"], said["p50"], said["p99"], failures, dict(said.get("times", ())))


def http_close(netns: str, cores: Cores, path: str, clients: int, seconds: float, size: int) -> Load:
    """Requests over new connections (bench/load/http_close.c); answers must be 200 with `size` bytes.

    A `#` in the path stands for the request's number, here and in `wrk`.
    """
    argv = (program("http_close"), "169.254.169.254", "80", path, str(clients), str(seconds), str(size))
    return _load(_run(netns, cores, argv, seconds, {}))


def wrk(netns: str, cores: Cores, path: str, clients: int, seconds: float, directory: Path) -> Load:
    """Keep-alive requests with wrk, one thread, for whole seconds."""
    tool = debian.need("wrk", "wrk")
    script = directory / "done.lua"
    script.write_text(_WRK_SCRIPT + (_WRK_NUMBERS % path.replace("#", "%d") if "#" in path else ""))
    argv = (tool.path, "-t1", f"-c{clients}", f"-d{math.ceil(seconds)}s", "--timeout", "10s", "-s", script,
            f"http://169.254.169.254{path.replace('#', '')}")  # fmt: skip
    return _load(_run(netns, cores, argv, seconds, tool.environment))


def dhcp_relayed(netns: str, cores: Cores, server: str, giaddr: str, first: str, clients: int, window: int,
                 seconds: float) -> Load:  # fmt: skip
    """Closed loop as a relay agent (bench/load/dhcp_loop.c)."""
    argv = (program("dhcp_loop"), "relay", server, giaddr, first, str(clients), str(window), str(seconds))
    return _load(_run(netns, cores, argv, seconds, {}))


def dhcp_direct(netns: str, cores: Cores, device: str, first: str, clients: int, window: int, seconds: float) -> Load:
    """Closed loop as the guests themselves, in raw frames."""
    argv = (program("dhcp_loop"), "direct", device, first, str(clients), str(window), str(seconds))
    return _load(_run(netns, cores, argv, seconds, {}))


@dataclass(frozen=True)
class Perfdhcp:
    """One run of perfdhcp at a fixed rate."""

    asked: float
    """Exchanges per second that were asked for."""
    exchanges: int
    seconds: float
    lost: float
    """Fraction of packets without an answer."""

    @property
    def rate(self) -> float:
        return self.exchanges / self.seconds

    @property
    def held(self) -> bool:
        """At most 0.1 % lost at 95 % of the rate or more."""
        return self.lost <= 0.001 and self.rate >= 0.95 * self.asked


def perfdhcp(netns: str, cores: Cores, server: str, device: str, rate: int, clients: int, seconds: int) -> Perfdhcp:
    """Open loop, relayed: perfdhcp is always a relay agent for DHCPv4 (giaddr is the address of `device`)."""
    tool = debian.need("perfdhcp", "perfdhcp")
    argv = (tool.path, "-4", "-l", device, "-b", f"mac={PERFDHCP_MAC}", "-r", str(rate), "-R", str(clients),
            "-p", str(seconds), "-W", "300000", server)  # fmt: skip
    output = _run(netns, cores, argv, seconds, tool.environment)
    sent = [int(number) for number in re.findall(r"sent packets: (\d+)", output)]
    received = [int(number) for number in re.findall(r"received packets: (\d+)", output)]
    if len(sent) < 2 or len(received) < 2:
        raise RuntimeError(f"perfdhcp said nothing usable: {output[-300:]}")
    return Perfdhcp(rate, received[1], seconds, 1 - sum(received[:2]) / max(1, sum(sent[:2])))
