"""A plan beside what happened: compared where it is of this build, and otherwise said why not."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unif2ace_data.llm.room import Account
from unif2ace_data.printed import plan_notes, print_plan
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run.build import Summary, build
from unif2ace_data.run.captioning import ModelWork
from unif2ace_data.run.plan import drawn, plan
from unif2ace_data.run.planned import Plan, digest_of, with_what_happened


def recipe_of(source: Path, *changes: str) -> Recipe:
    recipe = load_recipe("embedded", ["subjects=adults", *changes])
    return recipe.model_copy(update={"sources": [SourceSpec(path=str(source))]})


@pytest.fixture(scope="module")
def planned(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plan.json of the examples, one worker. Read only."""
    out = tmp_path_factory.mktemp("planned") / "shards"
    plan(recipe_of(examples), out, 32, quiet=True)
    return out.with_name("shards.work") / "plan.json"


@pytest.fixture
def summary(planned: Path, built: Path, tmp_path: Path) -> Summary:
    """Of a build that one run did, with its plan."""
    out, work = tmp_path / "shards", tmp_path / "shards.work"
    shutil.copytree(built, out)
    work.mkdir()
    shutil.copy(planned, work)
    return Summary(
        out, work, inputs=7, analysed=7, cropped=0, counts={"kept": 5, "dropped": 2}, reasons={}, splits={}, shards=1,
        seconds=9.0, stages={"analysing": 8.0, "packing": 1.0},
    )  # fmt: skip


def on_disk(summary: Summary) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((summary.work / "plan.json").read_bytes())
    assert Plan.model_validate(told)
    return told


def test_what_came_stands_beside_the_plan(summary: Summary, examples: Path) -> None:
    told = with_what_happened(summary, recipe_of(examples), 1)
    assert told == on_disk(summary)
    came = told["happened"]
    assert (came["kept"], came["seconds"], came["workers"]) == (5, 9.0, 1)
    assert came["shards"] == pytest.approx(told["disk"]["shards"][0], rel=0.05)
    assert (
        with_what_happened(dataclasses.replace(summary, analysed=0), recipe_of(examples), 1) is None
    )  # it is answered
    assert with_what_happened(summary, recipe_of(examples, "filters.yaw=null"), 1) is None
    assert on_disk(summary) == told


def test_what_a_model_was_asked_stands_beside_the_plan(
    summary: Summary, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_model = recipe_of(examples, "captions.engine=openai", "llm.model=m")
    plan(by_model, summary.out, 32, quiet=True)
    work = ModelWork(accounts={"draft": Account(5, 1, 0, 0, 4000, 900), "claims": Account(5, 0, 0, 0, 3000, 100)})
    told = with_what_happened(dataclasses.replace(summary, asked=work), by_model, 1)
    assert told is not None and told == on_disk(summary)
    assert told["happened"]["captions"] == {
        "requests": 10, "prompt_tokens": 7000, "completion_tokens": 1000, "journalled": 1,
    }  # fmt: skip
    print_plan(told)
    assert "came 10 requests, 7,000 tokens in + 1,000 out; 1 more" in capsys.readouterr().out


def test_times_of_a_resumed_build_are_not_compared_and_the_rest_is(
    planned: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = recipe_of(examples), tmp_path / "shards"
    build(recipe, out, quiet=True, only=frozenset(drawn(recipe, 3)[0]))  # as far as it came before it was killed
    shutil.copy(planned, tmp_path / "shards.work")
    told = with_what_happened(build(recipe, out, quiet=True), recipe, 1)
    assert told is not None and told["happened"]["kept"] == 5 and "seconds" not in told["happened"]
    print_plan(told)
    printed = capsys.readouterr().out
    assert "5 kept (71.4%, 35.9% to 91.8%); came 5" in printed
    assert "times are not compared: this run analysed 4 of 7 inputs, the others were done before it" in printed


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"inputs": 6}, "it is of 7 inputs, and 6 were built"),
        ({"analysed": 9}, "it is of 7 photographs to analyse, and 9 were analysed"),
    ],
)
def test_a_build_of_something_else_is_not_compared(
    summary: Summary, examples: Path, changes: dict[str, int], why: str
) -> None:
    other = dataclasses.replace(summary, **changes)  # type: ignore[arg-type]
    assert with_what_happened(other, recipe_of(examples), 1) == {"not_compared": why}
    assert "happened" not in on_disk(summary)


