"""Running a command line: errors in one line, interrupts that unwind in order, answers as text or as JSON."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from unif2ace_data.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

PATIENCE = 3.0  # seconds that unwinding may take
INTERRUPTED = "interrupted; finished work is kept, run the same command to go on"


def interrupted(program: str, signum: int, frame: object) -> None:
    """The first Ctrl-C unwinds, so that everything is closed in order; a second one ends the process where it stands.

    So does an alarm, should the exception have met a lock that somebody holds: Ray has several.
    """
    at_once = functools.partial(ended_at_once, program)
    signal.signal(signal.SIGINT, at_once)
    signal.signal(signal.SIGALRM, at_once)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    raise KeyboardInterrupt


def ended_at_once(program: str, signum: int, frame: object) -> None:
    """Nothing is lost that a kill would not lose, and workers end when their driver is gone (run/local.py)."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{program}: {INTERRUPTED}\n".encode())
    os._exit(130)


@contextlib.contextmanager
def told_when_interrupted(program: str) -> Iterator[None]:
    """One line and exit code 130, whatever became of the KeyboardInterrupt on its way.

    Typer makes an exit of it, and C code that is being imported an ImportError.
    """
    try:
        yield
    except BaseException:
        if getattr(signal.getsignal(signal.SIGINT), "func", None) is not ended_at_once:  # nobody pressed it
            raise
        print(f"{program}: {INTERRUPTED}", file=sys.stderr)
        see_to_the_end()
        raise SystemExit(130) from None


def see_to_the_end() -> None:
    """A Ctrl-C while Python itself ends would take the exit code; and should that end not come, it is made."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    last_resort = threading.Timer(10, os._exit, (130,))
    last_resort.daemon = True
    last_resort.start()


def run(app: typer.Typer, program: str) -> None:
    """Entry point of a program: errors in one line, never a traceback of ours for what a user can mend."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored (nohup)
        signal.signal(signal.SIGINT, functools.partial(interrupted, program))
    try:
        with told_when_interrupted(program):
            app()
    except UserError as error:
        print(f"{program}: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (OSError, sqlite3.OperationalError) as error:  # a full disk, a read-only folder, a file taken away
        print(f"{program}: {error}. Finished work is kept; mend this and run the command again", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # a bug of ours: one line for the user, the traceback where it can be sent from
        with tempfile.NamedTemporaryFile("w", prefix="unif2ace-error-", suffix=".log", delete=False) as file:
            file.write(traceback.format_exc())
        path = Path(file.name)
        print(
            f"{program}: internal error ({type(error).__name__}: {error}). Finished work is kept. "
            f"Please report it with {path}",
            file=sys.stderr,
        )
        sys.exit(1)


def emit(answer: Any, as_json: bool, show: Callable[[], object]) -> None:
    if as_json:
        import orjson

        sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    else:
        show()
