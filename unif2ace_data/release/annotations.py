"""A dataset without its pictures: every record as parquet, with the sources' ids and hashes, and what `join` needs.

annotations/
  index.json                       every other file by size and SHA-256
  README.md                        the card of the annotations
  data/train-000000.parquet …      one row a sample: {key}.json, its columns nested as in the JSON
  dataset/                         the dataset's own files, all but its shards, report and samples.jpg: pictures
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from unif2ace_data.curate.licences import Release, facts_of, manifests_in, release_of
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Release as Stated
from unif2ace_data.release.annotations_index import DATA, DATASET, write_annotations_index
from unif2ace_data.release.card import GATE, GATED_FIELDS, licence_fields, licence_rows, size_category, source_rows
from unif2ace_data.release.datasheet import md, table
from unif2ace_data.release.features import feature
from unif2ace_data.release.read import read_mapping
from unif2ace_data.release.sample_sheet import SAMPLES
from unif2ace_data.schema import Sample
from unif2ace_data.shards import INDEX, read_index, read_samples, write_bytes, writing

PICTURES = ("report.html", SAMPLES)  # files of a dataset, besides its shards, that show faces
KINDS = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


def write_annotations(out: Path, target: Path) -> int:
    """Write the annotations of the dataset at `out` to the new folder `target`; returns the number of samples.

    The same dataset gives the same bytes, with the same version of Arrow's library.
    Raises UserError: `target` is not empty or lies inside `out`, or a file is not the one that the index names by size.
    """
    index, recipe, stats = read_index(out), read_mapping(out / "recipe.yaml"), read_mapping(out / "stats.json")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--out {target} exists and is not empty: choose a new folder", 2)
    if target.resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out {target} lies inside the dataset {out}: choose a folder beside it", 2)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / DATA).mkdir(parents=True)
    count = 0
    for shard in index["shards"]:
        records = [Sample.model_validate_json(files["json"]) for _, files in read_samples(out / shard["name"])]
        count += len(records)
        rows = pa.Table.from_pylist([record.model_dump() for record in records], record_schema())
        with writing(partial / DATA / f"{shard['name'].removesuffix('.tar')}.parquet") as file:
            pq.write_table(rows, file, compression="zstd", row_group_size=50_000)
    for name in [INDEX, *(n for n in index["files"] if n not in PICTURES)]:
        place = partial / DATASET / name
        place.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(place, (out / name).read_bytes())
    release = release_of(facts_of(stats, recipe), annotations_only=True)
    write_bytes(partial / "README.md", annotations_card(stats, recipe, release).encode())
    write_annotations_index(partial, count)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)
    return count


def record_schema() -> pa.Schema:
    """Arrow's types of a record, nested as the JSON is."""
    return pa.schema([(column["name"], arrow_type(column)) for column in feature(Sample)["struct"]])


def arrow_type(column: dict[str, Any]) -> Any:
    if "list" in column:
        inner = column["list"]
        if isinstance(inner, dict):
            return pa.list_(arrow_type(inner))
        return pa.list_(arrow_type({"dtype" if isinstance(inner, str) else "struct": inner}))
    if "struct" in column:
        return pa.struct([(part["name"], arrow_type(part)) for part in column["struct"]])
    return KINDS[column["dtype"]]


def annotations_card(stats: dict[str, Any], recipe: dict[str, Any], release: Release) -> str:
    """README.md of a folder of annotations."""
    splits = [split for split, sums in stats["splits"].items() if sums["shards"]]
    name = str(recipe.get("name", "dataset"))
    files = [{"split": split, "path": f"{DATA}/{split}-*.parquet"} for split in splits]
    head = {
        **licence_fields(Stated.model_validate(recipe.get("release") or {})),
        "language": ["en"],
        "pretty_name": f"{name}: annotations",
        "tags": ["faces", "image-text", "annotations-only", "unif2ace"],
        "size_categories": [size_category(stats["kept"])],
        "annotations_creators": ["machine-generated"],
        "extra_gated_prompt": GATE,
        "extra_gated_fields": GATED_FIELDS,
        "configs": [{"config_name": "default", "data_files": files}],
    }
    reasons = "\n".join(f"- {md(reason)}" for reason in release.reasons)
    body = f"""# {md(name)}: annotations

Captions, claims, questions, attributes, boxes, landmarks and crops' corners of {stats["kept"]:,} faces, without the
pictures: each row names its photograph by the source's id and SHA-256. Whoever has them makes the dataset again:

```text
unif2ace-data join annotations/ --src photographs/ --out shards/
```

{table(("licence of the photographs", "samples"), licence_rows(stats))}

{table(("source", "what it is", "credit"), source_rows(manifests_in(recipe)))}

What follows from the licences for the annotations (a conservative reading, and no legal advice):

{reasons}

They were made by machines; dataset/DATASHEET.md says how, and what they are not fit for. Do not identify the people described.
"""
    yaml_head = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{yaml_head}---\n\n{body}"
