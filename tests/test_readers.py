"""The shards are what other tools expect: `datasets` (streaming and not), `webdataset`, and energon's prepare and lint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import webdataset

from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_index


@pytest.fixture(scope="module")
def shards(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("readers") / "shards"
    recipe = load_recipe(
        "embedded", ["subjects=adults", "duplicates.perceptual=null", "duplicates.near_identical=false"]
    )
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(photos))]}), out, quiet=True)
    return out


def test_webdataset_decodes_every_sample(shards: Path) -> None:
    urls = [str(shards / s["name"]) for s in read_index(shards)["shards"]]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    assert len(samples) == read_index(shards)["counts"]["kept"]
    for sample in samples:
        record = Sample.model_validate(sample["json"])
        assert sample["jpg"].size == (record.image.width, record.image.height)
        assert sample["txt"] == record.caption


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_loads_every_split(shards: Path, tmp_path: Path, streaming: bool) -> None:
    import datasets

    files = {split: str(shards / f"{split}-*.tar") for split in ("train", "validation", "test")}
    loaded = datasets.load_dataset("webdataset", data_files=files, streaming=streaming, cache_dir=str(tmp_path))
    counts = {split: sum(1 for _ in loaded[split]) for split in files}
    expected = dict.fromkeys(files, 0)
    for shard in read_index(shards)["shards"]:
        expected[shard["split"]] += shard["samples"]
    assert counts == expected
    first = next(iter(loaded["train"]))
    assert first["json"]["uid"] == first["__key__"] and first["jpg"].size[0] == first["json"]["image"]["width"]
    assert first["txt"] == first["json"]["caption"]


@pytest.mark.slow
def test_energon_prepares_and_lints_it(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "energon"
    copy.mkdir()
    for shard in read_index(shards)["shards"]:
        shutil.copy(shards / shard["name"], copy)
    energon = str(Path(sys.executable).with_name("energon"))
    parts = [
        f"--split-parts={ours}:{split}-.*"
        for ours, split in (("train", "train"), ("val", "validation"), ("test", "test"))
    ]
    prepare = [energon, "prepare", "--non-interactive", "--no-progress", *parts, "--sample-type", "CaptioningSample"]
    prepare += ["--field-map", json.dumps({"image": "jpg", "caption": "txt"}), str(copy)]
    done = subprocess.run(prepare, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    info = json.loads((copy / ".nv-meta" / ".info.json").read_text())
    assert sum(info["shard_counts"].values()) == read_index(shards)["counts"]["kept"]
    lint = subprocess.run([energon, "lint", "--split-parts", "train", str(copy)], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr
