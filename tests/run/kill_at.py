"""Run a build that kills itself (SIGKILL) at the Nth call of one point: for tests of resuming.

python kill_at.py POINT N -- build arguments
"""

from __future__ import annotations

import os
import pathlib
import signal
import sys

import unif2ace_data.run.describe as describing
import unif2ace_data.run.pack as packing
import unif2ace_data.run.rewrite as rewriting
import unif2ace_data.shards as shards
from unif2ace_data import cli
from unif2ace_data.llm.journal import Journal
from unif2ace_data.run.store import WorkStore


def main() -> None:
    point, count = sys.argv[1], int(sys.argv[2])
    left = [count]

    def dying(function, after=False):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    if point == "analysis":  # inside the transaction that stores a result
        WorkStore.put_analysis = dying(WorkStore.put_analysis, after=True)
    elif point == "packing":  # while a shard is being written
        packing.sample_of = dying(packing.sample_of)
    elif point == "rename":
        pathlib.Path.replace = dying(pathlib.Path.replace)
    elif point == "fsync":
        shards.os.fsync = dying(os.fsync)
    elif point == "index":
        describing.write_index = rewriting.write_index = dying(describing.write_index)
    elif point == "answer":  # a model's answer has just been journalled
        Journal.put = dying(Journal.put, after=True)
    elif point == "shard":  # before a shard is written anew
        rewriting.write_files = dying(rewriting.write_files)
    elif point == "decided":  # a rewrite is decided, nothing is exchanged yet (a command's own first look is one call)
        rewriting.finish = dying(rewriting.finish)
    elif point == "unlink":
        pathlib.Path.unlink = dying(pathlib.Path.unlink)
    elif point == "forget":  # inside the transaction in which a removal is decided
        WorkStore.forget = dying(WorkStore.forget, after=True)
    elif point == "erase":  # the shards are exchanged, the private folder is not yet without the photograph
        rewriting.erase_private = dying(rewriting.erase_private)
    elif point == "receipt":
        rewriting.write_receipt = dying(rewriting.write_receipt, after=True)
    elif point in ("report", "describe"):
        describing.write_report = dying(describing.write_report)
    sys.argv = ["unif2ace-data", *sys.argv[sys.argv.index("--") + 1 :]]
    cli.main()


if __name__ == "__main__":
    main()
