"""`card`: written from the data, and every edited number found again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unif2ace_data.cli import app
from unif2ace_data.curate.licences import manifests_in
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.release.datasheet import datasheet_text, people_blocks
from unif2ace_data.release.read import read_mapping
from unif2ace_data.release.sample_sheet import SAMPLES, sample_sheet
from unif2ace_data.run.build import build
from unif2ace_data.run.card import check_card, write_card
from unif2ace_data.run.qa_gen import qa_gen
from unif2ace_data.shards import read_index, read_samples, write_index
from unif2ace_data.verify import verify

RECIPE = load_recipe("embedded", ["subjects=adults"])


@pytest.fixture(scope="module")
def built(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the examples with questions, and its private folder. Read only."""
    out = tmp_path_factory.mktemp("card") / "shards"
    recipe = RECIPE.model_copy(update={"sources": [SourceSpec(path=str(examples))]})
    build(recipe, out, quiet=True)
    qa_gen(out, recipe, quiet=True)
    return out


@pytest.fixture
def shards(built: Path, tmp_path: Path) -> Path:
    """A copy, as somebody has it who got the dataset: without the private folder."""
    return Path(shutil.copytree(built, tmp_path / "shards"))


def edit(path: Path, pattern: str, replacement: str) -> int:
    """Change the one place that `pattern` matches; returns its line."""
    text = path.read_text()
    place = re.search(pattern, text)
    assert place, pattern
    path.write_text(text[: place.start()] + place.expand(replacement) + text[place.end() :])
    return text.count("\n", 0, place.start()) + 1


def test_every_build_writes_them_and_they_hold(built: Path, shards: Path) -> None:
    assert verify(built).holds and check_card(built) == [] and check_card(shards) == []
    assert {"README.md", "croissant.json", "DATASHEET.md", "stats.json"} <= read_index(built)["files"].keys()


EDITS = [
    ("README.md", r"\b5 faces, cut out", "6 faces, cut out"),
    ("README.md", r"num_examples: 3", "num_examples: 4"),
    ("README.md", r"download_size: \d+", "download_size: 1"),
    ("README.md", r"(\d+) supported by evidence", "1 supported by evidence"),
    ("DATASHEET.md", r"5, out of 7 inputs", "5, out of 8 inputs"),
    ("DATASHEET.md", r"Of (\d+) claims", "Of 2 claims"),
    ("DATASHEET.md", r"\| no_face \| dropped \| 1 \|", "| no_face | dropped | 2 |"),
    ("stats.json", r'"kept": 5', '"kept": 50'),
    ("stats.json", r'"dropped": 2', '"dropped": 3'),
    ("stats.json", r'"tokens_max": \d+', '"tokens_max": 7'),
    ("stats.json", r'"others": \[\n\s+0', '"others": [\n        9'),
    ("croissant.json", r'"sha256": "[0-9a-f]{6}', '"sha256": "aaaaaa'),
    ("croissant.json", r'"contentSize": "\d+ B"', '"contentSize": "12 B"'),
    ("croissant.json", r"One caption, [\d.]+", "One caption, 99.9"),
]


@pytest.mark.parametrize(("name", "pattern", "replacement"), EDITS)
def test_each_edited_number_is_named_with_its_file_and_line(
    shards: Path, name: str, pattern: str, replacement: str
) -> None:
    line = edit(shards / name, pattern, replacement)
    found = [d for d in check_card(shards) if d.file == name]
    assert found
    if "others" not in pattern:  # what only the lost ledger could tell is found by the file's hash
        assert any(d.line == line and d.stated != d.true for d in found)


def test_people_may_write_in_their_blocks_and_card_takes_them_over(shards: Path) -> None:
    for name in ("README.md", "DATASHEET.md"):
        edit(shards / name, "_Not answered yet._", "Some 12 faces, we think, for 3 tests.")
    found = check_card(shards)  # the count of open questions is a number too
    assert [d.file for d in found] == ["DATASHEET.md"] and "Open questions" in found[0].true
    root = write_card(shards, [])
    assert check_card(shards) == [] and verify(shards).holds and read_index(shards)["root_sha256"] == root
    assert "Some 12 faces" in (shards / "README.md").read_text()


def test_card_mends_what_was_edited_and_is_the_same_wherever_it_runs(built: Path, shards: Path) -> None:
    root = read_index(built)["root_sha256"]
    for name, pattern, replacement in EDITS:
        if "others" not in pattern:
            edit(shards / name, pattern, replacement)
    assert write_card(shards, []) == root


