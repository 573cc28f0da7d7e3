"""Runs command lines in forks of one process that has imported what they need: each starts clean, and at once.

A line on stdin, {"arguments", "folder", "env", "before"}, gives a line on stdout, {"code", "out", "err"}.
The Hub's client reads most of its environment when it is imported, so there is one such process for each Hub.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback

import huggingface_hub._snapshot_download
import huggingface_hub.hf_api  # noqa: F401  the slow imports, once

import unif2ace_data.release.hub_client as client
from unif2ace_data import cli
from unif2ace_data.release import hub, hub_pull

assert hub and hub_pull
client.WAITS = hub.WAITS = (0.05, 0.05, 0.05, 0.05)  # the same number of tries, in less time


def run(task: dict[str, object]) -> int:
    os.chdir(str(task["folder"]))
    os.environ.update(dict(task["env"]))  # type: ignore[call-overload]
    sys.argv = ["unif2ace-data", *list(task["arguments"])]  # type: ignore[call-overload]
    try:
        exec(str(task["before"]), {})
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


def in_a_fork(task: dict[str, object]) -> dict[str, object]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = run(task)
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return {"code": status, "out": out.read().decode(), "err": err.read().decode()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(in_a_fork(json.loads(line))), flush=True)
