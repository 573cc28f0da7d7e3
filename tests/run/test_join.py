"""Annotations without pictures, and the same dataset again from them and the photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from unif2ace_data.cli import app
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec
from unif2ace_data.release.annotations import record_schema, write_annotations
from unif2ace_data.run.join import join
from unif2ace_data.schema import Sample
from unif2ace_data.shards import dataset_shards, read_index, read_samples
from unif2ace_data.verify import verify


@pytest.fixture(scope="module")
def notes(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The annotations of the dataset. Read only."""
    target = tmp_path_factory.mktemp("notes") / "annotations"
    assert write_annotations(built, target) == 5
    return target


def copy_by_other_names(examples: Path, target: Path) -> Path:
    target.mkdir()
    for number, photo in enumerate(sorted(p for p in examples.iterdir() if p.suffix in (".jpg", ".png"))):
        shutil.copy(photo, target / f"{number}{photo.suffix}")
    return target


def test_rows_are_the_records_and_no_pixel_is_there(built: Path, notes: Path) -> None:
    for shard in dataset_shards(built):
        table = pq.read_table(notes / "data" / f"{shard.stem}.parquet")
        assert table.schema == record_schema()
        rows = [Sample.model_validate(row) for row in table.to_pylist()]
        assert rows == [Sample.model_validate_json(files["json"]) for _, files in read_samples(shard)]
    files = [p for p in notes.rglob("*") if p.is_file()]
    assert not any(b"\xff\xd8\xff" in p.read_bytes() or b"data:image" in p.read_bytes() for p in files)
    assert not any(p.suffix in (".tar", ".html", ".jpg") for p in files)


def test_the_joined_dataset_is_the_original_byte_for_byte(
    built: Path, notes: Path, examples: Path, tmp_path: Path
) -> None:
    """Also from a copy whose files have other names: what counts is the hash."""
    photos = copy_by_other_names(examples, tmp_path / "photos")
    done = join(notes, [SourceSpec(path=str(photos))], tmp_path / "shards")
    assert not done.missing and done.identical == done.shards and done.samples == 5
    mine = {p.relative_to(tmp_path / "shards") for p in (tmp_path / "shards").rglob("*") if p.is_file()}
    assert mine == {p.relative_to(built) for p in built.rglob("*") if p.is_file()}
    for name in mine:
        assert (tmp_path / "shards" / name).read_bytes() == (built / name).read_bytes(), name
    assert done.root_sha256 == read_index(built)["root_sha256"]


def test_what_is_missing_or_other_is_listed_and_stops_the_join(notes: Path, examples: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(examples, photos)
    (photos / "biden.jpg").unlink()
    with (photos / "obama.jpg").open("ab") as file:
        file.write(b"\0")
    run, out = CliRunner().invoke, tmp_path / "shards"
    said = run(app, ["join", str(notes), "--src", str(photos), "--out", str(out)])
    assert said.exit_code == 1 and not out.exists()
    assert "2 samples lack their photograph" in said.output and "folder/obama.jpg its SHA-256 is" in said.output
    rows = [json.loads(line) for line in (tmp_path / "shards.missing.jsonl").read_text().splitlines()]
    assert {(r["source_id"], r["reason"]) for r in rows} == {
        ("folder/biden.jpg", "missing"),
        ("folder/obama.jpg", "other_hash"),
    }
    said = run(app, ["join", str(notes), "--src", str(photos), "--out", str(out), "--partial", "--json"])
    told = json.loads(said.output)
    assert said.exit_code == 0 and told["samples"] == 3 and len(told["missing"]) == 2
    assert verify(out).problems == []
    counts = read_index(out)["counts"]
    assert (counts["kept"], counts["failed"], counts["reasons"]["photo_missing"]) == (3, 2, 2)
    assert run(app, ["card", str(out), "--check"]).exit_code == 0


def test_wrong_folders_are_wrong_usage(built: Path, notes: Path, examples: Path, tmp_path: Path) -> None:
    here = [SourceSpec(path=str(examples))]
    for call in (
        lambda: write_annotations(built, notes),
        lambda: write_annotations(built, built / "annotations"),
        lambda: join(built, here, tmp_path / "shards"),
        lambda: join(notes, here, built),
        lambda: join(notes, [SourceSpec(path=str(tmp_path / "nowhere"))], tmp_path / "shards"),
    ):
        with pytest.raises(UserError) as refused:
            call()
        assert refused.value.exit_code == 2
    assert not (tmp_path / "shards").exists() and verify(built).holds
