"""The training of an FSQ tokenizer on real crops: what it writes, what it learns from, what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from labelled import write_labelled

from unif2ace_data.errors import UserError
from unif2ace_model.fsq import load_fsq
from unif2ace_model.tokenizer_training import psnr_of, tokenizer_settings, train_tokenizer

QUICK = ["size=16", "shift=2", "steps=150", "batch=4", "fsq.width=8", "fsq.downscale=4", "fsq.levels=[8,8,4]"]
PROGRAM = str(Path(sys.executable).parent / "unif2ace-model")


@pytest.fixture(scope="module")
def faces(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faces") / "shards"
    return write_labelled(built, out, lambda number, person: {}, {"train": 12, "validation": 6, "test": 4})


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "tok"
    train_tokenizer(faces, out, tokenizer_settings(QUICK), quiet=True)
    return out


def test_a_tokenizer_learns_and_says_what_it_keeps_of_every_split(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["held_out"] == "validation"
    assert {split: kept["pictures"] for split, kept in metrics["splits"].items()} == {
        "train": 12,
        "validation": 6,
        "test": 4,
    }
    assert metrics["curve"][-1]["loss"] < 0.7 * metrics["curve"][0]["loss"]
    assert all(1 < kept["codes_used"] <= 256 for kept in metrics["splits"].values())
    assert sorted(path.name for path in trained.parent.iterdir()) == ["tok"]
    assert load_fsq(trained).codebook_size == metrics["codebook"] == 256
    assert f"| test | 4 | {metrics['splits']['test']['psnr']:.2f} |" in (trained / "README.md").read_text()


@pytest.mark.slow
def test_held_out_faces_and_a_second_run_change_no_weight(built: Path, trained: Path, tmp_path: Path) -> None:
    counts = {"train": 12, "validation": 2, "test": 0}
    other = write_labelled(built, tmp_path / "other", lambda number, person: {}, counts)
    train_tokenizer(other, tmp_path / "tok", tokenizer_settings(QUICK), quiet=True)
    assert (tmp_path / "tok" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_psnr_is_that_of_a_constant_error() -> None:
    pixels = torch.zeros(2, 3, 4, 4)
    shown = pixels + torch.tensor([0.5, 0.02])[:, None, None, None]
    expected = [20 * math.log10(2 / 0.5), 20 * math.log10(2 / 0.02)]
    assert psnr_of(shown, pixels).tolist() == pytest.approx(expected, abs=1e-4)


def test_the_same_call_does_nothing_and_another_is_refused(faces: Path, trained: Path) -> None:
    before = (trained / "model.safetensors").stat().st_mtime_ns
    again = train_tokenizer(faces, trained, tokenizer_settings(QUICK), quiet=True)
    assert again == json.loads((trained / "metrics.json").read_text())
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(
        UserError, match=r"holds a tokenizer with other settings \(seed\); models may rest on its codes"
    ):
        train_tokenizer(faces, trained, tokenizer_settings([*QUICK, "seed=1"]), quiet=True)
    with pytest.raises(UserError, match="not empty and no tokenizer of this command"):
        train_tokenizer(faces, faces, tokenizer_settings(QUICK), quiet=True)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("size=20", "size 20 is not a multiple of fsq.downscale 8"),
        ("fsq.downscale=6", "fsq: downscale 6 is not a power of 2"),
        ("fsq.levels=[]", "at least one factor"),
        ("speed=3", "speed: Extra inputs are not permitted"),
        ("steps", "write KEY=VALUE"),
    ],
)
def test_settings_that_do_not_hold(setting: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        tokenizer_settings([setting])
    assert said in caught.value.message and caught.value.exit_code == 2


def test_what_cannot_be_learnt_from_is_said(built: Path, faces: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset"):
        train_tokenizer(tmp_path / "nowhere", tmp_path / "tok", tokenizer_settings(QUICK), quiet=True)
    only = write_labelled(built, tmp_path / "only", lambda number, person: {}, {"test": 4})
    with pytest.raises(UserError, match="no samples in 'train'"):
        train_tokenizer(only, tmp_path / "tok", tokenizer_settings(QUICK), quiet=True)
    old = tmp_path / "old"
    shutil.copytree(faces, old)
    index = json.loads((old / "index.json").read_text())
    (old / "index.json").write_text(json.dumps(index | {"schema_version": "0.9"}))
    with pytest.raises(UserError, match=r"of schema 0\.9"):
        train_tokenizer(old, tmp_path / "tok", tokenizer_settings(QUICK), quiet=True)
    with pytest.raises(UserError, match="nothing is written"):
        train_tokenizer(faces, tmp_path / "tok", tokenizer_settings([*QUICK, "lr=1e30"]), quiet=True)
    assert not (tmp_path / "tok").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        train_tokenizer(faces, tmp_path / "file" / "tok", tokenizer_settings(QUICK), quiet=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_nothing(faces: Path, tmp_path: Path, number: signal.Signals) -> None:
    changes = [part for setting in [*QUICK, "steps=1000000"] for part in ("--set", setting)]
    process = subprocess.Popen(
        [PROGRAM, "tokenizer", "--shards", str(faces), "--out", str(tmp_path / "tok"), *changes],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 60
    while "steps  loss" not in process.stderr.readline():
        assert process.poll() is None and time.monotonic() < deadline
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode != 0 and not list(tmp_path.iterdir())
