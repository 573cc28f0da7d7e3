"""The Ray executor: chunks are tasks of a cluster, a bounded number of them in flight, none of them precious.

Every node sees the sources, the dataset and its private folder under the same paths (a shared file system), and has the
same software: a node that has other makes other bytes, and ends the run (environment.py). Results come back to the driver,
which alone keeps records; shards that are written anew are staged by workers (rewrite.py). What a lost worker or node had
in flight is run again: after a lost node as it was, after a lost worker one input at a time, so that only the input that
kills is given up. The driver's own node is not among what may be lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from unif2ace_data.errors import UserError
from unif2ace_data.run.environment import differences, environment
from unif2ace_data.run.local import AHEAD, CHUNK, DIED_TWICE

try:
    import ray
    from ray import cloudpickle
    from ray.exceptions import (
        LocalRayletDiedError,
        NodeDiedError,
        ObjectLostError,
        RayError,
        RaySystemError,
        RayTaskError,
    )
except ImportError:
    raise UserError("--executor ray needs Ray: pip install 'unif2ace[ray]'") from None

PATIENCE = 10.0  # seconds until an address counts as silent
NODE_LOST = (NodeDiedError, LocalRayletDiedError, ObjectLostError)  # the last: a result that lay on such a node
NOT_LOADED = re.compile(r"No module named '[^']+'|Can't get attribute '[^']+'|cannot import name '[^']+'")
RAYLET_DIED = (
    "unif2ace-data: Ray's process on this node (raylet) has died, and the run with it (killed, or out of memory?). Finished "
    "work is kept: see that Ray runs here, and run the same command to go on"
)

Item = TypeVar("Item")
Out = TypeVar("Out")


@contextmanager
def cluster(address: str | None) -> Iterator[int]:
    """Connected to the cluster at `address` (None: one of this machine's own); its number of cores.

    Raises UserError where there is no cluster, or one that this process cannot join.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a run goes to anybody
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # those of chunks that nobody waits for any more
    if address:
        reach(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise UserError(not_joined(address, str(error))) from None
    try:
        # Ray prints what became of nodes; standard output is the command's, which may be JSON
        with ending_with_raylet(), contextlib.redirect_stdout(sys.stderr):
            yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def not_joined(address: str | None, why: str) -> str:
    where = f"--address {address}: " if address else ""
    if "Version mismatch" in why:  # its lines name the versions of both
        return f"{where}this process cannot join the Ray cluster. {' '.join(why.split())}: install the same of both"
    what = "no Ray cluster answers" if address else "Ray does not start on this machine"
    return f"{where}{what} ({next(iter(why.splitlines()), 'it does not say why')})"


def reach(address: str) -> None:
    """Ray itself goes on for minutes. Raises UserError where nobody listens at HOST:PORT, or it is none (exit code 2)."""
    if address in ("auto", "local"):
        return
    if "://" in address:
        host = address.partition("://")[2].partition("/")[0].rpartition(":")[0]
        raise UserError(
            f"--address {address}: only clusters that this machine is a node of are taken, and no Ray Client: on a node, give "
            f"auto or {host or 'HOST'}:6379",
            2,
        )
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    unclear = UserError(f"--address {address}: write auto, or HOST:PORT, for example {host or '127.0.0.1'}:6379", 2)
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise unclear
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except UnicodeError:  # no name of a host: a part of it is empty, or of more than 63 letters
        raise unclear from None
    except OSError as error:
        raise UserError(f"--address {address}: no Ray cluster answers ({error})") from None


@contextmanager
def ending_with_raylet() -> Iterator[None]:
    """Where the raylet of the driver's own node dies, this process ends with a line about it and exit code 1.

    Ray ends it in any case, sooner or later and from C++, where nothing can be caught; what is committed stays.
    """
    path, over = ray._private.worker._global_node.raylet_socket_name, threading.Event()
    lines = [connected(path)]

    def watch() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                lines[0].recv(1)  # the raylet never writes to who does not speak: the line has been cut
            lines[0].close()
            try:
                if not over.is_set():
                    lines[0] = connected(path)
            except OSError:
                os.write(2, f"\n{RAYLET_DIED}\n".encode())
                os._exit(1)

    threading.Thread(target=watch, name="raylet", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            lines[0].shutdown(socket.SHUT_RDWR)


def connected(path: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(path)
    except OSError:
        line.close()
        raise
    return line


@dataclass(frozen=True, slots=True)
class Work:
    """What a task shall do, and where. `function`: pickled; it is loaded where the software is the driver's."""

    function: bytes
    folder: str
    environment: dict[str, str]


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
    work = ray.put(Work(cloudpickle.dumps(function), str(Path.cwd()), environment()))
    task = ray.remote(num_cpus=1, max_retries=0)(run_chunk)
    again: list[Job[Item]] = []
    running: dict[Any, Job[Item]] = {}
    try:
        while True:
            while len(running) < workers * AHEAD:
                job = again.pop(0) if again else Job(list(islice(source, size)))
                if not job.chunk:
                    break
                running[task.remote(work, job.chunk)] = job
            if not running:
                return
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                yield ray.get(done)
            except NODE_LOST:
                again.append(job)
            except RayTaskError as error:
                raise understood(error.cause) from None
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
    found = NOT_LOADED.search(str(cause)) if isinstance(cause, RaySystemError) else None
    return cause if found is None else not_loaded("a Ray worker", found[0])


def not_loaded(who: str, why: str) -> UserError:
    return UserError(f"{who} cannot load its work ({why}): every node needs this package, as it is here")


def run_chunk(work: Work, chunk: list[Any]) -> list[Any]:
    """In a worker. Raises UserError where its node differs from the driver's."""
    node = f"the Ray node {ray.util.get_node_ip_address()}"
    if different := differences(environment(), work.environment):
        raise UserError(f"{node} has other software than the driver, and would make other bytes: {different}")
    try:
        function: Callable[[list[Any]], list[Any]] = cloudpickle.loads(work.function)
    except (ImportError, AttributeError) as error:
        raise not_loaded(node, str(error)) from None
    try:
        os.chdir(work.folder)  # sources may be named by relative paths
    except OSError as error:
        raise UserError(
            f"{node} does not see {work.folder} ({error.strerror}): every node needs the same file system"
        ) from None
    try:
        return function(chunk)
    except UserError as error:
        raise UserError(f"{node}: {error.message}", error.exit_code) from None
