"""The folder of a training run: what was asked, the text tokenizer, checkpoints, metrics. See train.py for its layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from unif2ace_data.errors import UserError
from unif2ace_data.run.store import lock_folder
from unif2ace_model.checkpoint import load_weights, save_weights
from unif2ace_model.config import Preset, load_preset
from unif2ace_model.data import Dataset, same_encoders
from unif2ace_model.model import UniF2ace
from unif2ace_model.ranks import ALONE, Ranks, load_spread, load_whole, save_spread, whole_weights
from unif2ace_model.text import FILE as TEXT_FILE
from unif2ace_model.text import TextTokenizer, learn_tokenizer, load_tokenizer

PRESET, METRICS, STATE, TRAINER = "preset.yaml", "metrics.jsonl", "state.json", "trainer.pt"
SPREAD = "optimizer"  # beside it, the optimizer's state of several ranks (ranks.py)
LOCK = "lock"
MAY_CHANGE = {"log_every", "save_every", "keep", "sample_every"}  # of `run`: they decide no weight


@contextmanager
def begin(out: Path, preset: Preset) -> Iterator[None]:
    """Make the run's folder, or check that it is of the same preset; it is this process's until the end.

    Raises UserError: other settings, a folder of something else, another process that trains in it.
    """
    file = out / PRESET
    if file.is_file():
        before = load_preset(str(file))
        different = [key for key in differences(before.model_dump(), preset.model_dump()) if key[:2] not in allowed()]
        if different:
            named = ", ".join(".".join(key) for key in different[:4])
            raise UserError(f"{out} is a run with other settings ({named}): go on with those, or give another --out", 2)
    elif out.exists() and any(path.name != LOCK for path in out.iterdir()):
        raise UserError(f"{out} is not empty and no run of this trainer: give another --out", 2)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(out)
        for left in out.glob(".*.partial"):  # of a call that was killed: the lock says that nobody writes here
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        partial = out / f".{PRESET}.partial"
        partial.write_text(yaml.safe_dump(preset.model_dump(mode="json"), sort_keys=False))
        partial.rename(file)
    except OSError as error:
        raise UserError(f"the run cannot be written to {out} ({error.strerror})") from None
    with lock:
        yield


def placed(preset: Preset) -> Preset:
    """The preset with its folders and files as absolute paths: a run is used from any working directory."""
    kind, separator, place = preset.images.tokenizer.partition(":")
    path, mark, inside = place.partition("#")
    clip, equals, weights = preset.features.clip.partition("=")
    start, start_separator, body = preset.start.partition(":")
    return preset.model_copy(
        update={
            "images": preset.images.model_copy(
                update={"tokenizer": f"{kind}{separator}{absolute(path)}{mark}{inside}"}
            ),
            "start": f"{start}{start_separator}{absolute(body)}",
            "text": preset.text.model_copy(update={"tokenizer": absolute(preset.text.tokenizer)}),
            "features": preset.features.model_copy(
                update={"clip": f"{clip}{equals}{absolute(weights)}" if equals else absolute(clip)}
            ),
        }
    )


def absolute(place: str) -> str:
    """A folder or file that is there as an absolute path; any other name (a pack, a repository of the Hub) as it is."""
    path = Path(place).expanduser()
    return str(path.resolve()) if place and path.exists() else place


def allowed() -> set[tuple[str, ...]]:
    return {("run", key) for key in MAY_CHANGE}


def differences(one: Any, other: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            yield from differences(one[key], other.get(key), (*path, key))
    elif json.dumps(one) != json.dumps(other):
        yield path


def text_tokenizer(out: Path, dataset: Dataset, preset: Preset) -> TextTokenizer:
    """The run's own, or what the preset names; one that is learnt sees the training split alone."""
    if (out / TEXT_FILE).is_file():
        return load_tokenizer(str(out))
    kind, _, size = preset.text.tokenizer.partition(":")
    if kind == "train":
        if not size.isdigit():
            raise UserError(f"text.tokenizer {preset.text.tokenizer!r}: write train:SIZE, for example train:4096", 2)
        records = dataset.of("train")
        texts = [r.caption for r in records]
        texts += [text for r in records for qa in r.qa for text in (qa["question"], qa["answer"])]
        text = learn_tokenizer(texts, int(size))
    else:
        text = load_tokenizer(preset.text.tokenizer)
    text.save(out)
    return text


# ------------------------------------------------------------------ checkpoints and logs


