"""Which of two datasets teaches more: declared first, run in pairs, resumed, extended, and told with its certainty."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from photographs import write_photos
from safetensors.torch import load_file

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.shards import read_index, read_samples
from unif2ace_model.compare import Asked, compare, seconds_of
from unif2ace_model.compare_metrics import caption_rows, measure, value_of
from unif2ace_model.compare_page import curve
from unif2ace_model.compare_plan import Plan, encoded, read_plan, steps_of, with_shared
from unif2ace_model.compare_report import sentences, verdict_of
from unif2ace_model.compare_run import read_result
from unif2ace_model.compare_start import of_both, withheld
from unif2ace_model.config import Preset
from unif2ace_model.evaluate import Wanted, evaluate, held_out
from unif2ace_model.evaluate_generation import look_of
from unif2ace_model.mixture import mixture_of
from unif2ace_model.text import load_tokenizer
from unif2ace_model.trained import load_trained

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from variants import half, reordered, shuffled_captions, variant, wrong_answers


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A of one person, B: the same with half of its answers wrong, E of somebody else."""
    folder = tmp_path_factory.mktemp("variants")
    photos = sorted(write_photos(folder / "raw", 13).iterdir())
    found = {}
    for name, mine in (("a", lambda i: i % 5 > 1), ("e", lambda i: i % 5 == 0)):  # the regions of photographs.py
        source = folder / f"raw-{name}"
        source.mkdir()
        for i, photo in enumerate(photos):
            if mine(i):
                shutil.copy(photo, source)
        recipe = load_recipe("embedded", ["subjects=adults", "splits.train=1", "splits.validation=0", "splits.test=0"])
        recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(source))]})
        build(recipe, folder / name, quiet=True)
        subprocess.run([str(Path(sys.executable).parent / "unif2ace-data"), "qa-gen", str(folder / name)], check=True)
        found[name] = folder / name
    found["b"] = variant(found["a"], folder / "b", wrong_answers(0.5))
    return found


def asked_of(sets: dict[str, Path], preset: Preset, out: Path, **changes: Any) -> Asked:
    short = preset.model_copy(update={"optim": preset.optim.model_copy(update={"steps": 6})})
    told: dict[str, Any] = {
        "a": sets["a"], "b": sets["b"], "evaluation": sets["e"], "split": "train", "out": out, "preset": short, "seeds": 1,
        "budget": None, "primary": [], "limit": 2, "pictures": 1,
    }  # fmt: skip
    return Asked(**told | changes)


