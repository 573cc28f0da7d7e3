"""Questions in what describes a dataset: counted in stats.json, printed by stats, drawn in the report, listed by show."""

from __future__ import annotations

import io
from pathlib import Path

import orjson
import pytest
from rich.console import Console
from small_dataset import Dataset, jpeg, sample, write_dataset

from unif2ace_data.release.questions import question_lines
from unif2ace_data.release.report import write_report
from unif2ace_data.release.show import render_sample
from unif2ace_data.release.stats import compute_stats, render_stats
from unif2ace_data.schema import QA, Checks

PASS = Checks(derivable="pass", blind="pass", one_correct="pass", no_giveaway="pass", distinct="pass", allowed="pass")


def question(number: int) -> list[QA]:
    """A true/false question, a choice and an open question; answers alternate from sample to sample."""
    yes, letter = number % 2 == 0, number % 3
    options = ["gray", "brown", "black"]
    options.insert(letter, options.pop(0))
    common = {"category": "appearance", "attribute": "hair_color", "verdict": "supported", "source": "templates:1"}
    return [
        QA(question="Is the hair gray?", answer="yes" if yes else "no", kind="true_false", value="gray" if yes else "brown",
           options=["yes", "no"], letter="A" if yes else "B", checks=PASS, **common),
        QA(question="What color is the hair?", answer="gray", kind="choice_2_3", value="gray", options=options,
           letter="ABC"[letter], checks=PASS, **common),
        QA(question="What about the teeth?", answer="This cannot be seen: the mouth is closed.", kind="open", options=[],
           letter="", value="not_visible", checks=PASS.model_copy(update={"blind": "unchecked"}),
           **(common | {"attribute": "teeth", "category": "action"})),
    ]  # fmt: skip


@pytest.fixture
def asked(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path, [(sample(f"p{i}", qa=question(i)), jpeg()) for i in range(6)], [])


def test_questions_are_counted_by_kind_group_attribute_letter_and_check(asked: Dataset) -> None:
    qa = compute_stats(asked.out, asked.ledger)["qa"]
    assert (qa["total"], qa["per_sample"], qa["samples_by_questions"]) == (18, 3.0, {"3": 6})
    assert qa["kinds"] == {"choice_2_3": 6, "open": 6, "true_false": 6}
    assert qa["groups"] == {"action": 6, "appearance": 12}
    assert qa["attributes"] == {"hair_color": 12, "teeth": 6}
    assert qa["letters"] == {"2": {"A": 3, "B": 3}, "3": {"A": 2, "B": 2, "C": 2}}
    assert qa["checks"]["blind"] == {"pass": 12, "fail": 0, "unchecked": 6}
    assert qa["verdicts"] == {"supported": 18, "contradicted": 0, "unverified": 0}
    assert qa["not_visible"] == 6


def test_what_a_blind_reader_gets_right_is_in_the_statistics(asked: Dataset) -> None:
    blind = compute_stats(asked.out, asked.ledger)["qa"]["blind"]
    assert blind["questions"] == 12
    assert blind["chance"] == pytest.approx((6 / 2 + 6 / 3) / 12, abs=1e-4)
    assert blind["readers"]["form"] == pytest.approx((3 + 6) / 12)  # the choice always has one answer
    assert blind["above_chance"] == pytest.approx(9 / 12 - 5 / 12, abs=1e-4)


def test_stats_prints_them(asked: Dataset) -> None:
    console = Console(width=200, file=io.StringIO())
    console.print(render_stats(compute_stats(asked.out, asked.ledger)))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for words in (
        "questions: 18 (3.0 per sample)",
        "true_false 33.3%",
        "of 3 options A 33.3%",
        "chance 41.7%",
        "one_correct",
    ):
        assert words in text


def test_a_dataset_without_questions_says_so_in_one_line(dataset: Dataset) -> None:
    assert question_lines(compute_stats(dataset.out, dataset.ledger)["qa"]) == ["questions: 0 (0.0 per sample)"]


def test_the_report_shows_options_with_the_right_one_and_the_checks(asked: Dataset) -> None:
    (asked.out / "stats.json").write_bytes(orjson.dumps(compute_stats(asked.out, asked.ledger)))
    write_report(asked.work / "report.html", asked.out, None, None)
    page = (asked.work / "report.html").read_text()
    assert "<b>A yes</b>" in page and "<small>B no</small>" in page
    for words in ("Checks of the questions", "Answered without the picture", "the mouth is closed"):
        assert words in page


def test_show_lists_them() -> None:
    console = Console(width=120, file=io.StringIO())
    console.print(render_sample(sample("a", qa=question(1)), jpeg(), 120))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for words in ("Is the hair gray?", "B no", "What color is the hair?", "B gray", "hair_color, choice_2_3"):
        assert words in text
