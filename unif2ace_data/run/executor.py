"""Where chunks of work run: in processes of this machine (local.py) or on a Ray cluster (on_ray.py).

An executor decides where, never what: the functions, the ledger and the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from unif2ace_data.errors import UserError
from unif2ace_data.run import local

EXECUTORS = ("local", "ray")

START_UP = 3.0  # our choice: seconds of work that are done before worker processes have loaded what they need

Item = TypeVar("Item")
Out = TypeVar("Out")


class MapChunks(Protocol):
    """local.map_chunks and on_ray.map_chunks."""

    def __call__(
        self,
        function: Callable[[list[Any]], list[Any]],
        items: Iterable[Any],
        workers: int,
        gave_up: Callable[[Any, str], Any],
        size: int = local.CHUNK,
    ) -> Generator[list[Any], None, None]: ...


@dataclass(frozen=True, slots=True)
class Executor:
    """`workers`: chunks that run at once."""

    workers: int = 1
    map_chunks: MapChunks = local.map_chunks
    name: str = "local"

    def for_work(self, seconds: float) -> Executor:
        """This executor, or this process where it has done so many seconds of work before local workers have started."""
        return Executor() if self.name == "local" and seconds < START_UP else self

    def leaves(self, chunks: int) -> bool:
        """Whether so many chunks go to other processes than this one."""
        return self.name != "local" or min(self.workers, chunks) > 1

    def spread(
        self,
        function: Callable[[list[Item]], list[Out]],
        items: Iterable[Item],
        count: int,
        size: int,
        named: Callable[[Item], str],
    ) -> Generator[list[Out], None, None]:
        """Results of `function(chunk)` over `count` items that kill nobody, `size` a chunk, in any order.

        What one process of this machine would do by itself is done in this one. Raises UserError, which tells what is
        `named`, where an item kills its worker all the same.
        """
        chunks = -(-count // size)
        if not self.leaves(chunks):
            return in_this_process(function, items, size)

        def gave_up(item: Item, why: str) -> Out:
            raise UserError(f"{named(item)}: {why}. Nothing in the dataset was changed; has the machine enough memory?")

        return self.map_chunks(function, items, max(1, min(self.workers, chunks)), gave_up, size)


def in_this_process(
    function: Callable[[list[Item]], list[Out]], items: Iterable[Item], size: int
) -> Generator[list[Out], None, None]:
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield function(chunk)


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