def checkpoints(out: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    found = [path for path in out.glob("step-*") if (path / STATE).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def latest(out: Path) -> Path:
    """Raises UserError where there is none."""
    found = checkpoints(out)
    if not found:
        raise UserError(f"no checkpoint in {out}: `unif2ace-model train --out {out}` writes them", 2)
    return found[-1]


def save(
    out: Path,
    step: int,
    model: UniF2ace,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    preset: Preset,
    ranks: Ranks = ALONE,
) -> None:
    """Write a checkpoint whole or not at all, and remove those beyond `run.keep`. All ranks call it."""
    tensors = whole_weights(model, ranks)
    try:
        with ranks.folder(out / f"step-{step:06d}") as folder:
            if ranks.world > 1:
                save_spread(model, optimizer, folder / SPREAD)
            if ranks.first:
                save_weights(model.config, tensors, folder)
                chance = {"torch": torch.get_rng_state()}
                if torch.cuda.is_available():
                    chance["cuda"] = torch.cuda.get_rng_state()
                whole = {} if ranks.world > 1 else {"optimizer": optimizer.state_dict()}
                torch.save({**whole, "chance": chance}, folder / TRAINER)
                read = {"tokenizer", *preset.model.guests}
                encoders = {name: revision for name, revision in dataset.encoders.items() if name in read}
                state = {"step": step, "dataset": dataset.root_sha256, "encoders": encoders}
                (folder / STATE).write_text(json.dumps(state) + "\n")
    except OSError as error:
        raise UserError(f"checkpoint of step {step} cannot be written to {out} ({error.strerror})") from None
    if ranks.first:
        for old in checkpoints(out)[: -preset.run.keep]:
            shutil.rmtree(old)


def state_of(folder: Path) -> dict[str, Any]:
    """Step and dataset of a checkpoint, and the revisions of what encoded it. Raises UserError where the file is broken."""
    try:
        state = json.loads((folder / STATE).read_text())
        encoders = {str(name): str(revision) for name, revision in state["encoders"].items()}
        return {"step": int(state["step"]), "dataset": str(state["dataset"]), "encoders": encoders}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / STATE} is broken ({error}): delete {folder} to use an older checkpoint") from None


def check_root(out: Path, root: str) -> None:
    """Raises UserError where the run has a checkpoint, and that of another dataset."""
    for folder in checkpoints(out)[-1:]:
        before = state_of(folder)["dataset"]
        if before != root:
            raise UserError(
                f"{out} was trained on another dataset (root {before[:12]}, this one is {root[:12]}): give another --out, or "
                "the dataset (of a URL: the revision) that it was trained on"
            )


def resume_weights(out: Path, model: UniF2ace, dataset: Dataset) -> int:
    """Take up the weights of the latest checkpoint; the step to go on from. Raises UserError: another dataset or
    other weights that encoded it, a broken checkpoint.
    """
    found = checkpoints(out)
    if not found:
        return 0
    folder = found[-1]
    state = state_of(folder)
    check_root(out, dataset.root_sha256)
    same_encoders(state["encoders"], dataset.encoders)
    load_weights(model, folder)
    return int(state["step"])


def resume_optimizer(out: Path, model: UniF2ace, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE) -> None:
    """Take up the optimizer and the random state of the latest checkpoint, saved by as many ranks as may be."""
    found = checkpoints(out)
    if not found:
        return
    folder = found[-1]
    try:
        kept = torch.load(folder / TRAINER, map_location="cpu", weights_only=True)
        if (folder / SPREAD).is_dir():
            load_spread(model, optimizer, folder / SPREAD, ranks)
        else:
            load_whole(model, optimizer, kept["optimizer"], ranks)
        torch.set_rng_state(kept["chance"]["torch"])
        if torch.cuda.is_available() and "cuda" in kept["chance"]:
            torch.cuda.set_rng_state(kept["chance"]["cuda"])
    except Exception as error:  # torch raises nearly anything on a broken file
        raise UserError(
            f"{folder / TRAINER} cannot be read ({error}): delete {folder} to go on from an older one"
        ) from None


class Log:
    """metrics.jsonl and TensorBoard. Lines of steps after the checkpoint that is taken up are dropped: they come again."""

    def __init__(self, out: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        file = out / METRICS
        lines = file.read_text().splitlines() if file.is_file() else []
        kept = [line for line in lines if whole(line) and json.loads(line)["step"] <= step]
        file.write_text("".join(line + "\n" for line in kept))
        self.last: dict[str, Any] = json.loads(kept[-1]) if kept else {}
        self.last.pop("router", None)
        self._file = file.open("a")
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, Any], router: dict[str, Any]) -> None:
        self.last = {"step": step} | {k: rounded(v) for k, v in values.items()}
        self._file.write(json.dumps(self.last | {"router": router}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        for group, facts in router.items():
            for layer, value in enumerate(facts.get("max_violation", [])):
                self._board.add_scalar(f"max_violation/{group}/{layer}", value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def whole(line: str) -> bool:
    """Whether a line was written to its end (a kill may leave half of one)."""
    try:
        return "step" in json.loads(line)
    except ValueError:
        return False


def rounded(value: float | None) -> float | None:
    return None if value is None else float(np.format_float_positional(value, 6, fractional=False))
