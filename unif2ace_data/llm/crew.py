"""Many rows at once: one coroutine a row, a bounded number of them, results handed over as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from unif2ace_data.llm.room import AnswerFailed, EngineRoom

Item = TypeVar("Item")
Out = TypeVar("Out")


def run_rows(
    make_room: Callable[[], EngineRoom],
    items: Iterable[Item],
    work: Callable[[EngineRoom, Item], Awaitable[Out]],
    done: Callable[[Item, Out | AnswerFailed], None],
) -> EngineRoom:
    """Run `work` on every item and hand over each result, in order of arrival, in this thread.

    A row without an answer is handed over as its AnswerFailed. UserError ends the run; finished rows were handed over.
    `items` is read no faster than rows finish. Returns the (closed) room, for its accounts.
    """
    return asyncio.run(drive(make_room, iter(items), work, done))


async def drive(
    make_room: Callable[[], EngineRoom],
    items: Iterator[Item],
    work: Callable[[EngineRoom, Item], Awaitable[Out]],
    done: Callable[[Item, Out | AnswerFailed], None],
) -> EngineRoom:
    room = make_room()
    most = 2 * room.in_flight.most  # some rows wait between two requests while others keep the server full
    running: dict[asyncio.Task[Out], Item] = {}

    async def one(item: Item) -> Out:
        return await work(room, item)

    def settle(finished: Iterable[asyncio.Task[Out]]) -> None:
        for task in finished:
            item = running.pop(task)
            try:
                result: Out | AnswerFailed = task.result()
            except AnswerFailed as failure:
                result = failure
            done(item, result)

    try:
        for item in items:
            running[asyncio.create_task(one(item))] = item
            if len(running) >= most:
                finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                settle(finished)
        while running:
            finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            settle(finished)
        return room
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await room.close()
