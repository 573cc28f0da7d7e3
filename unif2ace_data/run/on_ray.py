"""The Ray executor: chunks are tasks of a cluster, a bounded number of them in flight, none of them precious.

Every node sees the sources, the dataset and its private folder under the same paths (a shared file system) and has the
same version of this package. Results come back to the driver, which alone keeps records; shards that are written anew are
staged by workers (rewrite.py). What a lost worker or node had in flight is run again: after a lost node as it was, after
a lost worker one input at a time, so that only the input that kills is given up.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from unif2ace_data import __version__
from unif2ace_data.errors import UserError
from unif2ace_data.run.local import AHEAD, CHUNK, DIED_TWICE

try:
    import ray
    from ray.exceptions import NodeDiedError, RayError, RaySystemError, RayTaskError
except ImportError:
    raise UserError("--executor ray needs Ray: pip install 'unif2ace[ray]'") from None

PATIENCE = 10.0  # seconds until an address counts as silent

Item = TypeVar("Item")
Out = TypeVar("Out")


@contextmanager
def cluster(address: str | None) -> Iterator[int]:
    """Connected to the cluster at `address` (None: one of this machine's own); its number of cores.

    Raises UserError where there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a run goes to anybody
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # those of chunks that nobody waits for any more
    if address:
        reach(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"--address {address}: no Ray cluster answers" if address else "Ray does not start on this machine"
        raise UserError(f"{where} ({str(error).splitlines()[0]})") from None
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Ray itself goes on for minutes. Raises UserError where nobody listens at HOST:PORT."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        return  # auto, and what Ray knows
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except OSError as error:
        raise UserError(f"--address {address}: no Ray cluster answers ({error})") from None


@dataclass(slots=True)
class Job(Generic[Item]):
    """A chunk in flight. `deaths`: of workers that ran it, since it holds one input."""

    chunk: list[Item]
    deaths: int = 0


def map_chunks(
    function: Callable[[list[Item]], list[Out]],
    items: Iterable[Item],
    workers: int,
    gave_up: Callable[[Item, str], Out],
    size: int = CHUNK,
) -> Generator[list[Out], None, None]:
    """As local.map_chunks: results of `function(chunk)` as they finish, in any order."""
    source = iter(items)
    shared, task = ray.put(function), ray.remote(num_cpus=1, max_retries=0)(run_chunk)
    again: list[Job[Item]] = []
    running: dict[Any, Job[Item]] = {}
    try:
        while True:
            while len(running) < workers * AHEAD:
                job = again.pop(0) if again else Job(list(islice(source, size)))
                if not job.chunk:
                    break
                running[task.remote(shared, str(Path.cwd()), __version__, job.chunk)] = job
            if not running:
                return
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                yield ray.get(done)
            except RayTaskError as error:
                raise understood(error.cause) from None
            except NodeDiedError:
                again.append(job)
            except RayError:
                job.deaths += len(job.chunk) == 1
                if job.deaths >= 2:
                    yield [gave_up(job.chunk[0], DIED_TWICE)]
                else:
                    again.extend(Job([item], job.deaths) for item in job.chunk)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def understood(cause: BaseException) -> BaseException:
    missing = re.search(r"No module named '[^']+'", str(cause)) if isinstance(cause, RaySystemError) else None
    if missing is None:
        return cause
    return UserError(f"a Ray worker cannot load its work ({missing[0]}): every node needs this package, as it is here")


def run_chunk(function: Callable[[list[Any]], list[Any]], folder: str, version: str, chunk: list[Any]) -> list[Any]:
    """In a worker. Raises UserError where its node differs from the driver's."""
    node = ray.util.get_node_ip_address()
    if version != __version__:
        raise UserError(f"the Ray node {node} has version {__version__} of this package, the driver {version}")
    try:
        os.chdir(folder)  # sources may be named by relative paths
    except OSError as error:
        raise UserError(
            f"the Ray node {node} does not see {folder} ({error.strerror}): every node needs the same file system"
        ) from None
    return function(chunk)
