"""Where the time of a run goes: seconds of each of its stages, one after another."""

from __future__ import annotations

import time


class Clock:
    """`lap(stage)` books the time since the last lap on `stage`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now