def test_another_recipe_is_not_compared(summary: Summary, examples: Path) -> None:
    told = with_what_happened(summary, recipe_of(examples, "filters.face_px.min=200"), 1)
    assert told is not None and "it is of another recipe" in told["not_compared"]


def test_another_number_of_workers_is_said(summary: Summary, examples: Path) -> None:
    told = with_what_happened(summary, recipe_of(examples), 4)
    assert told is not None
    assert plan_notes(told) == ["the build had 4 workers, and the plan is for 1: times differ by that too"]
    assert not plan_notes(told | {"there": {"workers": 4, "servers": 1}})


@pytest.mark.parametrize("text", ["[1]", "{", "", "{}", '{"inputs": 7}', "\xff"])
def test_a_damaged_plan_is_none_and_is_said(
    summary: Summary, examples: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (summary.work / "plan.json").write_text(text, encoding="latin-1")
    told = with_what_happened(summary, recipe_of(examples), 1)
    assert told is not None and list(told) == ["not_compared"]
    print_plan(told)
    assert "plan     not compared: " in (said := capsys.readouterr().out) and "is damaged" in said
    (summary.work / "plan.json").unlink()
    assert with_what_happened(summary, recipe_of(examples), 1) is None


def test_a_digest_is_of_what_decides_a_dataset(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = digest_of(recipe_of(examples))
    monkeypatch.chdir(examples.parent)
    same = recipe_of(
        Path(examples.name), "alarm.max_failed=1", "qa.engine=openai", "llm.model=m", "release.licence=other"
    )
    assert digest_of(same) == here
    assert digest_of(recipe_of(examples, "filters.yaw=null")) != here
    assert digest_of(recipe_of(examples.parent)) != here
    model = digest_of(recipe_of(examples, "captions.engine=openai", "llm.model=m"))
    assert digest_of(recipe_of(examples, "captions.engine=openai", "llm.model=m", "llm.in_flight=2")) == model
    assert digest_of(recipe_of(examples, "captions.engine=openai", "llm.model=n")) != model


@pytest.mark.slow
def test_a_plan_and_the_build_that_it_is_of(examples: Path, tmp_path: Path) -> None:
    def cli(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "unif2ace_data.cli", *arguments, "--src", str(examples), "--out", "shards"]
        command += ["--subjects", "adults", "--faces", "embedded", "--captioner", "grounded", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    told = cli("plan", "--there", "64")
    assert (told["inputs"], told["sampled"], told["kept"]["samples"]) == (7, 7, 5)
    assert told["kept"]["low"] < told["kept"]["share"] < told["kept"]["high"]
    assert set(told["reasons"]) == {"no_face", "border"} and told["model"] == {}
    assert told["there"]["seconds"][0] < told["here"]["seconds"][0]
    assert not (tmp_path / "shards").exists()  # nothing is built yet
    assert [path.name for path in (tmp_path / "shards.work").iterdir()] == ["plan.json"]
    came = cli("build")["planned"]["happened"]
    assert came["kept"] == 5 and set(came["stages"]) == set(told["here"]["stages"])
    assert came["shards"] == pytest.approx(told["disk"]["shards"][0], rel=0.05)
    assert "planned" not in cli("build")  # nothing was analysed this time: no comparison
    (tmp_path / "shards.work" / "plan.json").write_text("[1]")
    assert "damaged" in cli("build")["planned"]["not_compared"]
