"""The local executor: nothing precious in flight; a worker's death costs the input that kills, nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from unif2ace_data.run.local import map_chunks
from unif2ace_data.schema import UserError


def double(chunk: list[int]) -> list[int]:
    return [2 * i for i in chunk]


def die_on_13(chunk: list[int]) -> list[int]:
    if 13 in chunk:
        os.kill(os.getpid(), signal.SIGKILL)
    return [2 * i for i in chunk]


def refuse(chunk: list[int]) -> list[int]:
    raise UserError("no weights", 2)


def lost(item: int, why: str) -> int:
    return -item


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_comes_back_once(workers: int) -> None:
    results = [r for chunk in map_chunks(double, range(57), workers, lost) for r in chunk]
    assert sorted(results) == [2 * i for i in range(57)]


def test_nothing_to_do_is_no_work() -> None:
    assert list(map_chunks(double, [], 2, lost)) == []


@pytest.mark.slow
def test_a_killer_input_is_given_up_and_nothing_else() -> None:
    results = [r for chunk in map_chunks(die_on_13, range(30), 2, lost) for r in chunk]
    assert sorted(results) == sorted([2 * i for i in range(30) if i != 13] + [-13])


def test_what_no_input_causes_ends_the_run_with_its_exit_code() -> None:
    with pytest.raises(UserError, match="no weights") as caught:
        list(map_chunks(refuse, range(8), 1, lost))
    assert caught.value.exit_code == 2


SLEEPER = """
import sys, time
sys.path.insert(0, {tests!r})
from unif2ace_data.run.local import map_chunks
from test_local_sleep import sleep
if __name__ == "__main__":
    list(map_chunks(sleep, range(100), 2, None))
"""


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_driver(tmp_path: Path) -> None:
    (tmp_path / "test_local_sleep.py").write_text(
        "import time\ndef sleep(chunk):\n    time.sleep(60)\n    return chunk\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(SLEEPER.format(tests=str(tmp_path)))
    driver = subprocess.Popen([sys.executable, str(script)])
    try:
        workers = wait_for_workers(driver.pid)
    finally:
        driver.kill()
        driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def wait_for_workers(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = [p for p in psutil.Process(pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
        if len(found) >= 2:
            time.sleep(1)  # let them start watching their parent
            return found
        time.sleep(0.1)
    raise AssertionError("the driver started no workers")
