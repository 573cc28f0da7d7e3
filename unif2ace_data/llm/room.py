"""The engine room: asks, waits, asks again; journals every answer; never lets one row or a dead server cost finished work.

What can go wrong, and what is done:
    answer cut off or does not parse   another seed, `attempts` times; then the row fails (AnswerFailed)
    refused (400, 413, 422)            the row fails at once
    failed or too slow (500, time-out) asked again after a pause, `attempts` times and at every server; then the row fails
    too slow at two servers            the row fails: it hangs, and not they, where they answer others
    busy (429, 503)                    fewer requests in flight, asked again when the server says, or later and later
    nobody answers                     everything waits until somebody does; after `wait_s` the run ends with UserError
    wrong key, no such model           the run ends with UserError
Where several servers answer (fleet.py), what one of them failed is asked again at another, without a pause.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from unif2ace_data.llm.engine import Answer, Broken, Busy, Engine, Refused, Request, TimedOut, Unreachable, keyed_model
from unif2ace_data.llm.fleet import Fleet, Server, gone
from unif2ace_data.llm.journal import Journal
from unif2ace_data.recipe import Llm

T = TypeVar("T")

PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds: first pause before a request is sent again, doubled each time
LOST = 5  # our choice: a request in whose company the connection was lost this often fails alone
HUNG = 2  # our choice: a request that hangs at so many servers hangs at all; each costs a whole time-out


class AnswerFailed(Exception):
    """No usable answer for one row. The message says at which stage and why."""

    def __init__(self, stage: str, why: str) -> None:
        super().__init__(f"{stage}: {why}")
        self.stage, self.why = stage, why


class Unusable(AnswerFailed):
    """The model answered, and none of its answers can be used: it is not asked again."""


@dataclass(slots=True)
class Account:
    """What one stage cost in this run. `journalled`: answers that were at hand; `again`: requests that had to be repeated."""

    asked: int = 0
    journalled: int = 0
    again: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    request_seconds: float = 0.0  # summed over requests: many are in flight at once


class EngineRoom:
    """One engine, its journal, and the accounts of this run. Use from one event loop; `close` in the end."""

    def __init__(self, engine: Engine, journal: Journal, settings: Llm) -> None:
        self.engine, self.journal, self.settings = engine, journal, settings
        self.model = keyed_model(engine.model)
        self.fleet = Fleet(engine, settings)
        self.accounts: dict[str, Account] = {}
        self._pending: dict[str, asyncio.Future[Answer]] = {}
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Since this room was made, by the clock."""
        return time.monotonic() - self._since

    async def ask(self, request: Request, parse: Callable[[str], T]) -> T:
        """The parsed answer. `parse` raises ValueError for what it cannot use. Raises AnswerFailed, UserError."""
        why = ""
        for attempt in range(self.settings.attempts):
            answer = await self._answer(replace(request, seed=request.seed + attempt))
            if answer.finish == "length":
                why = f"cut off at {request.max_tokens} tokens"
                continue
            try:
                return parse(answer.text)
            except ValueError as error:
                why = f"not usable: {error}"
        self._account(request).failed += 1
        raise Unusable(
            request.stage,
            f"{why} ({self.settings.attempts} seeds tried; another llm.seed or more llm.attempts asks again)",
        )

    async def close(self) -> None:
        await self.fleet.close()

    # ---------------------------------------------------------------- one request

    async def _answer(self, request: Request) -> Answer:
        """From the journal, from the same request already in flight, or from the engine."""
        key = request.key(self.model, self.engine.revision)
        account = self._account(request)
        known = self.journal.get(key)
        if known is not None:
            account.journalled += 1
            return known
        if key in self._pending:
            return await asyncio.shield(self._pending[key])
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        try:
            answer = await self._fetch(request, account)
            self.journal.put(key, request.stage, self.model, answer, request.about)
            future.set_result(answer)
            return answer
        except BaseException as error:
            future.set_exception(error)
            future.exception()  # seen: nobody else may be waiting
            raise
        finally:
            del self._pending[key]

    async def _fetch(self, request: Request, account: Account) -> Answer:
        await self.fleet.open()
        pause, broken, lost, refused_since, why = PAUSE, 0, 0, None, ""
        tried: set[Server] = set()  # servers that failed this request since it last paused
        broken_at: set[Server] = set()
        hung_at: set[Server] = set()  # but for ailing ones, which may hang on everything
        while True:
            later = pause * random.uniform(0.5, 1.5)
            try:
                async with self.fleet.turn(tried) as server:
                    if lost >= LOST:  # with a server that answers others
                        account.failed += 1
                        raise AnswerFailed(request.stage, f"the connection was lost {lost} times ({why})")
                    account.asked += 1
                    answer = await server.engine.answer(request)
                self.fleet.answered(server)
                account.prompt_tokens += answer.prompt_tokens
                account.completion_tokens += answer.completion_tokens
                account.request_seconds += answer.seconds
                return answer
            except Busy as error:
                self.fleet.too_much(server)
                refused_since = refused_since or time.monotonic()
                left = refused_since + self.settings.wait_s - time.monotonic()
                if left <= 0 and broken >= self.settings.attempts:  # the others fail it: its own fault, maybe
                    account.failed += 1
                    raise AnswerFailed(
                        request.stage, f"failed {broken} times, and elsewhere refused ({error})"
                    ) from None
                if left <= 0:
                    raise gone(
                        f"the server has been refusing requests for {self.settings.wait_s:g} s ({error})"
                    ) from None
                later = min(error.after if error.after is not None else later, left)
            except Broken as error:
                self.fleet.broke(server)
                broken += 1
                broken_at.add(server)
                if isinstance(error, TimedOut) and not server.ailing:
                    hung_at.add(server)
                if len(hung_at) == HUNG:
                    account.failed += 1
                    raise AnswerFailed(request.stage, f"{error}, at {HUNG} servers") from None
                if broken >= self.settings.attempts and not self.fleet.others(broken_at):
                    account.failed += 1
                    raise AnswerFailed(request.stage, f"{error} ({broken} times)") from None
            except Unreachable as error:
                lost, why = lost + 1, str(error)
                self.fleet.lost(server, why)
            except Refused as error:
                account.failed += 1
                raise AnswerFailed(request.stage, f"refused: {error}") from None
            tried.add(server)
            if not self.fleet.others(tried):
                tried.clear()
                await asyncio.sleep(later)
                pause = min(2 * pause, LONGEST_PAUSE)
            account.again += 1

    def _account(self, request: Request) -> Account:
        return self.accounts.setdefault(request.stage, Account())
