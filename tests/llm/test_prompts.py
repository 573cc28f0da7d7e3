"""The prompts: what they forbid, where the taxonomy comes from, what their hash is of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unif2ace_data.llm.prompts import CAPTION_PROMPTS, FOLDER, QA_PROMPTS, entries, load_prompts, pairs
from unif2ace_data.schema import UserError
from unif2ace_data.taxonomy import load_taxonomy

FACTS = {
    "topics": ["hair"], "source_captions": [], "max_chars": 300, "draft": "d", "facts": ["smile: none"], "caption": "c",
    "mistakes": [{"quote": "q", "right": "r"}], "questions": [], "count": 8, "wanted": "all",
    "question_chars": 160, "option_chars": 60,
}  # fmt: skip


@pytest.mark.parametrize("name", ["draft", "refine", "repair", "qa"])
def test_whatever_writes_is_told_what_never_to_write(name: str) -> None:
    system, _ = load_prompts(None).render(name, **FACTS)
    for word in ("name", "ethnicity", "religion", "sexual orientation", "attractiveness", "health"):
        assert word in system, word


@pytest.mark.parametrize("name", ["claims", "qa"])
def test_the_taxonomy_is_inserted_whole(name: str) -> None:
    system, _ = load_prompts(None).render(name, **FACTS)
    for entry in entries():
        assert re.search(rf"^- {entry.name}: .*{re.escape(entry.values[-1])}$", system, re.MULTILINE), entry.name


def test_the_taxonomy_is_never_copied() -> None:
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.jinja"))
    assert not [name for name in load_taxonomy().attributes if "_" in name and name in text]


def test_what_is_stated_on_request_only_is_not_in_the_vocabulary() -> None:
    assert not [pair for pair in pairs() if load_taxonomy()[pair.partition("=")[0]].on_request]
    assert "complexion=dark" not in pairs() and "smile=broad" in pairs()


def test_the_sources_caption_stands_in_brackets_where_there_is_one() -> None:
    prompts = load_prompts(None)
    _, without = prompts.render("draft", **FACTS)
    _, with_it = prompts.render("draft", **{**FACTS, "source_captions": ["A man.", "He smiles."]})
    assert "[" not in without and "[A man. He smiles.]" in with_it


def test_the_hash_is_of_the_templates_and_what_they_include(tmp_path: Path) -> None:
    first = load_prompts(None).sha256(CAPTION_PROMPTS)
    assert first == load_prompts(str(tmp_path)).sha256(CAPTION_PROMPTS) != load_prompts(None).sha256(QA_PROMPTS)
    (tmp_path / "rules.jinja").write_text("Write what you like.")
    own = load_prompts(str(tmp_path))
    assert own.sha256(CAPTION_PROMPTS) != first
    assert "Write what you like." in own.render("draft", **FACTS)[0]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("draft.jinja", "{% block system %}x{% endblock %}", "has no block 'user'"),
        ("draft.jinja", "{% block system %}{{ unknown }}{% endblock %}{% block user %}{% endblock %}", "does not hold"),
        ("draft.jinja", "{% block", "does not hold"),
        ("drafts.jinja", "", "replaces nothing"),
    ],
)
def test_a_prompt_that_does_not_hold_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        load_prompts(str(tmp_path)).render("draft", **FACTS)
    assert caught.value.exit_code == 2


def test_prompts_travel_in_the_wheel() -> None:
    names = {path.stem for path in FOLDER.glob("*.jinja")}
    assert {*CAPTION_PROMPTS, *QA_PROMPTS, "rules", "taxonomy"} == names
