"""`plan`: the sample is a draw that every machine repeats, the forecast is start-up and work apart, the build answers it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run.plan import NOISE, Measured, drawn, plan, rates_of, spread_of, times, with_ranges


def recipe_of(source: Path) -> Recipe:
    return load_recipe("embedded", ["subjects=adults"]).model_copy(update={"sources": [SourceSpec(path=str(source))]})


def size(inputs: int, **stages: float) -> Measured:
    return Measured(inputs, SimpleNamespace(stages=stages, counts={"kept": inputs}), 0, 0)  # type: ignore[arg-type]


@given(st.floats(0, 20), st.floats(0, 20), st.floats(0, 0.1), st.integers(300, 10**6))
def test_what_two_sizes_share_is_start_up_and_what_they_do_not_is_work(
    once: float, start: float, each: float, total: int
) -> None:
    small, large = (size(n, packing=start + each * n, analysing=start + n / 20) for n in (64, 256))
    first = size(64, packing=once + start + each * 64, analysing=start + 64 / 20)
    found = times([first, small, large], total, np.full(4, 20.0), 1.5)
    assert found["packing"] == pytest.approx((once + start, each * total), abs=1e-6 * total)
    assert found["analysing"] == (
        pytest.approx(start + 64 / 20, abs=1e-6),
        total / 20,
    )  # the larger run had 192 left to do
    assert found["listing"] == (0.0, 1.5)  # the whole source was listed


def test_a_report_shows_so_many_samples_and_no_more() -> None:
    start, each = 0.5, 0.006

    def report(kept: int) -> float:
        return start + each * min(kept, 200)

    for few, many in ((16, 64), (64, 256)):
        sizes = [size(n, report=report(n), analysing=n / 20) for n in (few, few, many)]
        for total in (100, 8_100, 10**6):
            assert sum(times(sizes, total, np.full(4, 20.0), 0.0)["report"]) == pytest.approx(report(total))


def test_workers_share_the_analysis_and_nothing_else() -> None:
    told = with_ranges({"analysing": (2.0, 100.0), "packing": (1.0, 10.0)}, 0.2, 2 / 64)
    assert told["stages"] == {"analysing": [5.1, 4.1, 6.1], "packing": [11.0, 8.8, 13.2]}
    assert told["seconds"][0] == 16.1


def test_a_range_follows_the_scatter_of_the_rates_and_is_never_narrow() -> None:
    assert spread_of(np.full(4, 25.0)) == NOISE
    rates = np.array([10.0, 30.0, 20.0, 20.0])
    assert spread_of(rates) == pytest.approx(2 * np.std(rates, ddof=1) / 2 / 20)


def test_rates_leave_the_start_up_out(tmp_path: Path) -> None:
    work = tmp_path / "shards.work"
    work.mkdir()
    lines = [{"time": 0.0, "event": "analyse"}]
    lines += [{"time": 10 + i / 5, "event": "analysed", "sources": ["x"] * 4} for i in range(40)]
    (work / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert rates_of(tmp_path / "shards", 2) == pytest.approx([20.0] * 4)


def test_the_draw_is_the_same_in_any_order_and_no_larger_than_the_source(examples: Path) -> None:
    chosen, total = drawn(recipe_of(examples), 4)
    everything, _ = drawn(recipe_of(examples), 99)
    assert (len(chosen), total, len(everything)) == (4, 7, 7) and chosen == everything[:4]


@pytest.mark.slow
def test_a_plan_and_what_happened(examples: Path, tmp_path: Path) -> None:
    def cli(*arguments: str) -> dict[str, Any]:
        command = [
            sys.executable,
            "-m",
            "unif2ace_data.cli",
            *arguments,
            "--src",
            str(examples),
            "--out",
            "shards",
            "--json",
        ]
        done = subprocess.run([*command, "--subjects", "adults"], capture_output=True, text=True, cwd=tmp_path)
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


def test_a_model_is_foretold_and_not_asked(examples: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        "embedded",
        [
            "subjects=adults",
            "captions.engine=openai",
            "llm.model=m",
            "llm.base_url=http://127.0.0.1:9/v1",
            "qa.engine=openai",
        ],
    ).model_copy(update={"sources": [SourceSpec(path=str(examples))]})
    model = plan(recipe, tmp_path / "shards", 7, quiet=True, rate=2.0)["model"]
    assert model["captions"]["stages"]["draft"]["requests"] == model["questions"]["stages"]["qa"]["requests"] == 5
    assert model["captions"]["rate"] == 2.0


def test_too_few_inputs_or_none_that_would_be_kept_are_told(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "one.jpg").write_bytes((examples / "obama.jpg").read_bytes())
    with pytest.raises(UserError, match="1 inputs are too few for a plan: build them"):
        plan(recipe_of(tmp_path / "raw"), tmp_path / "shards", 32, quiet=True)
    strict = recipe_of(examples).model_copy(update={"subjects": "unknown"})
    filters = strict.filters.model_copy(
        update={"resolution": strict.filters.resolution.model_copy(update={"min": 10**6})}
    )
    with pytest.raises(UserError, match=r"nothing was kept of .*in a sample of the source"):
        plan(strict.model_copy(update={"filters": filters}), tmp_path / "shards", 32, quiet=True)
