"""The local executor: worker processes on this machine, a bounded number of chunks in flight, none of them precious.

A worker that dies (killed, out of memory, a crash in native code) takes its pool with it; the pool is made anew and
the chunks that were in flight are run again one input at a time, so that only the input that kills is given up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

Item = TypeVar("Item")
Out = TypeVar("Out")

CHUNK = 4  # inputs a task; small, because what is in flight is what a kill costs
AHEAD = 2  # tasks in flight per worker: one runs, one waits


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_chunks(
    function: Callable[[list[Item]], list[Out]],
    items: Iterable[Item],
    workers: int,
    gave_up: Callable[[Item, str], Out],
) -> Iterator[list[Out]]:
    """Results of `function(chunk)` as they finish, in any order. `gave_up(item, why)` stands in for a killer input.

    Exceptions that `function` raises (UserError) end the iteration; the pool is shut down in every case.
    """
    source = iter(items)
    alone: list[tuple[Item, int]] = []  # inputs of a pool that broke, each tried by itself; deaths seen alone
    pool = new_pool(workers)
    running: dict[Future[list[Out]], tuple[list[Item], int]] = {}
    try:
        while True:
            if not alone:
                while len(running) < workers * AHEAD and (chunk := list(islice(source, CHUNK))):
                    running[pool.submit(function, chunk)] = (chunk, 0)
            elif not running:
                item, deaths = alone.pop(0)
                running[pool.submit(function, [item])] = ([item], deaths)
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
                pool.shutdown(wait=True, cancel_futures=True)
                pool = new_pool(workers)
                for chunk, deaths in broken:
                    deaths += len(chunk) == 1
                    if deaths >= 2:
                        yield [gave_up(chunk[0], "the worker process died on this input, twice")]
                    else:
                        alone.extend((item, deaths) for item in chunk)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def new_pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=live_with_parent)


def live_with_parent() -> None:
    """End this worker when the driver is gone, also when it was killed: an orphan would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
