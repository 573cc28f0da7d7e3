"""That the whole road teaches: a tiny model learns whose caption belongs to which picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from unif2ace_model.config import Preset
from unif2ace_model.evaluate import Wanted, evaluate
from unif2ace_model.train import train

pytestmark = pytest.mark.slow


def test_a_model_learns_its_pictures_captions_and_finds_them_unlikely_for_others(
    people: Path, preset: Preset, tmp_path: Path
) -> None:
    optim = preset.optim.model_copy(update={"steps": 400, "und_batch": 8, "gen_batch": 1, "accumulate": 1})
    run = preset.run.model_copy(update={"sample_every": 0, "save_every": 1000, "log_every": 50})
    objective = preset.objective.model_copy(update={"caption_share": 1.0})
    chosen = preset.model_copy(update={"optim": optim, "run": run, "objective": objective})
    train(people, tmp_path / "run", chosen, quiet=True)
    captions = evaluate(tmp_path / "run", people, Wanted("train", ("captions",)), quiet=True)["captions"]
    assert captions["nll"]["value"] < 0.5
    assert captions["picture_tells"]["low"] > 0.02  # nats a token, by the lower end of the interval over people
