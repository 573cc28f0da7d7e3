"""The commands that train a model and use it, through the console script: what they write, print and refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAMS = Path(sys.executable).parent
SPLITS = ["--set", "splits.train=0.7", "--set", "splits.validation=0.1", "--set", "splits.test=0.2"]
TINY = [
    "images.tokenizer=train:20", "images.size=32", "images.views=2", "model.image_tokens=16", "model.dim=32",
    "model.layers=2", "model.ffn_dim=64", "model.token_moe.expert_dim=16", "text.tokenizer=train:400",
    "optim.und_batch=4", "optim.gen_batch=2", "run.sample_every=0",
]  # fmt: skip


def program(*arguments: str, cwd: Path, name: str = "unif2ace-model") -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def changes(*more: str) -> list[str]:
    return [part for setting in (*TINY, *more) for part in ("--set", setting)]


@pytest.fixture(scope="module")
def home(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw/, shards/ with questions and a run of thirty steps. Read only: copy before changing anything."""
    folder = tmp_path_factory.mktemp("commands")
    shutil.copytree(examples, folder / "raw")
    built = program("build", "--src", "raw", "--subjects", "adults", *SPLITS, cwd=folder, name="unif2ace-data")
    assert built.returncode == 0, built.stderr
    assert program("qa-gen", cwd=folder, name="unif2ace-data").returncode == 0
    done = program("train", *changes("optim.steps=30", "optim.warmup=5"), cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "train.txt").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("command", ["train"])
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    done = program(command, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Example:" in done.stdout


# ------------------------------------------------------------------ train


def test_train_alone_makes_all_that_it_needs_and_says_what_comes_next(home: Path) -> None:
    """Neither --shards nor --preset nor --out nor a tokenizer: the run's own is trained first, and its crops are known."""
    names = {path.name for path in (home / "run").iterdir()}
    assert {"image_tokenizer", "tokenizer.json", "faces.yaml", "preset.yaml", "metrics.jsonl", "step-000030"} <= names
    metrics = json.loads((home / "run" / "image_tokenizer" / "metrics.json").read_text())
    assert metrics["settings"]["steps"] == 20 and metrics["settings"]["fsq"]["downscale"] == 8
    said = (home / "train.txt").read_text()
    assert "30 of 30" in said and "tokens/s" in said and "run/step-000030" in said and "unif2ace-model eval" in said


def test_a_finished_run_is_told_again_and_not_trained_again(home: Path) -> None:
    before = (home / "run" / "step-000030" / "model.safetensors").stat().st_mtime_ns
    done = program("train", *changes("optim.steps=30", "optim.warmup=5"), "--json", cwd=home)
    answer = json.loads(done.stdout)
    assert (answer["step"], answer["steps"], answer["stopped"]) == (30, 30, False) and answer["last"]["step"] == 30
    assert answer["checkpoint"] == "run/step-000030" and done.stderr == ""
    assert (home / "run" / "step-000030" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    tokenizer = f"images.tokenizer=fsq:{home / 'run' / 'image_tokenizer'}"
    command = ["train", "--shards", str(home / "shards"), *changes("optim.steps=100000", "run.log_every=1", tokenizer)]
    steps = []
    for _ in range(2):
        process = subprocess.Popen(
            [str(PROGRAMS / "unif2ace-model"), *command], cwd=tmp_path, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
        done = steps[-1] if steps else 0
        while not metrics.is_file() or len(metrics.read_text().splitlines()) <= done:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "saved; run the same command to go on" in said.splitlines()[-1]
        steps.append(int(said.splitlines()[-1].split("step ")[1].split(",")[0]))
    assert 0 < steps[0] < steps[1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--preset", "train-huge"], 2, "no preset 'train-huge': give a file, or one of train-1p8b"),
        (["--set", "optim.speed=3"], 2, "optim.speed"),
        (["--set", "optim.lr=fast"], 2, "optim.lr"),
        (["--shards", "nowhere"], 2, "no dataset at nowhere"),
        (["--set", "images.tokenizer=train:many"], 2, "write train, or train:STEPS"),
        (["--set", "model.image_tokens=60"], 2, "no tokenizer makes model.image_tokens=60 codes of images.size=64"),
        (["--set", "images.size=72", "--set", "model.image_tokens=36"], 2, "downscale 12 is not a power of 2"),
        (["--set", "images.tokenizer=fsq:nowhere"], 2, "nowhere"),
        (["--out", "raw"], 2, "raw is not empty and no run of this trainer"),
        (["--set", "optim.steps=31"], 2, "run is a run with other settings"),
    ],
)  # fmt: skip
def test_what_train_refuses(home: Path, arguments: list[str], code: int, words: str) -> None:
    before = sorted(home.iterdir())
    done = program("train", *arguments, cwd=home)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr
    assert sorted(home.iterdir()) == before


def test_questions_are_missed_before_a_tokenizer_is_trained(built: Path, tmp_path: Path) -> None:
    done = program("train", "--shards", str(built), cwd=tmp_path)
    assert done.returncode == 1 and "run `unif2ace-data qa-gen` on it first" in done.stderr
    assert not (tmp_path / "run").exists()
