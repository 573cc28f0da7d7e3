"""How many requests are in flight: as many as still make the server answer faster, at most what the recipe allows.

More requests than a server can batch only wait there. So the limit is doubled on trial, kept where the rate of answers
grows by it and taken back where it does not, tried again now and then, and halved when the server says it is too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

START = 32  # our choice: what one server for one GPU takes without a long queue
GAIN = 1.05  # our choice: a step that brings less is not worth its queue
COOL_DOWN = 2.0  # seconds; one wave of refusals halves the limit once
PATIENCE = 8  # windows at one limit before the next step is tried again: the load may have changed


class InFlight:
    """A semaphore whose limit follows the server."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.limit = min(START, most)
        self.running = 0
        self.peak = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._clock = clock
        self._window_start = clock()
        self._answers = 0
        self._warming = 0  # answers to requests that were sent under another limit
        self._crowded = False  # somebody waited in this window: the limit was what held the rate down
        self._before = 0  # the limit before the present trial; 0: no trial
        self._rate = 0.0  # of answers, before the present trial
        self._stayed = PATIENCE
        self._halved_at = float("-inf")

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        if self.running >= self.limit:
            self._crowded = True
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # the turn was given and is passed on
                    self.running -= 1
                    self._wake()
                raise
        else:
            self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            yield
        finally:
            self.running -= 1
            self._wake()

    def _wake(self) -> None:
        while self._waiting and self.running < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)

    def answered(self) -> None:
        """Count one answer; at the end of a window (as many answers as the limit) decide about the next."""
        if self._warming:
            self._warming -= 1
            self._window_start = self._clock()
            return
        self._answers += 1
        if self._answers < max(self.limit, 8):
            return
        now = self._clock()
        rate, crowded = self._answers / max(now - self._window_start, 1e-9), self._crowded
        self._window_start, self._answers, self._crowded = now, 0, bool(self._waiting)
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
        self._wake()

    def too_much(self) -> None:
        """The server refused: half as many from now on."""
        now = self._clock()
        if now - self._halved_at >= COOL_DOWN:
            self._halved_at = now
            self._before, self._stayed = 0, 0
            self._set(max(1, self.limit // 2))
            self._window_start, self._answers = now, 0
