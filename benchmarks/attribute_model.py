"""What the attribute model reaches on the portraits: built with their labels, trained, then used in a build.

    python benchmarks/attribute_model.py --photos FOLDER [--encoder face] [--keep DIR]

FOLDER holds images/ and labels.csv (apparent gender) of the portraits that benchmarks/labels/portraits.csv labels by
eye. Both kinds of labels go into sidecars beside links to the photographs; everything else is what a user runs:
`unif2ace-data build`, `unif2ace-model attributes`, and `unif2ace-data build --attributes` on the photographs alone.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.run.local import usable_cores
from unif2ace_data.schema import Sample
from unif2ace_data.shards import dataset_shards, read_samples
from unif2ace_data.taxonomy import load_taxonomy
from unif2ace_model.attributes import train
from unif2ace_model.card import HEADER, lines_of

LABELS = Path(__file__).resolve().parent / "labels" / "portraits.csv"
# Every fourth portrait shows a woman: for 30 cases of a value like that, validation needs a third of them.
SPLITS = ["splits.train=0.4", "splits.validation=0.35", "splits.test=0.25"]


def labels_of(photos: Path) -> dict[str, dict[str, str]]:
    """File -> attribute -> value: by eye (the first label counts), and the apparent gender of all.

    Labels that are no value of the taxonomy ("none": a bald head's hair colour) are left out.
    """
    lines = [line for line in LABELS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    taxonomy = load_taxonomy()
    labels: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(lines):
        said = labels.setdefault(row["file"], {})
        for name, value in row.items():
            if name in taxonomy and not taxonomy[name].on_request and value in taxonomy[name].values:
                said.setdefault(name, value)
    with (photos / "labels.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            labels.setdefault(row["file"], {}).setdefault("apparent_gender", row["gender"])
    return labels


def link_photos(photos: Path, raw: Path, labels: dict[str, dict[str, str]] | None) -> None:
    raw.mkdir(parents=True)
    for photo in sorted((photos / "images").iterdir()):
        (raw / photo.name).symlink_to(photo.resolve())
        if labels is not None:
            sidecar = {"licence": "public domain (US Government work)", "attributes": labels.get(photo.name, {})}
            (raw / photo.name).with_suffix(".json").write_bytes(orjson.dumps(sidecar))


def build_from(raw: Path, out: Path, model: Path | None = None) -> float:
    """Seconds that it took."""
    recipe = load_recipe("embedded", ["subjects=adults", *SPLITS])
    changes = {"sources": [SourceSpec(path=str(raw))], "attributes": str(model) if model else None}
    started = time.monotonic()
    build(recipe.model_copy(update=changes), out, usable_cores())
    return time.monotonic() - started


def compare(out: Path, labels: dict[str, dict[str, str]]) -> list[str]:
    """What the measurements, the model, and both together state of the portraits in `test`, and how often it is right.

    Together as captions do it: where they disagree, nothing is said.
    """
    right: dict[str, Counter[str]] = {who: Counter() for who in ("measured", "model", "together")}
    stated: dict[str, Counter[str]] = {who: Counter() for who in right}
    for shard in dataset_shards(out):
        for _, files in read_samples(shard):
            sample = Sample.model_validate_json(files["json"])
            truth = labels.get(sample.source.id.rpartition("/")[2], {})
            if sample.split != "test":
                continue
            for name, value in truth.items():
                given = [a for a in sample.attributes if a.name == name and a.validated]
                by = {
                    "measured": {a.value for a in given if not a.evidence.by.startswith("attributes:")},
                    "model": {a.value for a in given if a.evidence.by.startswith("attributes:")},
                    "together": {a.value for a in given},
                }
                for who, values in by.items():
                    if len(values) == 1:
                        stated[who][name] += 1
                        right[who][name] += value in values
    lines = ["| attribute | measured: stated (right) | model: stated (right) | together |", "|---|---:|---:|---:|"]
    for name in load_taxonomy().attributes:
        if stated["model"][name]:
            cells = [f"{stated[who][name]} ({right[who][name] / max(stated[who][name], 1):.3f})" for who in right]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of the labelled portraits")
    parser.add_argument("--encoder", default="face", help="as for `unif2ace-model attributes`")
    parser.add_argument("--keep", type=Path, help="work here and leave everything for a look")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.keep or Path(temporary)
        home.mkdir(exist_ok=True)
        labels = labels_of(options.photos)
        if not (home / "labelled").is_dir():
            link_photos(options.photos, home / "labelled", labels)
            link_photos(options.photos, home / "plain", None)
        build_from(home / "labelled", home / "shards")
        started = time.monotonic()
        report = train(home / "shards", home / "attributes.onnx", options.encoder)
        trained = time.monotonic() - started
        print("\n".join([HEADER, *(line for finding in report.findings for line in lines_of(finding))]))
        for name, why in report.left_out.items():
            print(f"left out: {name}: {why}")
        without = build_from(home / "plain", home / "plain-shards")
        again = build_from(home / "plain", home / "plain-shards", home / "attributes.onnx")
        print("\n".join(compare(home / "plain-shards", labels)))
        faces = len(report.labelled.keys)
        print(f"{faces} labelled faces; trained in {trained:.1f} s; model {report.out.stat().st_size:,} bytes")
        print(f"build without the model {without:.1f} s; with it over what is there {again:.1f} s")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(error.message)
