"""The local executor: nothing precious in flight; a worker's death costs the input that kills, nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.run.local import map_chunks
from unif2ace_data.run.store import WorkStore


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


def large(chunk: list[int]) -> list[tuple[int, bytes]]:
    time.sleep(0.3)
    return [(os.getpid(), bytes([i]) * 4_000_000) for i in chunk]  # more than a line holds at once


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_while_it_hands_in_its_result_stops_nobody(victim: int) -> None:
    """While nobody reads, each is in the middle of writing: what it wrote is half a result."""
    came = Counter[int]()
    with closing(map_chunks(large, range(12), 2, never, 2)) as results, alarm(60):
        came.update(data[0] for _, data in next(results))
        worker = workers_of(os.getpid())[victim]
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {worker.pid}"])
        sum(range(150_000_000))  # holds the interpreter for a second or more: no thread of this process reads
        killer.wait()
        for chunk in results:
            came.update(data[0] for _, data in chunk)
    assert came == Counter(range(12))


def never(item: int, why: str) -> tuple[int, bytes]:
    raise AssertionError(f"{item} is blamed: {why}")


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """What hangs ends as an error."""

    def ring(signum: int, frame: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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


# ------------------------------------------------------------------ Ctrl-C in a real build, on a terminal


@pytest.fixture(scope="module")
def many(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 photographs that differ in their bytes: more work than a second or two can do."""
    raw = tmp_path_factory.mktemp("many") / "raw"
    raw.mkdir()
    for number in range(3):
        for path in sorted(photos.iterdir()):
            (raw / f"{number}-{path.name}").write_bytes(path.read_bytes() + bytes([number]))
    return raw


@dataclass
class Ended:
    code: int
    seconds: float  # from the first Ctrl-C to the end
    screen: str
    left_alive: list[psutil.Process]


def interrupted_build(raw: Path, out: Path, pauses: list[float], early: bool = False) -> Ended:
    """Start a build on a terminal of its own, press Ctrl-C once photos are finished (`early`: while workers start).

    pauses: seconds before each further Ctrl-C.
    """
    command = [sys.executable, "-m", "unif2ace_data.cli", "build", "--src", str(raw), "--out", str(out)]
    command += ["--workers", "2", "--subjects", "adults"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    driver, screen = psutil.Process(pid), bytearray()
    reader = threading.Thread(target=read_terminal, args=(terminal, screen))
    reader.start()
    family: list[psutil.Process] = []
    try:
        log = out.with_name(out.name + ".work") / "log.jsonl"
        deadline = time.monotonic() + 60
        while not (workers_of(pid) if early else log.exists() and '"analysed"' in log.read_text()):
            assert time.monotonic() < deadline and driver.status() != psutil.STATUS_ZOMBIE, screen.decode()
            time.sleep(0.02)
        family = driver.children(recursive=True)
        started = time.monotonic()
        for pause in (0, *pauses):
            time.sleep(pause)
            os.write(terminal, b"\x03")  # the terminal sends SIGINT to the driver and to every worker
        code = driver.wait(timeout=15)
        seconds = time.monotonic() - started
        _, alive = psutil.wait_procs(family, timeout=5)
    finally:
        for process in [p for p in (driver, *family) if p.is_running()]:
            process.kill()
        reader.join(timeout=5)
        os.close(terminal)
    assert code is not None
    return Ended(code, seconds, screen.decode(), alive)


def read_terminal(terminal: int, screen: bytearray) -> None:
    with contextlib.suppress(OSError):  # Linux: EIO when the last process has left the terminal
        while data := os.read(terminal, 4096):
            screen.extend(data)


def workers_of(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children(recursive=True)
    alive = [
        p for p in children if p.status() != psutil.STATUS_ZOMBIE
    ]  # other tests in this process may have left some
    return [p for p in alive if "spawn_main" in " ".join(p.cmdline())]


@pytest.mark.parametrize(
    ("pauses", "early"),
    [
        ([], False),
        ([0.02], False),
        *(pytest.param(p, e, marks=pytest.mark.slow) for p in ([0.1], [0.02] * 5) for e in (False, True)),
        pytest.param([], True, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_a_build_within_seconds_and_leaves_no_worker(
    many: Path, tmp_path: Path, pauses: list[float], early: bool
) -> None:
    ended = interrupted_build(many, tmp_path / "shards", pauses, early)
    assert ended.code == 130 and ended.seconds < 5 and ended.left_alive == []
    said = [line for line in ended.screen.splitlines() if line.strip("^C")]  # the terminal shows keys as ^C
    assert said[-1] == "unif2ace-data: interrupted; finished work is kept, run the same command to go on"
    assert "Traceback" not in ended.screen and "leaked" not in ended.screen


@pytest.mark.slow
def test_after_ctrl_c_the_next_run_goes_on_where_it_was(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    interrupted_build(many, out, [0.02])
    store = WorkStore(out.with_name("shards.work"))
    finished = store.db.execute("select count(*) from analyses").fetchone()[0]
    store.close()
    assert 0 < finished < 60
    command = [sys.executable, "-m", "unif2ace_data.cli", "build", "--src", str(many), "--out", str(out), "--json"]
    again = subprocess.run([*command, "--subjects", "adults"], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["analysed"] == 60 - finished
