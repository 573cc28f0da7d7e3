"""The local executor: worker processes on this machine, a bounded number of chunks in flight, none of them precious.

Each worker has a line of its own to the driver. One that dies (killed, out of memory, a crash in native code) costs what it
had in hand: of that each input is run again alone, so that only the input that kills is given up. What all workers shared,
one could take with it: Python's own pool hangs for ever where one is killed while it writes its result.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Out = TypeVar("Out")

CHUNK = 4  # inputs a task; small, because what is in flight is what a kill costs
DIED_TWICE = "the worker process died on this input, twice"
AHEAD = 2  # tasks in flight per worker: one runs, one waits


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(slots=True)
class Job(Generic[Item]):
    """`deaths`: of workers that had this one input in hand, and nothing else."""

    chunk: list[Item]
    deaths: int = 0


@dataclass(slots=True, eq=False)
class Worker(Generic[Item]):
    """A process and the line to it. `jobs`: sent and not answered; the first is in hand, others wait."""

    process: BaseProcess
    line: Connection
    jobs: deque[Job[Item]] = field(default_factory=deque)


class InWorker(Exception):
    """The traceback of an exception as its worker saw it, for the log."""


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
    waiting: deque[Job[Item]] = deque()  # had been sent to a worker that died before it took them in hand
    alone: deque[Job[Item]] = deque()  # of a chunk whose worker died, each tried while nothing else runs
    crew: list[Worker[Item]] = []

    def next_job() -> Job[Item] | None:
        if waiting:
            return waiting.popleft()
        chunk = list(islice(source, size))
        return Job(chunk) if chunk else None

    def hand_out() -> None:
        if alone:
            if not any(worker.jobs for worker in crew):
                send(free_worker(crew, function), alone.popleft())
            return
        for depth in range(AHEAD if size > 1 else 1):  # a chunk of one is long: it waits for whoever is free first
            for place in range(workers):
                if place < len(crew) and len(crew[place].jobs) > depth:
                    continue
                job = next_job()
                if job is None:
                    return
                while len(crew) < workers:  # all at once: a large chunk cannot be sent before its worker has started
                    crew.append(new_worker(function))
                send(crew[place], job)

    try:
        while True:
            hand_out()
            busy = {worker.line: worker for worker in crew if worker.jobs}
            if not busy:
                return
            answers: list[bytes] = []
            killers: list[Item] = []
            for line in wait(list(busy)):
                worker = busy[line]  # type: ignore[index]
                try:
                    answers.append(worker.line.recv_bytes())
                    worker.jobs.popleft()
                except (EOFError, OSError):
                    crew.remove(worker)
                    dismiss([worker])
                    job = worker.jobs.popleft()
                    waiting.extend(worker.jobs)
                    deaths = job.deaths + (len(job.chunk) == 1)
                    if deaths < 2:
                        alone.extend(Job([item], deaths) for item in job.chunk)
                    else:
                        killers += job.chunk
            hand_out()  # first, so that nobody waits while the caller takes the results in
            yield from map(unpacked, answers)
            yield from ([gave_up(item, DIED_TWICE)] for item in killers)
    finally:
        dismiss(crew)


# ------------------------------------------------------------------ the driver's end of a line


def new_worker(function: Callable[[list[Item]], list[Out]]) -> Worker[Item]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, function), daemon=True)
    resource_tracker.ensure_running()  # starts with the first worker else, and then lets Ctrl-C through to it
    with uninterrupted():
        process.start()
    theirs.close()  # so that the line ends when the worker does
    return Worker(process, ours)


def free_worker(crew: list[Worker[Item]], function: Callable[[list[Item]], list[Out]]) -> Worker[Item]:
    if not crew:
        crew.append(new_worker(function))
    return crew[0]


def send(worker: Worker[Item], job: Job[Item]) -> None:
    data = pickle.dumps(job.chunk)
    worker.jobs.append(job)
    with contextlib.suppress(OSError):  # it is gone: the end of its line will say so
        worker.line.send_bytes(data)


def unpacked(answer: bytes) -> Any:
    """The results of a chunk; raises what its function raised."""
    results, error, told = pickle.loads(answer)
    if error is not None:
        raise error from InWorker(told)
    return results


def dismiss(crew: list[Worker[Item]]) -> None:
    """End the workers now (nobody waits for what they still do) and wait until they are gone."""
    for worker in crew:
        worker.process.kill()
    for worker in crew:
        worker.process.join()
        worker.line.close()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end of the block. Workers that are started inside never get it: they inherit the mask.

    The mask alone does not hold it off: any other thread takes the signal, and this one then runs Python's handler.
    """
    pressed = False

    def later(signum: int, frame: object) -> None:
        nonlocal pressed
        pressed = True

    mine = threading.current_thread() is threading.main_thread()  # no other may set a handler, or runs one
    handler = signal.signal(signal.SIGINT, later) if mine else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if mine:
            signal.signal(signal.SIGINT, handler)
        if pressed:
            signal.raise_signal(signal.SIGINT)


# ------------------------------------------------------------------ the worker's end


def serve(line: Connection, function: Callable[[list[Item]], list[Out]]) -> None:
    """A worker's life: one chunk after another, until the line ends because the driver did, also when it was killed.

    A thread reads: the driver never waits to send, and an end of the line ends the worker in the middle of its work. An
    orphan would wait for work for ever, and a worker that ends with its chunk keeps a driver that should stop.
    """
    chunks: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        try:
            while True:
                chunks.put(line.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while True:
        data = chunks.get()
        try:
            answer = pickle.dumps((function(pickle.loads(data)), None, ""))
        except Exception as error:
            answer = pickle.dumps((None, sendable(error), "".join(traceback.format_exception(error))))
        try:
            line.send_bytes(answer)
        except OSError:
            os._exit(1)


def sendable(error: Exception) -> Exception:
    """The exception, or its words where it cannot be pickled and read back."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
