"""The daemon's own pulse: measures how late the event loop is, and tells the service manager that it lives.

The watchdog is fed from the loop itself: a blocked loop is a node that answers nobody, and restarting it is right.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from dataplane.metrics import Histogram
from dataplane.sdnotify import Notifier

log = logging.getLogger("nodeplane.heartbeat")

# Chosen: seldom enough to cost nothing, often enough for a window of ten seconds.
PERIOD_SECONDS = 0.25
WINDOW_BEATS = 40
# Chosen: a guest's first retransmission comes after one second; half of that is worth a line in the log.
LATE_SECONDS = 0.5


class Heartbeat:
    """Beats until it is cancelled: `asyncio.create_task(heartbeat.run())`."""

    def __init__(self, lag: Histogram, notifier: Notifier, healthy: Callable[[], bool] = lambda: True) -> None:
        """`healthy` may withhold the sign of life for another reason than a blocked loop."""
        self._lag = lag
        self._notifier = notifier
        self._healthy = healthy
        self._recent: deque[float] = deque(maxlen=WINDOW_BEATS)

    @property
    def lag_seconds(self) -> float:
        """Greatest lateness in the last ten seconds."""
        return max(self._recent, default=0.0)

    async def run(self) -> None:
        """Measure, and feed the watchdog at half of its time, for ever."""
        clock = asyncio.get_running_loop().time
        watchdog = self._notifier.watchdog_seconds
        period = PERIOD_SECONDS if watchdog is None else min(PERIOD_SECONDS, watchdog / 4)
        fed = float("-inf")
        while True:
            due = clock() + period
            await asyncio.sleep(period)
            now = clock()
            self.beat(max(0.0, now - due))
            if watchdog is not None and now - fed >= watchdog / 2 - period and self._healthy():
                self._notifier.watchdog()
                fed = now

    def beat(self, lag: float) -> None:
        """Take one measurement in, in seconds."""
        self._recent.append(lag)
        self._lag.observe(lag)
        if lag >= LATE_SECONDS:
            log.warning("daemon.loop_late", extra={"fields": {"lag_seconds": round(lag, 3)}})
