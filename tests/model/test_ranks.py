"""Several devices: the same sequences, gradients and checkpoints as one, by two real processes over gloo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from unif2ace_data.errors import UserError
from unif2ace_model.config import Preset, load_preset
from unif2ace_model.data import Dataset, open_dataset
from unif2ace_model.mixture import Mixture, mixture_of
from unif2ace_model.ranks import ALONE, check_pieces, place_among_ranks, ranks_of
from unif2ace_model.run_folder import checkpoints
from unif2ace_model.text import learn_tokenizer
from unif2ace_model.train import train

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
AS_TORCHRUN = {"WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
RUN = ["-m", "unif2ace_model.cli", "train"]


@pytest.fixture(scope="module")
def dataset(asked: Path, preset: Preset) -> Dataset:
    return open_dataset(asked, preset.images, preset.features, quiet=True)


@pytest.fixture(scope="module")
def mixture(dataset: Dataset, preset: Preset) -> Mixture:
    text = learn_tokenizer([record.caption for record in dataset.of("train")], 300)
    return mixture_of(dataset, "train", text, preset)


def sequences(mixture: Mixture, step: int, pieces: int) -> list[tuple[object, ...]]:
    """What a step trains on, without padding and in any order."""
    found = []
    for batch in mixture.batch(step, pieces):
        for row in range(len(batch.text_BS)):
            kept = batch.valid_BS[row]
            ids = batch.text_BS[row][kept].tolist(), batch.labels_BS[row][kept].tolist()
            codes = batch.codes_BN[row].tolist(), batch.targets_BN[row].tolist()
            found.append((int(batch.group_B[row]), round(float(batch.rate_B[row]), 6), ids, codes))
    return sorted(found, key=repr)


@given(step=st.integers(0, 50), pieces=st.integers(1, 4))
def test_a_step_is_the_same_sequences_however_many_ranks_take_it(mixture: Mixture, step: int, pieces: int) -> None:
    assert sequences(mixture, step, pieces) == sequences(mixture, step, 1)


def test_more_ranks_than_a_step_has_sequences_are_refused(preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    check_pieces(preset, 2)
    with pytest.raises(UserError, match=r"4 \+ 2 sequences cannot be cut into 6 pieces \(3 ranks x optim.accumulate\)"):
        check_pieces(preset, 3)
    for name, value in AS_TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as quiet, ranks_of(preset):  # rank 0 says it
        pass
    assert quiet.value.code == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"RANK": ""}, "RANK not set"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "MASTER_ADDR, MASTER_PORT not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0"),
        ({"RANK": "3"}, "the rest does not go with it"),
        ({"MASTER_PORT": "x"}, "the rest does not go with it"),
    ],
)
def test_several_processes_without_torchrun_are_told_to_use_it(changed: dict[str, str], said: str) -> None:
    assert place_among_ranks({}) == place_among_ranks({"WORLD_SIZE": "1", "RANK": "0"}) == (0, 1)
    assert place_among_ranks(AS_TORCHRUN) == (1, 3)
    with pytest.raises(UserError, match=rf"{said}.*: start it with torchrun") as told:
        place_among_ranks(AS_TORCHRUN | changed)
    assert told.value.exit_code == 2


def test_a_world_size_that_was_left_in_the_shell_is_no_internal_error(asked: Path, tmp_path: Path) -> None:
    environment = ONE_THREAD | {"WORLD_SIZE": "2"}
    command = [sys.executable, *RUN, "--shards", str(asked), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "start it with torchrun" in done.stderr and not (tmp_path / "run").exists()


def test_one_process_is_a_rank_that_needs_no_other(preset: Preset) -> None:
    with ranks_of(preset) as ranks:
        assert ranks is ALONE and ranks.first
    assert ranks.summed({"und": 1.5}) == {"und": 1.5} and ranks.agreed(True) and not ranks.agreed(False)


def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def written(preset: Preset, file: Path, **optim: object) -> Path:
    changed = preset.model_copy(update={"optim": preset.optim.model_copy(update=optim)})
    file.write_text(yaml.safe_dump(changed.model_dump(mode="json")))
    return file


def far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Their distance in parts of their length: where a gradient is all rounding, Adam makes a whole step of it."""
    assert one.keys() == other.keys()
    difference = sum(float((one[name] - other[name]).double().square().sum()) for name in one)
    return float((difference / sum(float(one[name].double().square().sum()) for name in one)) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["bias", "loss"])
