"""Where chunks of work run: in processes of this machine (local.py) or on a Ray cluster (on_ray.py).

An executor decides where, never what: the functions, the ledger and the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from unif2ace_data.errors import UserError
from unif2ace_data.run import local

EXECUTORS = ("local", "ray")


class MapChunks(Protocol):
    """local.map_chunks and on_ray.map_chunks."""

    def __call__(
        self,
        function: Callable[[list[Any]], list[Any]],
        items: Iterable[Any],
        workers: int,
        gave_up: Callable[[Any, str], Any],
    ) -> Generator[list[Any], None, None]: ...


@dataclass(frozen=True, slots=True)
class Executor:
    """`workers`: chunks that run at once."""

    workers: int = 1
    map_chunks: MapChunks = local.map_chunks
    name: str = "local"


@contextmanager
def executor(name: str, workers: int, address: str | None) -> Iterator[Executor]:
    """The executor of a command line. `workers` 0: one a core, of the machine or of the cluster; `address`: of the cluster.

    Raises UserError: no such executor, an address for the local one, no Ray, no cluster at the address.
    """
    if name not in EXECUTORS:
        raise UserError(f"--executor {name}: choose {' or '.join(EXECUTORS)}", 2)
    if name == "ray":
        from unif2ace_data.run import on_ray

        with on_ray.cluster(address) as cores:
            yield Executor(workers or cores, on_ray.map_chunks, name)
        return
    if address:
        raise UserError("--address is of a Ray cluster: add --executor ray", 2)
    yield Executor(workers or local.usable_cores())
