"""The trainer on real photographs: N steps, a kill and N steps more are 2N steps; what cannot be trained is said."""

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
import torch

from unif2ace_data.errors import UserError
from unif2ace_model.checkpoint import load_model
from unif2ace_model.config import Preset
from unif2ace_model.fsq import Fsq, FsqConfig, save_fsq
from unif2ace_model.run_folder import begin, checkpoints, placed
from unif2ace_model.train import train
from unif2ace_model.trained import load_trained, tokenizer_of

STEPS = 8


def weights(run: Path) -> bytes:
    return (checkpoints(run)[-1] / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_killed_run_ends_in_the_bytes_of_one_that_was_not(asked: Path, preset: Preset, tmp_path: Path) -> None:
    done = train(asked, tmp_path / "whole", preset, quiet=True)
    assert (done.step, done.stopped) == (STEPS, False)
    train(asked, tmp_path / "killed", preset, quiet=True)
    shutil.rmtree(tmp_path / "killed" / f"step-{STEPS:06d}")  # as a kill after step 7 leaves it
    train(asked, tmp_path / "killed", preset, quiet=True)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    whole = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    for one, other in zip(lines, whole, strict=True):
        assert (one["loss"], one["und"], one["router"]) == (other["loss"], other["und"], other["router"])
    assert {"und", "gen_mask", "gen_score", "balance", "gradient", "tokens_per_second"} <= set(lines[0])
    assert len(lines[0]["router"]["und"]["max_violation"]) == 2
    assert [len(load) for load in lines[0]["router"]["gen"]["load"]] == [8, 8]
    assert [sum(load) for load in lines[0]["router"]["gen"]["load"]] == pytest.approx([1, 1], abs=1e-3)
    assert len(lines[0]["router"]["gen"]["sequence_experts"]) == 2
    assert (tmp_path / "whole" / "samples" / "step-000005.png").is_file()
    assert len(checkpoints(tmp_path / "whole")) == 2
    assert load_model(checkpoints(tmp_path / "whole")[-1]).config.face_dim == 128


@pytest.mark.slow
def test_sigterm_saves_and_the_same_call_goes_on(asked: Path, preset: Preset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = (
        "import sys; from pathlib import Path; from unif2ace_model.config import Preset; "
        "from unif2ace_model.train import train; "
        "print(train(Path(sys.argv[1]), Path(sys.argv[2]), Preset.model_validate_json(sys.argv[3])).stopped)"
    )
    longer = preset.model_copy(
        update={
            "optim": preset.optim.model_copy(update={"steps": 100_000}),
            "run": preset.run.model_copy(update={"save_every": 100_000, "sample_every": 0}),
        }
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(asked), str(out), longer.model_dump_json()], stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").is_file() or not (out / "metrics.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert said.decode().strip() == "True"
    assert len(checkpoints(out)) == 1


def test_accumulation_changes_no_gradient_of_the_tasks(asked: Path, preset: Preset, tmp_path: Path) -> None:
    """Sums are divided by the counts of the whole step. The balance loss is not linear in the batch: left out here."""
    plain = preset.model.model_copy(update={"dropout": 0.0, "token_moe": None})
    last = []
    for parts in (1, 2):
        optim = preset.optim.model_copy(update={"accumulate": parts, "steps": 1})
        run = preset.run.model_copy(update={"sample_every": 0, "log_every": 1})
        chosen = preset.model_copy(update={"model": plain, "optim": optim, "run": run})
        last.append(train(asked, tmp_path / str(parts), chosen, quiet=True).last)
    for name in ("loss", "und", "gen_mask", "gen_score", "gradient"):
        assert last[0][name] == pytest.approx(last[1][name], rel=1e-4)


def test_a_loss_that_is_no_number_stops_and_names_the_batch(asked: Path, preset: Preset, tmp_path: Path) -> None:
    wild = preset.model_copy(update={"optim": preset.optim.model_copy(update={"lr": 1e30, "warmup": 0})})
    with pytest.raises(UserError, match=r"step \d: .*; there is no checkpoint yet\. The batch \(samples [0-9a-f]{32}"):
        train(asked, tmp_path / "run", wild, quiet=True)
    (file,) = (tmp_path / "run").glob("not-finite-*.json")
    assert set(json.loads(file.read_text())) == {"step", "values", "und", "gen"}


def test_what_cannot_be_trained_is_said(asked: Path, built: Path, preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no questions: run `unif2ace-data qa-gen`"):
        train(built, tmp_path / "a", preset, quiet=True)
    with pytest.raises(UserError, match="no dataset"):
        train(tmp_path / "nowhere", tmp_path / "b", preset, quiet=True)
    train(
        asked, tmp_path / "c", preset.model_copy(update={"optim": preset.optim.model_copy(update={"steps": 1})}), True
    )
    with pytest.raises(UserError, match=r"other settings \(optim\.steps\)"):
        train(asked, tmp_path / "c", preset, quiet=True)
    tokens = preset.model.model_copy(update={"image_tokens": 64})
    images = preset.images.model_copy(update={"tokenizer": ""})
    with pytest.raises(UserError, match=r"images\.tokenizer is empty: `unif2ace-model tokenizer"):
        train(asked, tmp_path / "e", preset.model_copy(update={"images": images}), quiet=True)
    assert not (tmp_path / "e").exists()
    with pytest.raises(UserError, match="makes 16 codes"):
        train(asked, tmp_path / "d", preset.model_copy(update={"model": tokens}), quiet=True)


def test_a_refused_dataset_changes_nothing_of_a_run(asked: Path, people: Path, preset: Preset, tmp_path: Path) -> None:
    short = preset.model_copy(update={"optim": preset.optim.model_copy(update={"steps": 1})})
    train(asked, tmp_path / "run", short, quiet=True)
    (tmp_path / "run" / "faces.yaml").write_text("engine: embedded  # of the run's own dataset\n")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    with pytest.raises(UserError, match="was trained on another dataset"):
        train(people, tmp_path / "run", short, quiet=True)
    assert {p: p.read_bytes() for p in before} == before


def test_one_process_at_a_time_trains_in_a_folder(asked: Path, preset: Preset, tmp_path: Path) -> None:
    short = preset.model_copy(update={"optim": preset.optim.model_copy(update={"steps": 1})})
    with begin(tmp_path / "run", placed(short)), pytest.raises(UserError, match="another command is running on"):
        train(asked, tmp_path / "run", short, quiet=True)
    left = tmp_path / "run" / ".step-000001.77.partial"  # of a process that was killed while it saved
    left.mkdir()
    train(asked, tmp_path / "run", short, quiet=True)
    assert not left.exists() and checkpoints(tmp_path / "run")


def test_a_run_is_used_from_any_working_directory(
    asked: Path, preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, _, folder = preset.images.tokenizer.partition(":")
    shutil.copytree(folder, tmp_path / "tok")
    monkeypatch.chdir(tmp_path)
    images = preset.images.model_copy(update={"tokenizer": f"{kind}:tok"})
    optim = preset.optim.model_copy(update={"steps": 1})
    train(asked, Path("run"), preset.model_copy(update={"images": images, "optim": optim}), quiet=True)
    monkeypatch.chdir("/")
    assert tokenizer_of(load_trained(tmp_path / "run")).codebook_size == 8192


def test_other_weights_in_the_place_of_a_run_s_are_told(asked: Path, preset: Preset, tmp_path: Path) -> None:
    folder = tmp_path / "tok"
    shutil.copytree(preset.images.tokenizer.partition(":")[2], folder)
    images = preset.images.model_copy(update={"tokenizer": f"fsq:{folder}"})
    short = preset.model_copy(update={"images": images, "optim": preset.optim.model_copy(update={"steps": 1})})
    train(asked, tmp_path / "run", short, quiet=True)
    torch.manual_seed(1)
    save_fsq(Fsq(FsqConfig(width=16)), folder)
    with pytest.raises(UserError, match=r"learnt with other weights of images\.tokenizer"):
        train(asked, tmp_path / "run", short, quiet=True)
    with pytest.raises(UserError, match=r"learnt with other weights of images\.tokenizer"):
        tokenizer_of(load_trained(tmp_path / "run"))


def test_a_step_in_which_nothing_is_masked_is_a_step(asked: Path, preset: Preset, tmp_path: Path) -> None:
    """With one picture a step it comes about once in as many steps as a picture has codes."""
    model = preset.model.model_copy(update={"token_moe": None, "image_tokens": 4})
    images = preset.images.model_copy(update={"size": 16})
    optim = preset.optim.model_copy(update={"steps": 30, "und_batch": 0, "gen_batch": 1, "accumulate": 1})
    run = preset.run.model_copy(update={"sample_every": 0, "log_every": 1, "save_every": 100})
    chosen = preset.model_copy(update={"model": model, "images": images, "optim": optim, "run": run})
    train(asked, tmp_path / "run", chosen, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 30 and any("gen_mask" not in line for line in lines)


def test_the_latest_checkpoint_is_that_of_the_highest_step(tmp_path: Path) -> None:
    for step in (999_000, 1_000_000, 2_000):
        folder = tmp_path / f"step-{step:06d}"
        folder.mkdir()
        (folder / "state.json").write_text("{}")
    assert checkpoints(tmp_path)[-1].name == "step-1000000"
