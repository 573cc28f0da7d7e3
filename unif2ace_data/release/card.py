"""README.md: the dataset card. YAML for the Hub at its head, then what the dataset is, in numbers from the data.

Written anew with every build, `caption`, `qa-gen` and `card`; people's marked blocks stay, as in the datasheet.
Our choice: one picture, samples.jpg (release/sample_sheet.py), and none inside the text. That one is a file of the dataset
as a shard is: a removal rewrites it and cuts its history, and in a gated repo the Hub shows it only to whom it lets read files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import yaml

from unif2ace_data.curate.licences import OTHER, Release, facts_of, release_of
from unif2ace_data.recipe import Release as Stated
from unif2ace_data.release.datasheet import UNSAID, asking, former_answers, md, percent, said, table, unique
from unif2ace_data.release.features import hub_features
from unif2ace_data.release.sample_sheet import SAMPLES
from unif2ace_data.shards import root_hash

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
GATE = (
    "This dataset shows faces of people. By asking for access you agree not to identify anybody shown, not to train "
    "face recognition on it, and to delete pictures that are removed from it."
)
GATED_FIELDS = {
    "I will not try to identify the people shown": "checkbox",
    "I will delete what is removed from the dataset": "checkbox",
    "What I want to use it for": "text",
}


def card_text(
    stats: dict[str, Any],
    recipe: dict[str, Any],
    manifests: list[dict[str, Any]],
    shards: list[dict[str, Any]],
    answers: dict[str, str],
    captions: Sequence[str] = (),
) -> str:
    """The whole card. shards: their entries in the index; answers: block id -> what people wrote there.

    captions: those of the faces in samples.jpg, in its order; without any the card shows no picture.
    """
    release = release_of(facts_of(stats, recipe, manifests))
    asked: list[str] = []
    people = asking(answers, asked)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unif2ace_data", "release"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(md=md, percent=percent, n=lambda number: f"{number:,}")
    body = environment.get_template("card.md.j2").render(
        stats=stats,
        name=recipe.get("name", "dataset"),
        stated=Stated.model_validate(recipe.get("release") or {}),
        release=release,
        people=people,
        splits=table(("split", "samples", "shards", "MB"), split_rows(stats)),
        licences=table(("licence of the photographs", "samples"), licence_rows(stats)),
        sources=table(("source", "what it is", "credit"), source_rows(manifests)),
        routes=table(
            ("source", "removal route of the source"),
            [(m.get("name", ""), said(m, "removal") or UNSAID) for m in manifests],
        ),
        present=[split for split, sums in stats["splits"].items() if sums["shards"]],
        shards_sha256=shards_hash(shards),
        captions=captions,
        picture=SAMPLES,
    )
    parts = [body.strip(), *former_answers(people, answers, asked)]
    head = yaml.safe_dump(front(stats, recipe, manifests, release), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def front(
    stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]], release: Release
) -> dict[str, Any]:
    """The YAML at the head, as the Hub and `datasets` read it."""
    splits = {split: sums for split, sums in stats["splits"].items() if sums["shards"]}
    asked = ["visual-question-answering"] if stats["qa"]["total"] else []
    total = sum(sums["bytes"] for sums in splits.values())
    return {
        **licence_fields(Stated.model_validate(recipe.get("release") or {})),
        "language": ["en"],
        "pretty_name": str(recipe.get("name", "dataset")),
        "tags": [
            "webdataset",
            "faces",
            "image-text",
            "croissant",
            "unif2ace",
            *(["non-commercial"] * release.non_commercial),
        ],
        "size_categories": [size_category(stats["kept"])],
        "task_categories": ["image-to-text", "text-to-image", *asked],
        "annotations_creators": ["machine-generated"],
        "source_datasets": sorted(m["name"] if m.get("layout") != "folder" else "original" for m in unique(manifests)),
        "extra_gated_prompt": GATE,
        "extra_gated_fields": GATED_FIELDS,
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}-*.tar"} for split in splits],
            }
        ],
        "dataset_info": {
            "config_name": "default",
            "features": hub_features(),
            "splits": [
                {"name": split, "num_bytes": sums["bytes"], "num_examples": sums["samples"]}
                for split, sums in splits.items()
            ],
            "download_size": total,
            "dataset_size": total,
        },
    }


def licence_fields(stated: Stated) -> dict[str, str]:
    """`license` as somebody stated it; where nobody did: each photograph its own, for nothing is granted in their name."""
    licence = stated.licence.casefold() or OTHER
    if licence != OTHER:
        return {"license": licence}
    link = {"license_link": stated.licence_link} if stated.licence_link else {}
    return {"license": OTHER, "license_name": stated.licence_name or "each-photograph-its-own", **link}


def size_category(samples: int) -> str:
    return next((name for limit, name in SIZES if samples < limit), "n>10M")


def split_rows(stats: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(s, n["samples"], n["shards"], f"{n['bytes'] / 1e6:,.2f}") for s, n in stats["splits"].items()]


def licence_rows(stats: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(name or "not stated", count) for name, count in stats["licences"].items()]


def source_rows(manifests: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (
            m.get("name", ""),
            " ".join(filter(None, (said(m, "title"), said(m, "homepage")))),
            said(m, "attribution") or UNSAID,
        )
        for m in unique(manifests)
    ]


def shards_hash(shards: list[dict[str, Any]]) -> str:
    """One hash over the shards. (The dataset's root hash covers this card too, so it stands in index.json alone.)"""
    return root_hash((shard["name"], shard["sha256"]) for shard in shards)
