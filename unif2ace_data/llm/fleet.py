"""The servers that answer for one model: which of them gets the next request, and which of them answer at all.

A request goes to the server that has the fewest in flight, of those that have a place (in_flight.py). Where none has, it
waits in one line for all, and takes the first place that becomes free anywhere: the faster server takes more. A server
that only fails would always have the fewest: it is asked last. One that cannot be reached gets nothing until it answers
again; only while none answers does everything wait, up to `wait_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Coroutine
from typing import Any

from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Broken, Busy, Engine, Refused, Unreachable
from unif2ace_data.llm.in_flight import InFlight
from unif2ace_data.recipe import Llm

KNOCK, LONGEST_KNOCK = 0.5, 10.0  # seconds between two knocks at a server that is away: first, and at most
AILING = 3  # our choice: a server that failed this many requests in a row is asked last, until it answers one
TELL_EVERY = 30.0  # seconds; one that loses every connection, and answers every knock, is not told of each time
AWAY = (Unreachable, Busy, Broken, Refused)  # of `open`: it may come back


class Server:
    """One server of the fleet. `up`: it answers, as far as is known; `asked`: requests that it got; `broken`: of them those
    that it failed since it last answered one."""

    def __init__(self, engine: Engine, settings: Llm) -> None:
        self.engine = engine
        self.places = InFlight(min(engine.most, settings.in_flight))
        self.up = True
        self.asked = 0
        self.broken = 0
        self.told_at = float("-inf")

    @property
    def ailing(self) -> bool:
        return self.broken >= AILING


Turn = tuple["asyncio.Future[Server]", Collection[Server]]  # who waits, and the servers that it would rather not get


class Fleet:
    """An engine's servers, one or many. Use from one event loop; `close` in the end."""

    def __init__(self, engine: Engine, settings: Llm) -> None:
        self.settings = settings
        self.servers = [Server(one, settings) for one in engine.servers()]
        self.most = sum(server.places.most for server in self.servers)
        self.peak = 0
        self._line: deque[Turn] = deque()
        self._opening = asyncio.Lock()
        self._opened = False
        self._silent_since = float("inf")  # nobody has answered since then
        self._over: UserError | None = None  # what no request can get past
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Look at every server once, all at the same time; who is away is knocked for. Raises UserError."""
        async with self._opening:
            if not self._opened:
                try:
                    async with asyncio.TaskGroup() as looks:  # the first error ends the other looks
                        for server in self.servers:
                            looks.create_task(self._look(server))
                except ExceptionGroup as group:
                    raise group.exceptions[0] from None
                self._opened = True

    async def _look(self, server: Server) -> None:
        try:
            await server.engine.open()
        except AWAY as error:
            self.lost(server, str(error))

    @contextlib.asynccontextmanager
    async def turn(self, tried: Collection[Server] = ()) -> AsyncIterator[Server]:
        """A place at a server, at one of those `tried` only where no other is up. Raises UserError where all stay away."""
        if self._over is not None:
            raise self._over
        server = self._free(tried)
        if server is not None:
            server.places.running += 1
        else:
            server = await self._wait(tried)
        server.asked += 1
        self.peak = max(self.peak, sum(s.places.running for s in self.servers))
        try:
            yield server
        finally:
            server.places.running -= 1
            self._deal()

    def answered(self, server: Server) -> None:
        server.broken = 0
        server.places.answered(bool(self._line))
        self._deal()

    def broke(self, server: Server) -> None:
        server.broken += 1

    def too_much(self, server: Server) -> None:
        server.places.too_much()

    def others(self, tried: Collection[Server]) -> bool:
        """Whether a server is up that is not among those `tried`."""
        return any(server.up for server in self.servers if server not in tried)

    def lost(self, server: Server, why: str) -> None:
        """Nobody answers there: no requests until somebody does."""
        if not server.up:
            return
        server.up, now = False, time.monotonic()
        alone = not any(other.up for other in self.servers)
        if alone:
            self._silent_since = now
        if alone or now - server.told_at >= TELL_EVERY:
            server.told_at = now
            waiting = f"waiting up to {self.settings.wait_s:g} s (llm.wait_s), Ctrl-C ends"
            then = waiting if alone else "the other servers go on without it"
            print(f"no answer: {why}; {then}", file=sys.stderr)
        self._start(self._knock(server, why))
        self._deal()  # who waited for this one takes what there is

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self.servers:
            await server.engine.close()

    # ---------------------------------------------------------------- places

    def _free(self, tried: Collection[Server]) -> Server | None:
        """The server to ask now, if one has a place."""
        free = [s for s in self.servers if s.up and s.places.has_room() and s not in tried]
        if not free and not self.others(tried):
            free = [s for s in self.servers if s.up and s.places.has_room()]
        return min(free, key=lambda s: (s.ailing, s.places.running, s.asked), default=None)

    async def _wait(self, tried: Collection[Server]) -> Server:
        for server in self.servers:
            server.places.crowded = True
        turn: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        self._line.append((turn, tried))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and not turn.exception():  # the place was given and is passed on
                turn.result().places.running -= 1
                self._deal()
            raise

    def _deal(self) -> None:
        """Hand free places to those in the line, first come first served."""
        passed_over: list[Turn] = []
        while self._line and any(s.up and s.places.has_room() for s in self.servers):
            turn, tried = self._line.popleft()
            if turn.done():
                continue
            server = self._free(tried)
            if server is None:
                passed_over.append((turn, tried))
            else:
                server.places.running += 1
                turn.set_result(server)
        self._line.extendleft(reversed(passed_over))

    # ---------------------------------------------------------------- servers that are away

    async def _knock(self, server: Server, why: str) -> None:
        pause = KNOCK
        while True:
            try:
                await server.engine.open()
            except AWAY as error:
                why = str(error)
            except UserError as error:
                return self._end(error)
            except Exception as error:  # a bug of ours: unseen in this task, and who waits would wait for ever
                bug = f"internal error ({type(error).__name__}: {error}) in asking whether the server is back"
                return self._end(gone(f"{bug}: please report it"))
            else:
                server.up, self._silent_since = True, float("inf")
                return self._deal()
            left = self._silent_since + self.settings.wait_s - time.monotonic()
            if left < 0:
                return self._end(gone(f"no answer from the server for {self.settings.wait_s:g} s ({why})"))
            await asyncio.sleep(min(pause, max(0.1, left)))
            pause = min(2 * pause, LONGEST_KNOCK)

    def _end(self, error: UserError) -> None:
        """Whoever waits for a place, or will, gets this error."""
        self._over = error
        for turn, _ in self._line:
            if not turn.done():
                turn.set_exception(error)
        self._line.clear()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def gone(what: str) -> UserError:
    return UserError(f"{what}. Every answer that arrived is kept: start the server and run the same command again")