@pytest.fixture(scope="module")
def compared(sets: dict[str, Path], preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "comparison"
    compare(asked_of(sets, preset, out), quiet=True)
    return out


# ------------------------------------------------------------------ what a comparison writes


@pytest.mark.slow
def test_every_figure_is_the_sum_over_samples_of_the_runs(compared: Path) -> None:
    report, plan = json.loads((compared / "compare.json").read_bytes()), plan_of(compared)
    results = {side: read_result(compared, plan, side, 0) for side in "ab"}
    rows = {row["name"]: row for family in ("primary", "secondary", "exploratory") for row in report[family]}
    assert [row["name"] for row in report["primary"]] == ["answer_nll", "caption_nll"]
    assert {"accuracy", "caption_f1", "nelbo", "agreement"} <= {row["name"] for row in report["secondary"]} | {
        "agreement"
    }
    assert not {row["name"] for row in report["exploratory"]} & {*plan.primary, *plan.secondary}
    for name, row in rows.items():
        for side in "ab":
            above, below = (sum(part) for part in results[side]["rows"][name])
            assert row[side] == pytest.approx(above / below, abs=1e-5)
        assert row["difference"] == pytest.approx(row["b"] - row["a"], abs=2e-6)
        assert row["p"] == 1 and row["favours"] is None and row["interval"] is None  # of a single pair
    assert report["verdict"] == "none" and "6 are the fewest" in report["says"][0]
    page = (compared / "compare.html").read_text()
    assert "answer nll" in page and page.count("data:image/jpeg") == 2 and 'src="http' not in page


@pytest.mark.slow
def test_both_of_a_pair_start_alike_and_see_as_many_tokens(compared: Path) -> None:
    report, plan = json.loads((compared / "compare.json").read_bytes()), plan_of(compared)
    a, b = report["runs"]
    longest = 6 * (plan.preset.model.image_tokens + 160)  # one step of six sequences
    assert abs(a["tokens"] - b["tokens"]) <= longest
    assert a["weights_sha256"] != b["weights_sha256"]


@pytest.mark.slow
def test_all_runs_start_from_what_has_read_the_texts_of_both_and_seen_no_face(
    sets: dict[str, Path], preset: Preset, compared: Path
) -> None:
    plan = plan_of(compared)
    shared = with_shared(compared, plan.preset)
    names = load_file(compared / "start" / "model.safetensors").keys()
    assert plan.preset.optim.body == 1 and shared.optim.body == 0.3
    assert "text_head.weight" in names and not any("guests" in name or ".sequence." in name for name in names)
    assert json.loads((compared / "start" / "start.json").read_bytes())["steps"] == 4 * 6 == plan.start_steps
    a, b = (encoded(sets[side], shared) for side in "ab")
    both = of_both(a, b)
    assert [r.qa for r in both.records] == [r.qa for r in (*a.records, *b.records)]
    assert all(
        (both.codes(r) == b.codes(s)).all() for r, s in zip(both.records[len(a.records) :], b.records, strict=True)
    )
    mixed = mixture_of(both, "train", load_tokenizer(shared.text.tokenizer), shared)
    for part in withheld(mixed, 0):
        assert (part.codes_BN == preset.model.codebook).all() and part.face_BC is not None and not part.face_BC.any()
    said = yaml.safe_load((compared / "a-0" / "preset.yaml").read_text())
    assert said["start"] == f"unif2ace:{(compared / 'start').resolve()}"


@pytest.mark.slow
def test_the_same_call_does_nothing_and_more_seeds_keep_what_is_there(
    sets: dict[str, Path], preset: Preset, compared: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "comparison"))
    before = {file.name: file.stat().st_mtime_ns for file in out.glob("?-0.json")}
    report = (out / "compare.json").read_bytes()
    compare(asked_of(sets, preset, out), quiet=True)
    assert (out / "compare.json").read_bytes() == report
    (out / "a-1").mkdir()
    (out / "a-1" / "something").write_text("else")  # the trainer refuses such a folder: this run crashes
    found = compare(asked_of(sets, preset, out, seeds=2), quiet=True)
    assert {file.name: file.stat().st_mtime_ns for file in out.glob("?-0.json")} == before
    assert found["looks"] == [1, 2] and found["pairs"] == [0]
    assert [(run["side"], run["seed"]) for run in found["failed"]] == [("a", 1)]
    assert "is not empty and no run of this trainer" in found["failed"][0]["why"]
    assert any("Run a-1 crashed and its pair is left out" in line for line in found["says"])
    with pytest.raises(UserError, match="declared something else"):
        compare(asked_of(sets, preset, out, seeds=2, primary=["accuracy"]), quiet=True)
    with pytest.raises(UserError, match="declared something else"):
        compare(asked_of(sets, preset, out, b=sets["a"], a=sets["b"]), quiet=True)


