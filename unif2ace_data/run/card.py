"""`card`: what tells of a dataset, written anew from its data, or compared with its data line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unif2ace_data.curate.licences import manifests_in
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import set_key, validated
from unif2ace_data.release.read import read_mapping
from unif2ace_data.release.sample_sheet import SAMPLES
from unif2ace_data.release.stats import compute_stats, funnel_place
from unif2ace_data.run.describe import companions, descriptions, files_of, write_descriptions
from unif2ace_data.run.private import work_folder
from unif2ace_data.shards import read_index, sha256_file, write_index

COMPARED = ("stats.json", "README.md", "DATASHEET.md", "croissant.json")


@dataclass(frozen=True, slots=True)
class Difference:
    """One line that is not what the data say. `line`: from 1, in the file as it is; 0: the file as a whole."""

    file: str
    line: int
    stated: str
    true: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: states {self.stated or 'nothing'!r}, the data say {self.true or 'nothing'!r}"


def write_card(out: Path, changes: list[str]) -> str:
    """Write statistics, card, its picture, datasheet, Croissant and report of the dataset at `out` anew; returns its root hash.

    changes: `release.KEY=VALUE` settings that go into recipe.yaml. Raises UserError, with nothing changed, where the
    sources are not known, or a setting or a people's block is wrong.
    """
    index = read_index(out)
    recipe = stated(out, changes)
    write_descriptions(out, descriptions(out, recount(out, index), recipe, manifests(out, recipe), index["shards"]))
    return write_index(out, index["shards"], files_of(out, companions(index["shards"])), index["counts"])


def check_card(out: Path) -> list[Difference]:
    """Every line of stats.json, README.md, DATASHEET.md and croissant.json that the data contradict; people's blocks aside.

    And samples.jpg as a whole, where it is not the picture that this version of Pillow makes of the samples.
    What the samples and ledgers hold is counted again. Sums of what was dropped are those of the full ledger where it lies
    beside, else those of the index; where a number stands in neither, stats.json must be the file that the index names.
    """
    index = read_index(out)
    recipe = stated(out, [])
    true = descriptions(out, recount(out, index), recipe, manifests(out, recipe), index["shards"])
    found = [d for name in COMPARED for d in compare(out / name, true[name].decode("utf-8", "replace"))]
    found += compare_picture(out / SAMPLES, true.get(SAMPLES, b""))
    entry = index["files"].get("stats.json", {})
    untouched = (out / "stats.json").is_file() and sha256_file(out / "stats.json") == entry.get("sha256")
    if not untouched and not any(d.file == "stats.json" for d in found):
        found.append(Difference("stats.json", 0, "other bytes than were written", f"SHA-256 {entry.get('sha256')}"))
    return found


def compare(path: Path, true: str) -> Iterator[Difference]:
    if not path.is_file():
        yield Difference(path.name, 0, "", "a file that is missing: run unif2ace-data card")
        return
    here, there = path.read_text("utf-8", "replace").splitlines(), true.splitlines()
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, here, there, autojunk=False).get_opcodes():
        for step in range(max(i2 - i1, j2 - j1) if kind != "equal" else 0):
            said = here[i1 + step].strip() if i1 + step < i2 else ""
            holds = there[j1 + step].strip() if j1 + step < j2 else ""
            yield Difference(path.name, min(i1 + step, len(here) - 1) + 1, said, holds)


def compare_picture(path: Path, true: bytes) -> Iterator[Difference]:
    stated = path.read_bytes() if path.is_file() else b""
    if stated != true:
        yield Difference(
            path.name, 0, *("a picture of other bytes" * bool(stated), "the first faces of train" * bool(true))
        )


def recount(out: Path, index: dict[str, Any]) -> dict[str, Any]:
    """The statistics, counted from the data; nothing is taken over from stats.json that the data can tell."""
    ledger = work_folder(out) / "ledger.parquet"
    if ledger.is_file():
        return compute_stats(out, ledger)
    stats, counts = compute_stats(out, None), index["counts"]
    for name in ("inputs", "rows", "dropped", "failed"):
        stats[name] = counts[name]
    status = {r["reason"]: r["status"] for r in stats["reasons"]}
    reasons = [{"reason": r, "status": status.get(r, "dropped"), "rows": n} for r, n in counts["reasons"].items()]
    stats["reasons"] = sorted(reasons, key=lambda r: funnel_place((r["status"], r["reason"])))
    return stats


def stated(out: Path, changes: list[str]) -> dict[str, Any]:
    """The resolved recipe of a dataset, with changes under `release`."""
    recipe = read_mapping(out / "recipe.yaml")
    if not recipe:
        raise UserError(f"{out / 'recipe.yaml'} is missing: verify the dataset, or build it again")
    section = {"release": dict(recipe.get("release") or {})}
    for change in changes:
        set_key(section, change)
    section["release"] = {key: "" if value is None else value for key, value in section["release"].items()}
    told = validated(section, "recipe.yaml with what you set").release
    return {**recipe, "release": told.model_dump()} if changes or "release" in recipe else recipe


def manifests(out: Path, recipe: dict[str, Any]) -> list[dict[str, Any]]:
    found = manifests_in(recipe)
    if lost := [m["name"] for m in found if not m.get("found", True)]:
        raise UserError(
            f"{out}: the manifest {lost[0]} is not at hand, and an earlier version built this dataset without keeping it: "
            "build it again"
        )
    return found
