"""The dataset card and the Croissant file: what the Hub, `datasets` and mlcroissant make of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_dataset import Dataset, jpeg, sample, write_dataset

from unif2ace_data.curate.licences import check_release, front_matter
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.card import card_text, size_category
from unif2ace_data.release.croissant import croissant_bytes
from unif2ace_data.release.datasheet import people_blocks
from unif2ace_data.release.features import flat_fields, hub_features
from unif2ace_data.release.stats import compute_stats
from unif2ace_data.run.describe import stats_bytes
from unif2ace_data.shards import sha256_file
from unif2ace_data.sources.manifest import load_manifest

FOLDER = load_manifest("folder").model_dump()
PACK = {"name": "embedded", "licence": "MIT AND Apache-2.0 AND CC0-1.0", "non_commercial": False}


def entries(out: Path) -> list[dict[str, Any]]:
    return [
        {"name": p.name, "split": p.name.split("-")[0], "prefix": "", "samples": 1, "bytes": p.stat().st_size,
         "sha256": sha256_file(p)}
        for p in sorted(out.glob("*.tar"))
    ]  # fmt: skip


def write(dataset: Dataset, manifests: list[dict[str, Any]] | None = None, **recipe: Any) -> dict[str, Any]:
    """Write card and Croissant file; returns the YAML at the card's head."""
    manifests = [FOLDER] if manifests is None else manifests
    resolved = Recipe(name="small", **recipe).model_dump() | {
        "resolved": {"manifests": manifests, "face_pack": PACK, "models": {"detector": "ab" * 32}}
    }
    stats, shards = compute_stats(dataset.out, dataset.ledger), entries(dataset.out)
    (dataset.out / "stats.json").write_bytes(stats_bytes(stats))
    (dataset.out / "recipe.yaml").write_text(yaml.safe_dump(resolved))
    answers = people_blocks(dataset.out / "README.md")
    (dataset.out / "README.md").write_text(card_text(stats, resolved, manifests, shards, answers))
    (dataset.out / "croissant.json").write_bytes(croissant_bytes(stats, resolved, manifests, shards))
    return front_matter(dataset.out / "README.md")


def test_the_head_is_what_the_hub_reads(dataset: Dataset) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    head = write(dataset)
    card = huggingface_hub.DatasetCard.load(dataset.out / "README.md")
    assert card.data.to_dict() == head
    assert card.data.license == "other" and card.data.license_name == "each-photograph-its-own"
    assert card.data.size_categories == ["n<1K"] and "webdataset" in card.data.tags
    assert card.data.configs[0]["data_files"] == [
        {"split": split, "path": f"{split}-*.tar"} for split in ("train", "validation", "test")
    ]
    info = head["dataset_info"]
    assert [s["num_examples"] for s in info["splits"]] == [4, 2, 1]
    assert info["dataset_size"] == sum(s["num_bytes"] for s in info["splits"])
    assert info["dataset_size"] == sum(p.stat().st_size for p in dataset.out.glob("*.tar"))


def test_the_body_tells_numbers_licences_and_the_way_out(dataset: Dataset) -> None:
    write(dataset, manifests=[FOLDER | {"removal": "write to the owner", "attribution": "A. Person"}])
    text = (dataset.out / "README.md").read_text()
    for fact in (
        "7 faces, cut out of 12 photographs",
        "| train | 4 | 1 |",
        "| CC0-1.0 | 7 |",
        "7 of 7 samples name an author",
        "The freest licence that carries all of it: `cc0-1.0`",
        "write to the owner",
        "A. Person",
        "train-{000000..000000}.tar",
    ):
        assert fact in text


def test_what_people_wrote_in_the_card_survives(dataset: Dataset) -> None:
    write(dataset)
    path = dataset.out / "README.md"
    path.write_text(path.read_text().replace("_Not answered yet._", "Seven faces to try things on.", 1))
    write(dataset)
    assert people_blocks(path)["card-about"] == "Seven faces to try things on."


