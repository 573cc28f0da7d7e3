"""`remove`: photographs out of a dataset, for good. Only the shards that hold them change; what remains is a tombstone.

All is staged first (run/rewrite.py). In one transaction the store then forgets the photographs and decides the exchange: a
kill before it leaves the old dataset, a kill behind it one that the next writing command completes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unif2ace_data.curate.removal import Tombstones, no_tombstones, read_tombstones, tombstone_bytes
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.read import pick, read_mapping
from unif2ace_data.run import pack as packing
from unif2ace_data.run.decide import SETTLED, dealt
from unif2ace_data.run.erase import IN_FORCE, last_receipt, losses_less, sums, sums_less, without
from unif2ace_data.run.find import (
    Match,
    Photograph,
    add_looks,
    by_key,
    by_likeness,
    by_sha256,
    by_source,
    photographs,
    sorted_matches,
    with_copies,
)
from unif2ace_data.run.pack import NAMES, ledger_part
from unif2ace_data.run.private import recipe_at, work_folder, working_store
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.recaption import shards_there
from unif2ace_data.run.rewrite import Shard, exchange, finish, present_shards
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import Sample
from unif2ace_data.shards import ShardInfo, read_index, read_samples, sha256_file, write_shard

BEGINNING = 80  # characters of a caption that are shown


@dataclass(frozen=True, slots=True)
class Selector:
    """Exactly one of these. `key` may be the beginning of one."""

    key: str | None = None
    source_id: str | None = None
    sha256: str | None = None
    like: Path | None = None

    @property
    def kind(self) -> str:
        """The option that was given. Raises UserError where it is none, or several."""
        options = {"key": self.key, "source-id": self.source_id, "sha256": self.sha256, "like": self.like}
        given = [name for name, value in options.items() if value is not None]
        if len(given) != 1:
            raise UserError("say what to remove by exactly one of --key, --source-id, --sha256, --like", 2)
        return given[0]


@dataclass(frozen=True, slots=True)
class Found:
    """A photograph that would be removed, for the user to look at. `keys`: its samples; none where it was dropped before."""

    keys: list[str]
    source_ids: list[str]
    split: str
    caption: str
    why: str
    score: float


def remove(
    out: Path, selector: Selector, agree: Callable[[list[Found], list[str]], None], quiet: bool = False
) -> dict[str, Any]:
    """Remove what `selector` means from the dataset at `out`; returns the receipt.

    `agree(found, notes)` is asked first, and raises UserError where it shall not be. Raises UserError (exit code 2): nothing
    or too much is meant, or nothing would be left.
    """
    kind = selector.kind
    shards_there(out)
    with working_store(out) as store, closing(Log(store.folder / "log.jsonl")) as log:
        completed = finish(store, out) is not None
        shards, recipe = present_shards(store, out), recipe_at(out)
        known = photographs(store, out, shards)
        add_looks(store, out, shards, known)
        try:
            found, notes = select(store, out, shards, known, recipe, selector)
        except UserError as error:
            receipt = last_receipt(store) if completed else {}
            if receipt:  # the command that was killed, given again
                return receipt
            raise UserError(error.message, error.exit_code) from None
        meant, stones = with_copies(store, known, found, read_tombstones(out) or no_tombstones(), recipe)
        told = [as_found(out, shards, known[sha256], match) for sha256, match in sorted_matches(meant.items())]
        agree(told, notes)
        gone = {key for sha256 in meant for key in known[sha256].keys}
        if gone and len(gone) == sum(len(shard.keys) for shard in shards):
            raise UserError(
                f"nothing would be left of {out}: a dataset holds at least one sample. To delete all of it: "
                f"rm -r {out} {work_folder(out)}",
                2,
            )
        log.write("remove", selector=kind, photographs=len(meant), samples=len(gone))
        take_out(store, out, shards, [known[sha256] for sha256 in meant], gone, stones, recipe, kind, quiet)
        return last_receipt(store)


def select(
    store: WorkStore, out: Path, shards: list[Shard], known: dict[str, Photograph], recipe: Recipe, selector: Selector
) -> tuple[dict[str, Match], list[str]]:
    if selector.like is not None:
        return by_likeness(store, out, shards, known, recipe, selector.like)
    if selector.key is not None:
        return by_key(known, selector.key), []
    if selector.source_id is not None:
        return by_source(known, selector.source_id), []
    return by_sha256(known, selector.sha256 or ""), []


def as_found(out: Path, shards: list[Shard], photo: Photograph, match: Match) -> Found:
    caption = ""
    for shard in shards:
        if mine := set(photo.keys[:1]) & set(shard.keys):
            caption = next(pick(out / shard.name, mine))[0].caption
    beginning = caption if len(caption) <= BEGINNING else caption[: BEGINNING - 1] + "…"
    return Found(sorted(photo.keys), sorted(photo.sources), photo.split, beginning, match.why, match.score)


# ------------------------------------------------------------------ the new dataset


def take_out(
    store: WorkStore, out: Path, shards: list[Shard], photos: list[Photograph], gone: set[str], stones: Tombstones,
    recipe: Recipe, kind: str, quiet: bool,
) -> None:  # fmt: skip
    """Stage the shards without `gone`, decide, exchange. `photos`: all whose samples, measurements and inputs go."""
    index, stats = read_index(out), read_mapping(out / "stats.json")
    staging = store.folder / "staging"
    staging.mkdir(exist_ok=True)
    for leftover in staging.glob(".*.partial"):
        leftover.unlink()
    progress = Progress("packing", sum(len(shard.keys) for shard in shards if gone & set(shard.keys)), quiet)
    planned, changed, splits = [], [], {}
    for shard in shards:
        left = [key for key in shard.keys if key not in gone]
        splits.update(dict.fromkeys(left, str(shard.entry["split"])))
        fingerprint = present(store, out, shard)
        after = None
        if len(left) < len(shard.keys):
            if left:
                fingerprint, after = stage_without(store, out, shard, fingerprint, gone, staging)
            changed.append(
                {
                    "name": shard.name, "split": shard.entry["split"], "before": shard.entry["sha256"],
                    "after": after.sha256 if after else None, "samples_before": len(shard.keys), "samples_after": len(left),
                }
            )  # fmt: skip
            progress.advance(len(shard.keys), [])
        if left:
            planned.append(
                {**{name: shard.entry[name] for name in ("name", "split", "prefix")}, "fingerprint": fingerprint}
            )
    progress.close()
    datasets = {source_id: dataset for photo in photos for source_id, dataset in photo.sources.items()}
    sha256s = [photo.sha256 for photo in photos]
    content = tombstone_bytes(stones).decode()
    receipt: dict[str, Any] = {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "selector": kind,
        "photographs": len(photos),
        "inputs": len(datasets),
        "keys": sorted(gone),
        "shards": changed,
        "root_before": index["root_sha256"],
    }
    counts, losses = new_sums(store, index["counts"], stats, photos, datasets)
    removal = {
        "tombstones": content,
        "datasets": datasets,
        "keys": sorted({key for photo in photos for key in photo.face_keys}),
        "losses": losses,
        "receipt": receipt,
    }

    def decide() -> None:
        forgotten = store.forget(sha256s)
        store.mark_removed(datasets)
        store.settle(splits)
        store.set_fact(SETTLED, dealt(recipe))
        store.set_fact(NAMES, names_of(shards))
        store.set_fact(IN_FORCE, content)
        receipt["forgotten"] = dict(sorted(forgotten.items()))

    exchange(store, out, planned, counts, {}, decide, removal)


def present(store: WorkStore, out: Path, shard: Shard) -> str:
    """A fingerprint under which the shard as it stands is known, so that its bytes are not made anew."""
    part = sha256_file(ledger_part(out, shard.name))
    fingerprint = hashlib.sha256(f"as it stands {shard.entry['sha256']} {part}".encode()).hexdigest()
    if packing.written(store, fingerprint) is None:
        info = ShardInfo(shard.entry["sha256"], shard.entry["bytes"], shard.entry["samples"])
        packing.remember(store, fingerprint, packing.Packed(info, part), shard.base, shard.texts)
    return fingerprint


def stage_without(
    store: WorkStore, out: Path, shard: Shard, fingerprint: str, gone: set[str], staging: Path
) -> tuple[str, ShardInfo]:
    """Stage a shard and its ledger part without these samples; (its fingerprint, what it holds)."""
    mine = sorted(gone & set(shard.keys))

    def less(before: str) -> str:
        return hashlib.sha256(f"{before} without {' '.join(mine)}".encode()).hexdigest()

    staged = staging / f"{less(fingerprint)}.tar"

    def samples() -> Iterator[tuple[str, bytes, Sample]]:
        for key, files in read_samples(out / shard.name):
            if key not in gone:
                yield key, files["jpg"], Sample.model_validate_json(files["json"])

    info = write_shard(staged, samples())
    ledger = pq.read_table(ledger_part(out, shard.name))
    left = ledger.filter(pc.invert(pc.is_in(ledger["key"], pa.array(mine, pa.string()))))
    part = packing.write_table(staged.with_suffix(".parquet"), left.combine_chunks())
    packing.remember(store, less(fingerprint), packing.Packed(info, part), less(shard.base), shard.texts)
    return less(fingerprint), info


def new_sums(
    store: WorkStore, counts: dict[str, Any], stats: dict[str, Any], photos: list[Photograph], datasets: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the index's counts; what stats.json takes over where the full ledger is not here to be counted)."""
    full = store.folder / "ledger.parquet"
    if full.is_file():
        return sums(without(pq.read_table(full), datasets)), {}
    samples: Counter[str] = Counter()
    for photo in photos:
        samples[next(iter(photo.sources.values()))] += len(photo.keys)
    return (
        sums_less(counts, len(datasets), samples.total()),
        losses_less(stats, list(datasets.values()), dict(samples)),
    )


def names_of(shards: list[Shard]) -> str:
    """The fact NAMES: a later build gives every shard that is left the name that it has."""
    names = {f"{shard.entry['split']}/{shard.entry['prefix']}": shard.name for shard in shards}
    return orjson.dumps({"digits": max(len(str(s.entry["prefix"])) for s in shards), "names": names}).decode()
