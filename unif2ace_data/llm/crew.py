"""Many rows at once: one coroutine a row, a bounded number of them, results handed over as they finish."""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from unif2ace_data.errors import UserError
from unif2ace_data.llm.room import AnswerFailed, EngineRoom

Item = TypeVar("Item")
Out = TypeVar("Out")

ENDS_THE_RUN = (UserError, OSError, sqlite3.Error)  # a disk that is full, a journal that is gone: true of every row


def run_rows(
    room: EngineRoom,
    items: Iterable[Item],
    work: Callable[[EngineRoom, Item], Awaitable[Out]],
    done: Callable[[Item, Out | AnswerFailed], None],
) -> None:
    """Run `work` on every item and hand over each result, in order of arrival, in this thread; then close the room.

    A row without an answer is handed over as its AnswerFailed, and so is one that meets a bug. UserError ends the run;
    whatever had finished until then has been handed over. `items` is read no faster than rows finish.
    """
    asyncio.run(drive(room, items, work, done))


async def drive(
    room: EngineRoom,
    items: Iterable[Item],
    work: Callable[[EngineRoom, Item], Awaitable[Out]],
    done: Callable[[Item, Out | AnswerFailed], None],
) -> None:
    most = 2 * room.fleet.most  # some rows wait between two requests while others keep the servers full
    running: dict[asyncio.Task[Out], Item] = {}

    async def one(item: Item) -> Out:
        try:
            return await work(room, item)
        except (AnswerFailed, *ENDS_THE_RUN):
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            why = (
                f"internal error ({type(error).__name__}: {error}; {place.name}, line {place.lineno}): please report it"
            )
            raise AnswerFailed("row", why) from error

    def settle() -> None:
        """Hand over every row that has finished, and only then let a row's error end the run."""
        errors = []
        for task in [task for task in running if task.done()]:
            item = running.pop(task)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, AnswerFailed):
                done(item, error)
            elif error is not None:
                errors.append(error)
            elif not task.cancelled():
                done(item, task.result())
        if errors:
            raise errors[0]

    try:
        for item in items:
            running[asyncio.create_task(one(item))] = item
            await asyncio.sleep(0)  # rows send their requests while others are still being read
            if len(running) >= most:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            settle()
        while running:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            settle()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await room.close()
