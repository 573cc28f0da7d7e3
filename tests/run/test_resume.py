"""Kill it anywhere, run it again: the same bytes, and nothing that was finished is done twice."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from unif2ace_data.run.local import AHEAD, CHUNK

KILLS = [
    *[("analysis", n) for n in (1, 2, 3, 5, 6, 4, 2, 1)],
    *[("packing", n) for n in (1, 7, 12)],
    *[("fsync", n) for n in (1, 2)],
    *[("rename", n) for n in (1, 3, 5, 8)],
    *[("describe", 1), ("index", 1), ("index", 1)],
]
SETTINGS = ["--subjects", "adults", "--set", "duplicates.near_identical=false", "--set", "duplicates.perceptual=null"]


def build_command(raw: Path, out: Path, workers: int) -> list[str]:
    return ["build", "--src", str(raw), "--out", str(out), "--workers", str(workers), *SETTINGS]


def run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "unif2ace_data.cli", *arguments], check=True, capture_output=True, text=True)


def tree(out: Path) -> dict[str, str]:
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def uninterrupted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole") / "shards"
    run(build_command(photos, out, 1))
    return tree(out)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_kills_then_completion(
    photos: Path, tmp_path: Path, uninterrupted: dict[str, str], workers: int
) -> None:
    out = tmp_path / "shards"
    killer = Path(__file__).with_name("kill_at.py")
    killed = 0
    for point, count in KILLS:
        done = subprocess.run(
            [sys.executable, str(killer), point, str(count), "--", *build_command(photos, out, workers)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode in (-signal.SIGKILL, 0), done.stderr
        killed += done.returncode == -signal.SIGKILL
        if done.returncode == 0:  # nothing was left for this point to interrupt: start the next round afresh
            (out / "index.json").unlink()
            for shard in out.glob("*.tar"):
                shard.unlink()
    assert killed >= 18, "the kills did not hit"
    run(build_command(photos, out, workers))
    assert tree(out) == uninterrupted
    log = [json.loads(line) for line in (tmp_path / "shards.work" / "log.jsonl").read_text().splitlines()]
    analysed = Counter(source for event in log if event["event"] == "analysed" for source in event["sources"])
    in_flight = workers * AHEAD * CHUNK * sum(point == "analysis" for point, _ in KILLS)
    assert set(analysed.values()) == {1}, "a photo whose result was stored was analysed again"
    pending = [event["pending"] for event in log if event["event"] == "analyse"]
    assert pending[0] == 20 and pending == sorted(pending, reverse=True) and pending[-1] == 0
    assert sum(analysed.values()) <= 20 + in_flight


@pytest.mark.slow
def test_two_workers_and_another_order_give_the_same_bytes(
    photos: Path, tmp_path: Path, uninterrupted: dict[str, str]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in sorted(photos.iterdir(), reverse=True):  # another order of creation, another inode order
        (raw / path.name).write_bytes(path.read_bytes())
    run(build_command(raw, tmp_path / "shards", 2))
    assert tree(tmp_path / "shards") == uninterrupted
