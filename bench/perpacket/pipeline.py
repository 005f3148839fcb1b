"""Stages one after the other on the same batch, as a worker runs them: timed as a whole and each by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.context import Context
from bench.perpacket import clock, native
from bench.perpacket.clock import Contender
from bench.perpacket.native import Schedule


class Pipeline(Contender):
    """A rung that is several calls; `split` keeps what each took, in ns per packet."""

    def __init__(self, subject: str, variant: str, schedule: Schedule, stages: dict[str, Callable[[], object]],
                 target: float | None = None) -> None:  # fmt: skip
        super().__init__(subject, variant, self._timed, schedule.packets, target=target)
        self.stages = tuple(stages)
        self.split: list[tuple[float, ...]] = []
        self._schedule, self._calls = schedule, list(stages.values())

    def _timed(self, passes: int) -> float:
        whole, each = self._schedule.time_stages(self._calls, passes)
        rate, own = native.clock()
        chunk = self._schedule.chunk
        self.split.append(tuple(max(0.0, ticks - own) / rate / chunk for ticks in each))
        return max(0.0, whole - own * len(each)) / rate * (self.packets // chunk)


def race(bench: Context, contenders: Sequence[Pipeline]) -> None:
    """As `clock.race`; the stages are figures, too."""
    clock.race(bench, contenders)
    for contender in contenders:
        rounds = contender.split[-len(contender.found) :]
        for number, stage in enumerate(contender.stages):
            for each in rounds:
                bench.record(stage, each[number], "ns", subject=contender.subject, variant=contender.variant,
                             better="lower")  # fmt: skip
