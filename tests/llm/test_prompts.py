"""The prompts: what they forbid, where the taxonomy comes from, what their hash is of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.llm.prompts import CAPTION_PROMPTS, FOLDER, QA_PROMPTS, entries, load_prompts, pairs
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


def own(folder: Path, **texts: str) -> str:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.jinja").write_text(text)
    return str(folder)


def test_the_hash_is_of_the_templates_and_what_they_include(tmp_path: Path) -> None:
    first = load_prompts(None).sha256(CAPTION_PROMPTS)
    same = own(tmp_path / "same", rules=(FOLDER / "rules.jinja").read_text())
    assert first == load_prompts(same).sha256(CAPTION_PROMPTS) != load_prompts(None).sha256(QA_PROMPTS)
    other = load_prompts(own(tmp_path / "other", rules="Write what you like."))
    assert other.sha256(CAPTION_PROMPTS) != first
    assert "Write what you like." in other.render("draft", **FACTS)[0]


def test_a_file_that_an_own_prompt_includes_imports_or_extends_is_hashed_with_it(tmp_path: Path) -> None:
    base = "{% block system %}{% include 'tone.jinja' %}{% endblock %}{% block user %}Describe.{% endblock %}"
    folder = own(tmp_path, draft="{% extends 'base.jinja' %}", base=base, tone="Be brief.")
    before = load_prompts(folder)
    assert before.render("draft", **FACTS) == ("Be brief.", "Describe.")
    first = before.sha256(CAPTION_PROMPTS), before.sha256(QA_PROMPTS)
    own(tmp_path, tone="Be very brief.")
    after = load_prompts(folder)
    assert after.sha256(CAPTION_PROMPTS) != first[0] and after.sha256(QA_PROMPTS) == first[1]


BLOCKS = "{% block system %}x{% endblock %}{% block user %}y{% endblock %}"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("draft.jinja", b"{% block system %}x{% endblock %}", "has no block 'user'"),
        ("draft.jinja", b"{% block system %}{{ unknown }}{% endblock %}{% block user %}{% endblock %}", "'unknown' is"),
        (
            "draft.jinja",
            b"{% block system %}{{ 1 / 0 }}{% endblock %}{% block user %}{% endblock %}",
            "division by zero",
        ),
        ("draft.jinja", b"{% block system %}\n\n{% block", "draft.jinja does not hold: line 3"),
        ("rules.jinja", b"one\n{{ two", "rules.jinja does not hold: line 2"),
        ("draft.jinja", b"caf\xe9", "draft.jinja does not hold: it is no UTF-8 text"),
        (
            "draft.jinja",
            b"{% include 'absent.jinja' %}" + BLOCKS.encode(),
            "absent.jinja does not hold: it is included",
        ),
        ("draft.jinja", b"{% include [draft, 'x'] | first %}" + BLOCKS.encode(), "written out|write it out"),
        ("drafts.jinja", b"", "nothing in it replaces a prompt"),
    ],
)
def test_a_prompt_that_does_not_hold_is_named(tmp_path: Path, name: str, text: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UserError, match=says) as caught:
        load_prompts(str(tmp_path)).render("draft", **FACTS)
    assert caught.value.exit_code == 2


def test_a_folder_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing in it replaces a prompt"):
        load_prompts(str(tmp_path))
    folder = own(tmp_path, draft=BLOCKS, drafts=BLOCKS)
    with pytest.raises(UserError, match=r"drafts\.jinja replaces nothing and no prompt includes it"):
        load_prompts(folder)


def test_prompts_travel_in_the_wheel() -> None:
    names = {path.stem for path in FOLDER.glob("*.jinja")}
    assert {*CAPTION_PROMPTS, *QA_PROMPTS, "rules", "taxonomy"} == names
