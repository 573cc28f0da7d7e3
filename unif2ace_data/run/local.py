"""The local executor: worker processes on this machine, a bounded number of chunks in flight, none of them precious.

A worker that dies (killed, out of memory, a crash in native code) takes its pool with it; the pool is made anew and
the chunks that were in flight are run again one input at a time, so that only the input that kills is given up.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

Item = TypeVar("Item")
Out = TypeVar("Out")

CHUNK = 4  # inputs a task; small, because what is in flight is what a kill costs
DIED_TWICE = "the worker process died on this input, twice"
AHEAD = 2  # tasks in flight per worker: one runs, one waits


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_chunks(
    function: Callable[[list[Item]], list[Out]],
    items: Iterable[Item],
    workers: int,
    gave_up: Callable[[Item, str], Out],
    size: int = CHUNK,
) -> Generator[list[Out], None, None]:
    """Results of `function(chunk)` as they finish, in any order. `gave_up(item, why)` stands in for a killer input.

    `size`: items a chunk. Exceptions that `function` raises (UserError) end the iteration. Whoever may leave early (an
    exception, Ctrl-C) closes the generator: that ends the workers in the middle of whatever they do, and waits for their end.
    """
    source = iter(items)
    alone: list[tuple[Item, int]] = []  # inputs of a pool that broke, each tried by itself; deaths seen alone
    crew = new_crew(workers)
    running: dict[Future[list[Out]], tuple[list[Item], int]] = {}
    try:
        while True:
            if not alone:
                while len(running) < workers * AHEAD and (chunk := list(islice(source, size))):
                    running[submit(crew, function, chunk)] = (chunk, 0)
            elif not running:
                item, deaths = alone.pop(0)
                running[submit(crew, function, [item])] = ([item], deaths)
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken: list[tuple[list[Item], int]] = []
            for future in done:
                job = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    broken.append(job)
            if broken:
                broken.extend(running.values())
                running.clear()
                dismiss(crew)
                crew = new_crew(workers)
                for chunk, deaths in broken:
                    deaths += len(chunk) == 1
                    if deaths >= 2:
                        yield [gave_up(chunk[0], DIED_TWICE)]
                    else:
                        alone.extend((item, deaths) for item in chunk)
    finally:
        dismiss(crew)


@dataclass(slots=True)
class Crew:
    """A pool of workers that live until `lifeline` is closed, or until the driver is gone."""

    pool: ProcessPoolExecutor
    lifeline: Connection


def new_crew(workers: int) -> Crew:
    # Python's tracker of shared semaphores outlives a driver that a second Ctrl-C ends: it frees them, and need not say so.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    return Crew(ProcessPoolExecutor(workers, context, initializer=live_with_driver, initargs=(theirs,)), ours)


def submit(crew: Crew, function: Callable[[list[Item]], list[Out]], chunk: list[Item]) -> Future[list[Out]]:
    with uninterrupted():
        return crew.pool.submit(function, chunk)


def dismiss(crew: Crew) -> None:
    """End the workers now (nobody waits for what they still do) and wait until they are gone."""
    crew.lifeline.close()
    crew.pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end of the block. Workers that are started inside never get it: they inherit the mask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live_with_driver(lifeline: Connection) -> None:
    """End this worker when the driver closes the line or is gone, also when it was killed.

    An orphan would wait for work for ever, and a worker that ends with its chunk keeps a driver that should stop.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel, lifeline])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
