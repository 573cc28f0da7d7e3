"""`plan`: a draw that every machine repeats, trials of which only the largest may fail, amounts with their ranges."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.printed import plan_notes, print_plan
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.plan import drawn, plan
from unif2ace_data.run.planned import Plan

MODEL = ["captions.engine=openai", "llm.model=m", "llm.base_url=http://127.0.0.1:9/v1", "qa.engine=openai"]


def recipe_of(source: Path, *changes: str) -> Recipe:
    recipe = load_recipe("embedded", ["subjects=adults", *changes])
    return recipe.model_copy(update={"sources": [SourceSpec(path=str(source))]})


def quick(recipe: Recipe, out: Path, sample: int = 32, **options: Any) -> dict[str, Any]:
    told = plan(recipe, out, sample, quiet=True, **options)
    assert Plan.model_validate(told)  # what is written is what is read
    return told


def test_the_draw_is_the_same_in_any_order_and_no_larger_than_the_source(examples: Path) -> None:
    chosen, total, readable = drawn(recipe_of(examples), 4)
    everything, _, _ = drawn(recipe_of(examples), 99)
    assert (len(chosen), total, readable, len(everything)) == (4, 7, 7, 7) and chosen == everything[:4]


def test_a_model_is_foretold_and_not_asked(examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(recipe_of(examples, *MODEL), tmp_path / "shards", rate=0.01, there=64, servers=5)
    captions, questions = told["model"]["captions"], told["model"]["questions"]
    assert captions["stages"]["draft"]["requests"] == questions["stages"]["qa"]["requests"] == 5
    for asked in (captions, questions):
        for name in ("requests", "prompt_tokens", "completion_tokens", "hours"):
            assert asked["low"][name] < asked[name] < asked["high"][name], name
    here, there = told["here"], told["there"]
    assert here["stages"]["captioning"] == [
        1500.0,
        100 * captions["low"]["requests"],
        100 * captions["high"]["requests"],
    ]
    assert there["stages"]["captioning"][0] == 300.0 and there["servers"] == 5
    assert here["seconds"][0] > 1500 and there["seconds"][0] > 300  # in all is with the model
    print_plan(told)
    printed = capsys.readouterr().out
    assert "64 workers, 5x servers" in printed and "25.0 min" in printed
    assert "captioning is arithmetic: its requests at 0.01 a second (--rate), and 5 times as many there" in printed


def test_what_a_model_is_asked_grows_with_what_is_kept_and_not_by_whole_samples(photos: Path, tmp_path: Path) -> None:
    recipe = recipe_of(photos, *MODEL, "duplicates.perceptual=null", "duplicates.near_identical=false")
    told = quick(recipe, tmp_path / "shards", 14)
    kept = told["kept"]["samples"]
    assert (told["inputs"], told["sampled"]) == (20, 14) and kept > 14
    assert {row["requests"] for asked in told["model"].values() for row in asked["stages"].values()} == {kept}


def test_disk_has_ranges_that_come_of_what_is_kept_and_of_its_sizes(examples: Path, tmp_path: Path) -> None:
    told = quick(recipe_of(examples), tmp_path / "shards")
    for expected, low, high in told["disk"].values():
        assert low / expected < told["kept"]["low"] / told["kept"]["share"]
        assert high / expected > told["kept"]["high"] / told["kept"]["share"]


def test_copies_of_one_photograph_are_planned_as_they_are_built(examples: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(8):
        shutil.copy(examples / "obama.jpg", raw / f"{number}.jpg")
    told = quick(recipe_of(raw), tmp_path / "shards")
    assert told["kept"]["samples"] == 1 and told["reasons"] == {"exact_duplicate": 0.875}
    assert told["here"]["stages"]["analysing"][0] > 0


def test_a_smaller_trial_that_keeps_nothing_is_no_failure(examples: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("biden.jpg", "obama.jpg", "obama2.jpg", "obama3.jpg"):
        shutil.copy(examples / name, raw / name)
    first = Path(drawn(recipe_of(raw), 4)[0][0]).name  # this one is the quarter of the sample
    shutil.copy(examples / "rocket.jpg", raw / first)
    told = quick(recipe_of(raw), tmp_path / "shards")
    assert told["kept"]["samples"] == 3 and told["reasons"] == {"no_face": 0.25}
    assert build(recipe_of(raw), tmp_path / "shards", quiet=True).counts["kept"] == 3


def test_too_few_inputs_or_none_that_would_be_kept_are_told(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "one.jpg").write_bytes((examples / "obama.jpg").read_bytes())
    with pytest.raises(UserError, match="1 inputs are too few for a plan: build them"):
        quick(recipe_of(tmp_path / "raw"), tmp_path / "shards")
    strict = recipe_of(examples, "filters.resolution.min=1000000")
    with pytest.raises(UserError, match=r"nothing was kept of 7 inputs .*in a sample of the source"):
        quick(strict, tmp_path / "shards")


def test_the_alarm_is_foretold(examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("biden.jpg", "obama.jpg", "obama2.jpg"):
        shutil.copy(examples / name, raw / name)
        (raw / f"half-{name}").write_bytes((examples / name).read_bytes()[:4000])
    told = quick(recipe_of(raw), tmp_path / "shards")
    assert told["failed"]["share"] == 0.5 and told["failed"]["max_failed"] == 0.2
    print_plan(told)
    assert (
        "`build` will stop before anything is published, at more than alarm.max_failed = 0.2" in capsys.readouterr().out
    )
    with pytest.raises(UserError, match=r"more than alarm\.max_failed = 0\.2"):
        build(recipe_of(raw), tmp_path / "shards", quiet=True)
    assert "may stop" in plan_notes(told | {"failed": told["failed"] | {"max_failed": 0.6}})[0]
    assert not plan_notes(told | {"failed": told["failed"] | {"max_failed": 0.9}})


def test_inputs_that_cannot_be_read_as_listed_take_no_time(examples: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(examples, raw)
    for number in range(21):
        (raw / f"{number}.txt").write_text("no photograph")
    told = quick(recipe_of(raw), tmp_path / "shards", on=Executor(1))
    assert (told["inputs"], told["readable"]) == (28, 7)