def test_features_are_those_that_datasets_would_write(dataset: Dataset) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features._from_yaml_list(hub_features())
    assert features._to_yaml_list() == hub_features()
    paths = [path for _, _, path, _ in flat_fields()]
    assert "$.claims[*].span[*]" in paths and "$.image.quad[*][*]" in paths and len(paths) == len(set(paths))


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_loads_the_folder_by_its_card(dataset: Dataset, tmp_path: Path, streaming: bool) -> None:
    """Also where the first samples have empty lists, from which types cannot be told."""
    datasets = pytest.importorskip("datasets")
    write(dataset)
    loaded = datasets.load_dataset(str(dataset.out), streaming=streaming, cache_dir=str(tmp_path / "cache"))
    assert {split: sum(1 for _ in loaded[split]) for split in loaded} == {"train": 4, "validation": 2, "test": 1}
    first = next(iter(loaded["train"]))
    assert (
        first["json"]["qa"] == [] and first["json"]["claims"][0]["span"] == [14, 23] and first["jpg"].size == (96, 96)
    )
    assert first["txt"] == first["json"]["caption"] and first["__key__"] == first["json"]["uid"]


@pytest.mark.parametrize(
    ("samples", "category"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (130_000, "100K<n<1M"), (10_000_000, "n>10M")],
)
def test_size_categories(samples: int, category: str) -> None:
    assert size_category(samples) == category


def test_croissant_is_valid(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    write(dataset)
    with caplog.at_level(logging.WARNING):
        croissant = mlcroissant.Dataset(jsonld=str(dataset.out / "croissant.json"))
    issues = croissant.metadata.ctx.issues
    assert not issues.errors
    # What only people can say: how to cite it, and when it was published.
    assert len(issues.warnings) == 2 and all("citeAs" in w or "datePublished" in w for w in issues.warnings)
    assert "not standard" not in caplog.text
    files = {f.uuid: f for f in croissant.metadata.distribution}
    assert files["train-000000.tar"].sha256 == sha256_file(dataset.out / "train-000000.tar")
    assert {r.uuid for r in croissant.metadata.record_sets} == {"records", "pictures"}
    rai = croissant.metadata.to_json()
    assert rai["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert "14 claims" in str(rai["rai:dataAnnotationAnalysis"]) and "detector" in str(
        rai["rai:machineAnnotationTools"]
    )


# ------------------------------------------------------------------ what may be stated


def test_a_licence_that_the_sources_allow_may_be_stated(dataset: Dataset) -> None:
    assert write(dataset, release={"licence": "CC-BY-4.0"})["license"] == "cc-by-4.0"
    assert "cc-by-4.0" in check_release(dataset.out).allowed


def test_a_licence_that_they_do_not_allow_is_refused_with_its_reasons(tmp_path: Path) -> None:
    mine = sample("a").source.model_copy(update={"licence": "CC BY-NC 2.0"})
    dataset = write_dataset(tmp_path, [(sample("a", source=mine), jpeg())], [])
    write(dataset, release={"licence": "mit"})
    with pytest.raises(UserError) as refused:
        check_release(dataset.out)
    for part in ("'mit'", "recipe.yaml", "1 photograph: CC BY-NC 2.0: credit, not commercial", "cc-by-nc-4.0"):
        assert part in refused.value.message
    write(dataset)
    assert check_release(dataset.out).non_commercial
    path = dataset.out / "README.md"
    path.write_text(path.read_text().replace("license: other", "license: apache-2.0"))
    with pytest.raises(UserError, match=r"'apache-2.0', as README.md states"):
        check_release(dataset.out)


def test_a_closed_source_gives_its_annotations_only(dataset: Dataset) -> None:
    closed = FOLDER | {"redistribution": False}
    write(dataset, manifests=[closed])
    assert "may not be released" in (dataset.out / "README.md").read_text()
    with pytest.raises(UserError, match="--annotations-only"):
        check_release(dataset.out)
    assert check_release(dataset.out, annotations_only=True).allowed


def test_no_dataset_no_release(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipe.yaml"):
        check_release(tmp_path)
