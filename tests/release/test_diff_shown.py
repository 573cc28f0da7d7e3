"""What `diff` prints: only what differs, cut short, and nothing that steers a terminal; and what it names as confounding."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from unif2ace_data.curate.shifts import Measure, compared
from unif2ace_data.release.diff import ROWS, render_diff
from unif2ace_data.run.diff import Confounder, Dataset, Diff, Lost, Setting, confounders
from unif2ace_data.run.diff_samples import Found, Names, Samples

SIDE = Dataset("shards", "embedded", "ab" * 32, "1.1", 10, {"train": 8, "test": 2}, 12, True)


def shown(diff: Diff) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(render_diff(diff))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def empty(same: bool = False, samples: Samples | None = None) -> Diff:
    return Diff(SIDE, replace(SIDE, path="other"), same, samples or Samples(10, 10, 10), [], [], [], [], [])


def test_no_difference_is_one_line() -> None:
    assert shown(empty(same=True)).strip() == "shards and other: no differences in 10 samples, recipe or losses"


def test_every_part_that_differs_is_shown_and_no_other() -> None:
    key = "0123456789abcdef0123456789abcdef"
    samples = Samples(10, 9, 8)
    samples.only_a, samples.only_b = Found(2, [key, f"{key}-1"]), Found(1, [key])
    samples.missing_in_b, samples.missing_in_a = {"yaw": Found(2, [key])}, {"not known": Found(1, [key])}
    samples.rekeyed, samples.changed = Found(1, [f"{key} -> {key}-3"]), Found(4, [key])
    samples.aspects["caption"], samples.questions_removed = Found(4, [key] * 4), Found(7, [key])
    samples.recaptioned, samples.attributes = {"grounded -> openai tiny": Found(4, [key])}, {"smile": Names(1, 2, 3)}
    diff = empty(samples=samples)
    diff.recipe = [Setting("filters.yaw.max", 45, 30), Setting("captions.prompts", None, "x" * 99)]
    diff.lost = [Lost("yaw", "dropped", 0, 2)]
    diff.measures = [Measure("samples", 10, 9, 0.9), Measure("questions", 5, 5, 1.0)]
    diff.distributions = [compared(("attribute", "smile"), {"none": 8, "broad": 2}, {"none": 1, "broad": 8})]
    diff.confounders, diff.notes = [Confounder("samples", 10, 9, "only 8 of 11")], ["a note"]
    lines = {" ".join(line.split()) for line in shown(diff).splitlines()}
    assert {
        "in both 8 4 the same, 4 changed",
        "only in A 2 0123456789ab 0123456789ab-1",
        "not in B: yaw 2 0123456789ab …",
        "not in A: not known 1 0123456789ab",
        "under another key 1 0123456789ab -> 0123456789ab-3",
        "caption 4 0123456789ab 0123456789ab 0123456789ab …",
        "questions removed 7 0123456789ab …",
        "grounded -> openai tiny 4 0123456789ab …",
        "smile 1 2 3",
        "filters.yaw.max 45 30",
        f"captions.prompts - {'x' * 39}…",
        "yaw 0 2",
        "samples 10 9 0.90",
        "only 8 of 11",
        "note: a note",
    } <= lines
    assert any(line.startswith("attribute: smile 68.9% broad: 20.0% and 88.9%, +68.9 points (") for line in lines)
    assert not any(line.startswith(("questions 5", "split", "moved", "claims")) for line in lines)


def test_long_tables_are_cut_and_strange_names_are_harmless() -> None:
    diff = empty()
    diff.recipe = [Setting(f"key\x1b[2J{n}", n, n + 1) for n in range(ROWS + 3)]
    text = shown(diff)
    assert "\x1b" not in text and "and 3 more (--json has all)" in text and f"{ROWS + 1}" not in text.split("recipe")[1]


# ------------------------------------------------------------------ confounders


def named(samples: Samples, *numbers: Measure) -> dict[str, Confounder]:
    return {c.name: c for c in confounders(samples, list(numbers), [])}


def test_equal_datasets_confound_nothing() -> None:
    equal = [Measure(name, 7, 7, 1.0) for name in ("train samples", "caption tokens", "questions per sample")]
    assert named(Samples(10, 10, 10), *equal) == {} == named(Samples())


def test_sizes_and_lengths_are_named_from_a_tenth_on() -> None:
    found = named(
        Samples(10, 10, 10), Measure("train samples", 100, 109, 1.09), Measure("caption tokens", 50, 40, 0.8),
        Measure("questions per sample", 0, 8, None), Measure("samples", 1, 9, 9.0),
    )  # fmt: skip
    assert found.keys() == {"caption tokens", "questions per sample"}
    assert found["caption tokens"].text == "caption tokens: 50 in A, 40 in B (0.80 times)"


def test_blind_answers_are_compared_only_where_both_ask() -> None:
    blind = Measure("blind readers above chance", 0.0, 0.2, None)
    assert "blind readers above chance" not in named(Samples(), Measure("questions", 0, 9, None), blind)
    assert "blind readers above chance" in named(Samples(), Measure("questions", 9, 9, 1.0), blind)


def test_samples_pictures_and_crossed_splits_are_named() -> None:
    samples = Samples(10, 10, 8)
    samples.moved = {"test -> train": Found(2), "train -> validation": Found(1), "validation -> test": Found(1)}
    samples.aspects["picture"] = Found(3)
    found = named(samples)
    assert "8 of 12" in found["samples"].text and "3 of 8" in found["pictures"].text
    assert (found["held_out"].a, found["held_out"].b) == (2, 1)


def test_a_distribution_is_named_where_it_differs_much_and_surely() -> None:
    few = compared(("attribute", "smile"), {"none": 3}, {"none": 2, "broad": 1})
    many = compared(("attribute", "smile"), {"none": 300}, {"none": 200, "broad": 100})
    slight = compared(("attribute", "smile"), {"none": 9000, "broad": 1000}, {"none": 8500, "broad": 1500})
    assert confounders(Samples(), [], [few]) == confounders(Samples(), [], [slight]) == []
    (found,) = confounders(Samples(), [], [many])
    assert (found.name, found.a, found.b) == ("smile", 0.0, 0.3333)
    assert found.text == "smile: 33% lies elsewhere; broad 0.0% in A, 33.3% in B"