@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_the_same_answer(
    sets: dict[str, Path], preset: Preset, compared: Path, tmp_path: Path
) -> None:
    """The command is killed in its first run: nobody goes on training, and the same command ends in the same figures."""
    out = tmp_path / "comparison"
    longer = asked_of(sets, preset, out)
    script = tmp_path / "call.py"
    script.write_text(
        "import pickle, sys; from pathlib import Path; from unif2ace_model.compare import compare\n"
        "compare(pickle.loads(Path(sys.argv[1]).read_bytes()), quiet=True)\n"
    )
    import pickle

    (tmp_path / "asked").write_bytes(pickle.dumps(longer))
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "asked")], start_new_session=True)
    while not any(out.glob("a-0/step-*")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while (state := who_trains(out)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not state, "runs of a killed comparison end by themselves"
    found = compare(longer, quiet=True)
    said = json.loads((compared / "compare.json").read_bytes())
    for family in ("primary", "secondary", "exploratory"):
        assert [(row["name"], row["a"], row["b"]) for row in found[family]] == [
            (row["name"], row["a"], row["b"]) for row in said[family]
        ]


def who_trains(out: Path) -> list[int]:
    import psutil

    return [
        p.pid
        for p in psutil.process_iter(["cmdline"])
        if str(out) in (p.info["cmdline"] or []) and "call.py" not in str(p.info)
    ]


# ------------------------------------------------------------------ what is refused


@pytest.mark.slow
def test_held_out_samples_that_a_variant_learns_from_are_refused(
    sets: dict[str, Path], preset: Preset, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"A .*: 5 photographs and \d+ pairs of one face") as refused:
        compare(asked_of(sets, preset, tmp_path / "c", evaluation=sets["a"], limit=0), quiet=True)
    assert "B (" in refused.value.message and "unif2ace-data audit" in refused.value.message
    assert not (tmp_path / "c" / "plan.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b": "a"}, "are the same dataset"),
        ({"primary": ["beauty"]}, "--primary beauty: choose among answer_nll"),
        ({"split": "validation"}, "no samples in 'validation'"),
        ({"budget": 1.0}, "give at least"),
    ],
)
def test_what_is_no_comparison_is_said(
    sets: dict[str, Path], preset: Preset, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    changes = {key: sets[value] if key == "b" else value for key, value in change.items()}
    with pytest.raises(UserError, match=said):
        compare(asked_of(sets, preset, tmp_path / "c", **changes), quiet=True)
    assert not (tmp_path / "c" / "plan.json").exists()


@pytest.mark.slow
def test_a_folder_of_something_else_is_left_alone(sets: dict[str, Path], preset: Preset, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not empty and holds no comparison"):
        compare(asked_of(sets, preset, tmp_path), quiet=True)


def test_a_budget_is_a_time() -> None:
    assert [seconds_of(text) for text in ("90s", "30m", "1h30m", "1.5 h")] == [90, 1800, 5400, 5400]
    for text in ("", "30", "m", "30 minutes", "1h-3m"):
        with pytest.raises(UserError, match="write a time"):
            seconds_of(text)


# ------------------------------------------------------------------ measurements and the verdict


def test_measurements_are_those_of_eval(trained_run: Path, people: Path) -> None:
    """The same figures as `unif2ace-model eval` reports, taken another way."""
    held = held_out(load_trained(trained_run), people, Wanted("train", limit=4), quiet=True)
    rows, examples = measure(held, look_of(people, None), pictures=0)
    report = evaluate(trained_run, people, Wanted("train", ("qa", "captions"), limit=4), quiet=True)
    qa = report["qa"]
    assert value_of(rows["answer_nll"]) == pytest.approx(qa["all"]["nll"]["value"], abs=1e-5)
    assert value_of(rows["accuracy"]) == pytest.approx(qa["all"]["accuracy"]["value"], abs=1e-5)
    assert value_of(rows["caption_nll"]) == pytest.approx(report["captions"]["nll"]["value"], abs=1e-5)
    for group, found in qa["by_group"].items():
        assert value_of(rows[f"accuracy:{group}"]) == pytest.approx(found["accuracy"]["value"], abs=1e-5)
    assert len(examples.captions) == len(examples.answers) == 4
    perfect = caption_rows(held, held.captions)  # grounded captions: what they claim is what the evidence bears
    assert value_of(perfect["caption_precision"]) == 1
    assert value_of(perfect["caption_f1"]) == pytest.approx(
        2 * value_of(perfect["caption_recall"]) / (1 + value_of(perfect["caption_recall"]))  # type: ignore[operator]
    )


def row(name: str, favours: str | None, **changes: Any) -> dict[str, Any]:
    told = {
        "name": name, "unit": "nats a token", "difference": -0.2, "interval": {"low": -0.3, "high": -0.1},
        "interval_people": {"low": -0.4, "high": 0.1}, "p_corrected": 0.0078, "smallest_found": 0.05, "favours": favours,
    }  # fmt: skip
    return told | changes


def test_the_verdict_hangs_on_the_primary_measurements() -> None:
    assert verdict_of([row("answer_nll", None), row("caption_nll", None)]) == "none"
    assert verdict_of([row("answer_nll", "b"), row("caption_nll", None)]) == "b"
    assert verdict_of([row("answer_nll", "b"), row("caption_nll", "a")]) == "mixed"


def test_the_answer_in_words() -> None:
    report: dict[str, Any] = {"verdict": "b", "pairs": list(range(8)), "failed": [], "looks": [8]}
    better, people = sentences(report | {"primary": [row("answer_nll", "b")]})
    assert better == "B is better: answer_nll -0.2000 [-0.3000, -0.1000] nats a token, p = 0.0078."
    assert people.startswith("So it is on these held-out people.")
    (none,) = sentences(report | {"verdict": "none", "primary": [row("answer_nll", None)]})
    assert none.startswith("No difference found.") and none.endswith("answer_nll 0.0500.")
    *_, looked = sentences(report | {"primary": [row("answer_nll", "b")], "looks": [8, 12]})
    assert looked.startswith("Looked at with 8, 12 pairs")


def test_a_curve_of_runs_with_more_and_fewer_points() -> None:
    """B's steps follow A's tokens, so eight in one run may be nine in another, with a checkpoint fewer."""
    points = {8: (2, 4, 6, 8), 9: (3, 6, 9)}
    runs = [
        {"side": side, "curve": [{"step": step, "answer_nll": 1.0} for step in points[steps]]}
        for side, steps in (("a", 8), ("a", 8), ("b", 8), ("b", 9))
    ]
    drawn = curve({"runs": runs}, "answer_nll", "")
    assert [len(line.x) for line in drawn.data if line.mode == "lines+markers"] == [4, 3]


# ------------------------------------------------------------------ tokens, and the variants that tests and benchmarks use


@pytest.mark.slow
def test_b_takes_the_steps_that_show_it_as_many_tokens(sets: dict[str, Path], compared: Path, tmp_path: Path) -> None:
    plan = plan_of(compared)
    longer = variant(sets["a"], tmp_path / "longer", lambda rows, _: [(k, j, twice(s)) for k, j, s in rows])
    steps, tokens = steps_of(compared, plan, "a", 0)
    told = plan.model_copy(update={"b": plan.b.model_copy(update={"path": str(longer)}), "steps": 30})
    (_, of_a), (fewer, of_b) = steps_of(compared, told, "a", 0), steps_of(compared, told, "b", 0)
    assert (steps, steps_of(compared, plan, "a", 0)) == (6, (6, tokens))
    assert fewer < 30 and abs(of_a - of_b) <= of_b / fewer


def twice(sample: Any) -> Any:
    return sample.model_copy(update={"caption": f"{sample.caption} {sample.caption}"})


@pytest.mark.slow
def test_variants_change_what_they_say(sets: dict[str, Path], tmp_path: Path) -> None:
    def records(shards: Path) -> dict[str, dict[str, Any]]:
        names = [entry["name"] for entry in read_index(shards)["shards"]]
        return {key: json.loads(files["json"]) for name in names for key, files in read_samples(shards / name)}

    a, b = records(sets["a"]), records(sets["b"])
    changed = [q["answer"] != r["answer"] for key in a for q, r in zip(a[key]["qa"], b[key]["qa"], strict=True)]
    assert 0.25 < np.mean(changed) < 0.75
    assert all(
        q["answer"] == q["options"]["ABCD".index(q["letter"])] for s in b.values() for q in s["qa"] if q["options"]
    )
    other = records(variant(sets["a"], tmp_path / "order", reordered))
    assert other == a and list(other) != list(a)
    captions = records(variant(sets["a"], tmp_path / "captions", shuffled_captions))
    assert sorted(s["caption"] for s in captions.values()) == sorted(s["caption"] for s in a.values())
    assert captions != a and {k: s["qa"] for k, s in captions.items()} == {k: s["qa"] for k, s in a.items()}
    fewer = records(variant(sets["a"], tmp_path / "half", half))
    assert len(fewer) == len(a) // 2 and fewer.items() <= a.items()


def plan_of(out: Path) -> Plan:
    plan = read_plan(out)
    assert plan is not None
    return plan
