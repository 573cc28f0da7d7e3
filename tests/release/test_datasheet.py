"""The datasheet: seven parts, answers from the data, people's blocks that survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_dataset import Dataset

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.datasheet import md, people_blocks, write_datasheet
from unif2ace_data.release.stats import compute_stats

MANIFEST = {
    "name": "folder",
    "title": "photographs in a folder",
    "subjects": "unknown",
    "licence": {"text": "as each photo says", "url": "https://example.org/licence"},
    "attribution": "the photographers",
    "removal": "write to the owner",
}


def write(dataset: Dataset, manifests: list[dict[str, Any]] | None = None, **recipe: Any) -> str:
    resolved = Recipe(name="small", **recipe).model_dump() | {"resolved": {"models": {"detector": "ab" * 32}}}
    target = dataset.out / "DATASHEET.md"
    stats = compute_stats(dataset.out, dataset.ledger, notes=["two identities cannot fill three splits"])
    write_datasheet(target, stats, resolved, [MANIFEST] if manifests is None else manifests)
    return target.read_text("utf-8")


def test_the_seven_parts_are_there_and_filled(dataset: Dataset) -> None:
    text = write(dataset)
    parts = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert parts == [
        "Motivation",
        "Composition",
        "Collection process",
        "Preprocessing, cleaning, labelling",
        "Uses",
        "Distribution",
        "Maintenance",
    ]
    for fact in (
        "7, out of 12 inputs",
        "| train | 4 | 1 |",
        "two identities cannot fill three splits",
        "| folder | 7 | 4 | 1 | photographs in a folder |",
        "| yaw | max 45 |",
        "| yaw | dropped | 2 |",
        "| detector | " + "ab" * 32 + " |",
        "| CC0-1.0 | 7 |",
        "as each photo says; https://example.org/licence",
        "write to the owner",
    ):
        assert fact in text


def test_what_people_wrote_survives(dataset: Dataset) -> None:
    before = write(dataset)
    assert "Open questions: 15 of 15" in before
    target = dataset.out / "DATASHEET.md"
    mine = "To test the builder.\n\n- with a list\n- and `code`"
    target.write_text(before.replace("_Not answered yet._", mine, 1))
    after = write(dataset)
    assert "Open questions: 14 of 15" in after
    assert people_blocks(target)["motivation-why"] == mine
    assert after == write(dataset)


def test_answers_to_questions_no_longer_asked_are_kept(dataset: Dataset) -> None:
    target = dataset.out / "DATASHEET.md"
    target.write_text("<!-- people: former-question -->\nAn old answer.\n<!-- /people -->\n")
    assert "An old answer." in write(dataset)
    assert write(dataset).count("An old answer.") == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<!-- people: a -->\nopen", "`a` is not closed"),
        ("<!-- people: a -->\n<!-- people: b -->\n<!-- /people -->", "line 2"),
        ("words\n<!-- /people -->", "line 2"),
        ("<!-- people: a -->\n<!-- /people -->\n<!-- people: a -->\n<!-- /people -->", "stands there twice"),
    ],
)
def test_damaged_blocks_are_an_error_and_nothing_is_overwritten(dataset: Dataset, text: str, error: str) -> None:
    target = dataset.out / "DATASHEET.md"
    target.write_text(text)
    with pytest.raises(UserError, match=error):
        write(dataset)
    assert target.read_text() == text


def test_the_gate_its_settings_and_its_cost_are_recorded(dataset: Dataset) -> None:
    text = write(dataset)
    assert "Nobody vouched, so the adult gate decided" in text
    assert "min_age 35" in text and "It kept 1 faces out" in text


def test_vouching_is_recorded(dataset: Dataset) -> None:
    text = write(dataset, subjects="adults")
    assert "The builder vouched that the sources show adults only" in text
    assert "| adult | not asked: the builder vouched |" in text
    text = write(dataset, manifests=[MANIFEST | {"name": "congress", "subjects": "adults"}, MANIFEST])
    assert "The manifests of congress vouch" in text and "For the others nobody vouched" in text


def test_a_gate_switched_off_is_said_loudly(dataset: Dataset) -> None:
    assert "**The adult gate was switched off, and nobody vouched.**" in write(dataset, filters={"adult": None})


@settings(deadline=None)
@given(st.text())
def test_data_cannot_break_tables_or_forge_blocks(text: str) -> None:
    cell = md(text)
    assert "\n" not in cell and "<" not in cell and "|" not in cell.replace("\\|", "")


def test_no_sources_is_no_error(dataset: Dataset) -> None:
    assert "source: none." in write(dataset, manifests=[])


def test_blocks_keep_blank_lines_and_indentation(tmp_path: Path) -> None:
    target = tmp_path / "D.md"
    target.write_text("<!-- people: a -->\n    code\n\nwords\n<!-- /people -->\n")
    assert people_blocks(target) == {"a": "    code\n\nwords"}