def test_two_ranks_have_the_gradients_of_one(asked: Path, preset: Preset, tmp_path: Path, balance: str) -> None:
    """With a balancing loss, which is a part's own, one device takes as many parts."""
    moe = preset.model.token_moe
    assert moe is not None
    balanced = {"token_moe": moe.model_copy(update={"balance": balance})}
    model = preset.model.model_copy(update={"dropout": 0.0, **balanced})
    chosen = preset.model_copy(update={"model": model})
    script = Path(__file__).with_name("rank_gradients.py")
    two = written(chosen, tmp_path / "two.yaml", accumulate=1)
    one = written(chosen, tmp_path / "one.yaml", accumulate=1 if balance == "bias" else 2)
    run(*TWO, script, two, asked, tmp_path / "two.safetensors")
    run(script, one, asked, tmp_path / "one.safetensors")
    together, alone = load_file(tmp_path / "two.safetensors"), load_file(tmp_path / "one.safetensors")
    missing = together.keys() - alone.keys()  # what nothing used on one device has a gradient of zero on two
    assert all(not together.pop(name).any() for name in missing)
    assert far(together, alone) < 2e-6
    assert max(float(g.abs().max()) for g in alone.values()) > 0.01


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(asked: Path, preset: Preset, tmp_path: Path) -> None:
    """What two ranks saved is taken up by one, and what one saved by two: the weights are those of one process."""
    assert preset.model.token_moe is not None
    balanced = preset.model.token_moe.model_copy(update={"balance": "bias"})  # a loss would be of each part by itself
    model = preset.model.model_copy(update={"dropout": 0.0, "token_moe": balanced})
    plain = preset.model_copy(update={"model": model})
    out, file = tmp_path / "run", written(plain, tmp_path / "preset.yaml", accumulate=1)
    train(asked, tmp_path / "alone", load_preset(str(file)), quiet=True)
    wanted = load_file(tmp_path / "alone" / "step-000008" / "model.safetensors")

    def goes_on(out: Path, *ranks: str) -> subprocess.CompletedProcess[str]:
        said = run(*ranks, *RUN, "--shards", asked, "--out", out, "--preset", file)
        assert apart(load_file(out / "step-000008" / "model.safetensors"), wanted) < 1e-5
        return said

    said = goes_on(out, *TWO)
    assert said.stdout.count("checkpoint   ") == 1 and "Traceback" not in said.stderr
    assert [c.name for c in checkpoints(out)] == ["step-000006", "step-000008"]
    assert (out / "samples" / "step-000005.png").is_file()
    for folder, ranks in ((out, []), (tmp_path / "alone", TWO)):  # what two have saved, by one, and the other way round
        shutil.rmtree(folder / "step-000008")
        goes_on(folder, *ranks)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8]


@pytest.mark.slow
def test_a_stop_is_taken_by_all_ranks_after_the_same_step(asked: Path, preset: Preset, tmp_path: Path) -> None:
    file, out = written(preset, tmp_path / "long.yaml", steps=100_000), tmp_path / "run"
    log = tmp_path / "said.txt"
    command = [sys.executable, *TWO, *RUN, "--shards", asked, "--out", out, "--preset", file]
    with log.open("wb") as said, subprocess.Popen(list(map(str, command)), env=ONE_THREAD, stderr=said) as torchrun:
        deadline = time.monotonic() + 240
        while not checkpoints(out) and time.monotonic() < deadline:
            time.sleep(0.2)
        torchrun.terminate()
        torchrun.wait(timeout=60)
    assert checkpoints(out), log.read_text()
    assert (checkpoints(out)[-1] / "optimizer" / ".metadata").is_file() and not list(out.glob(".*.partial"))
