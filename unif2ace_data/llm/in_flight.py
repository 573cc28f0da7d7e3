"""How many requests are in flight at a server: as many as still make it answer faster, at most what the recipe allows.

More requests than a server can batch only wait there. So the limit is doubled on trial, kept where the rate of answers
grows by it and taken back where it does not, tried again now and then, and halved when the server says it is too much.
Who gets the places is the fleet's business (fleet.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable

START = 32  # our choice: what one server for one GPU takes without a long queue
GAIN = 1.05  # our choice: a step that brings less is not worth its queue
COOL_DOWN = 2.0  # seconds; one wave of refusals halves the limit once
PATIENCE = 8  # windows at one limit before the next step is tried again: the load may have changed


class InFlight:
    """The limit of one server, which follows it. `running`: requests that it has now."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.limit = min(START, most)
        self.running = 0
        self.crowded = False  # somebody waited in this window: the limit was what held the rate down
        self._clock = clock
        self._window_start = clock()
        self._answers = 0
        self._warming = 0  # answers to requests that were sent under another limit
        self._before = 0  # the limit before the present trial; 0: no trial
        self._rate = 0.0  # of answers, before the present trial
        self._stayed = PATIENCE
        self._halved_at = float("-inf")

    def has_room(self) -> bool:
        return self.running < self.limit

    def answered(self, waiting: bool) -> None:
        """Count one answer; at the end of a window (as many answers as the limit) decide about the next.

        `waiting`: somebody waits for a place.
        """
        if self._warming:
            self._warming -= 1
            self._window_start = self._clock()
            return
        self._answers += 1
        if self._answers < max(self.limit, 8):
            return
        now = self._clock()
        rate, crowded = self._answers / max(now - self._window_start, 1e-9), self.crowded
        self._window_start, self._answers, self.crowded = now, 0, waiting
        if self._before and rate <= GAIN * self._rate:
            self._set(self._before)
            self._before, self._stayed = 0, 0
            return
        self._stayed = PATIENCE if self._before else self._stayed + 1
        self._before = 0
        if crowded and self.limit < self.most and self._stayed >= PATIENCE:
            self._before, self._rate = self.limit, rate
            self._set(min(self.most, 2 * self.limit))

    def _set(self, limit: int) -> None:
        self._warming = max(self.limit, limit)
        self.limit = limit

    def too_much(self) -> None:
        """The server refused: half as many from now on."""
        now = self._clock()
        if now - self._halved_at >= COOL_DOWN:
            self._halved_at = now
            self._before, self._stayed = 0, 0
            self._set(max(1, self.limit // 2))
            self._window_start, self._answers = now, 0