def test_what_is_stated_of_licences_stays_over_a_later_build(built: Path, examples: Path, tmp_path: Path) -> None:
    for name in ("shards", "shards.work"):
        shutil.copytree(built.parent / name, tmp_path / name)
    out = tmp_path / "shards"
    write_card(out, ["release.licence=cc-by-4.0"])
    assert "license: cc-by-4.0" in (out / "README.md").read_text() and verify(out).holds
    build(RECIPE.model_copy(update={"sources": [SourceSpec(path=str(examples))]}), out, quiet=True)
    assert read_mapping(out / "recipe.yaml")["release"]["licence"] == "cc-by-4.0" and check_card(out) == []
    write_card(out, ["release.licence="])
    assert read_mapping(out / "recipe.yaml")["release"]["licence"] == ""


def test_a_broken_block_or_setting_changes_nothing(shards: Path) -> None:
    before = (shards / "index.json").read_bytes()
    with pytest.raises(UserError, match=r"release.licens"):
        write_card(shards, ["release.licens=mit"])
    edit(shards / "README.md", "<!-- /people -->", "")
    with pytest.raises(UserError, match="do not nest"):
        write_card(shards, [])
    assert (shards / "index.json").read_bytes() == before


def test_a_missing_file_is_a_difference(shards: Path) -> None:
    (shards / "croissant.json").unlink()
    assert [(d.file, d.line) for d in check_card(shards)] == [("croissant.json", 0)]


def test_the_card_shows_the_first_faces_of_train_with_their_captions(built: Path, shards: Path) -> None:
    index, text = read_index(built), (built / "README.md").read_text()
    train = [shard for shard in index["shards"] if shard["split"] == "train"]
    told = [json.loads(files["json"])["caption"] for s in train for _, files in read_samples(built / s["name"])]
    assert len(told) == 1 and SAMPLES in index["files"]
    assert re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text) == [
        ("The first face of the train split, cut out and aligned, numbered, with captions below", SAMPLES)
    ]
    assert re.findall(r"^\d\. (.*)$", text, re.MULTILINE) == told
    assert (built / SAMPLES).read_bytes() == sample_sheet(built, index["shards"])[0]
    before = (shards / SAMPLES).read_bytes()
    (shards / SAMPLES).write_bytes(before + b"\0")
    assert [str(d) for d in check_card(shards)] == [
        "samples.jpg: states 'a picture of other bytes', the data say 'the first faces of train'"
    ]
    assert [p.partition(":")[0] for p in verify(shards).problems] == [SAMPLES]
    (shards / SAMPLES).unlink()
    assert [(d.file, d.stated) for d in check_card(shards)] == [(SAMPLES, "")]
    assert [p.partition(":")[0] for p in verify(shards).problems] == [SAMPLES]
    write_card(shards, [])
    assert (shards / SAMPLES).read_bytes() == before and check_card(shards) == [] and verify(shards).holds


def test_the_command_says_where_and_exits_with_1(shards: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["card", str(shards), "--check"]).exit_code == 0
    line = edit(shards / "README.md", r"\b5 faces, cut out", "6 faces, cut out")
    said = run(app, ["card", str(shards), "--check"])
    assert said.exit_code == 1 and f"README.md:{line}:" in said.output
    told = json.loads(run(app, ["card", str(shards), "--check", "--json"]).output)
    assert not told["holds"] and told["differences"][0]["line"] == line
    assert run(app, ["card", str(shards), "--json"]).exit_code == 0
    assert run(app, ["card", str(shards), "--check"]).exit_code == 0


def test_the_repositorys_own_datasheet_is_that_of_the_demo(built: Path, examples: Path, tmp_path: Path) -> None:
    """Run `make datasheet` where this fails. What people wrote in it is theirs."""
    root = examples.parent.parent
    shards = Path(shutil.copytree(built.parent, tmp_path / "demo")) / built.name  # what is measured already
    splits = re.findall(r"--set (splits\.\w+=\S+)", (root / "Makefile").read_text())
    recipe = load_recipe("embedded", ["subjects=adults", *splits])
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(examples))]})
    build(recipe, shards, quiet=True)
    qa_gen(shards, recipe, quiet=True)
    own, resolved = root / "DATASHEET.md", read_mapping(shards / "recipe.yaml")
    true = datasheet_text(read_mapping(shards / "stats.json"), resolved, manifests_in(resolved), people_blocks(own))
    assert len(splits) == 3 and own.read_text() == true


def test_an_index_that_says_otherwise_of_the_dropped_is_believed(shards: Path) -> None:
    """Without the full ledger the index, whose hash the root covers, is what tells of drops."""
    index = read_index(shards)
    counts = index["counts"] | {
        "inputs": 8,
        "inputs_dropped": 3,
        "rows": 8,
        "dropped": 3,
        "reasons": {"no_face": 2, "border": 1},
    }
    write_index(shards, index["shards"], index["files"], counts)
    found = check_card(shards)
    assert {d.file for d in found} == {"stats.json", "README.md", "DATASHEET.md", "croissant.json"}
