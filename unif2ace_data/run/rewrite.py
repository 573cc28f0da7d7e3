"""Rewrite a dataset's shards in place: pictures byte for byte as they were, records anew, and everything that tells of them.

New shards are staged beside the old ones, by whatever workers there are; the old ones stay whole until the last one is
ready. Only then are they exchanged, the index goes first and comes back last. Killed before the exchange, nothing has
happened; killed in it, the next command completes it (`finish`).
"""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from unif2ace_data.curate.licences import manifests_in
from unif2ace_data.errors import UserError
from unif2ace_data.release.read import read_mapping
from unif2ace_data.release.stats import compute_stats
from unif2ace_data.run import pack as packing
from unif2ace_data.run.describe import companions, descriptions, files_of, write_descriptions
from unif2ace_data.run.erase import erase_private, put_tombstones, write_receipt
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.fairness import measured_fairness
from unif2ace_data.run.pack import Planned, ledger_part
from unif2ace_data.run.splice import Change
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import SCHEMA_VERSION
from unif2ace_data.shards import INDEX, read_index, read_samples, sha256_file, write_bytes, write_files, write_index

RECAPTION = "recaption"  # the fact that holds what `caption` was told; a later build keeps to it
ASKED = "asked"  # the fact that holds what the last qa-gen changes in the resolved recipe
HERE = Executor()
SECONDS = 0.002  # our choice: what it takes to read a sample, change it and write it again
SECONDS_TO_SEE = 10  # our choice: longer than the caches of NFS remember
UNDERWAY = "rewrite"  # the fact that a rewrite has been decided and is not yet complete


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of the dataset as it stands: its index entry, the keys it holds, and what its present bytes came from."""

    entry: dict[str, Any]
    keys: list[str]
    base: str
    texts: str

    @property
    def name(self) -> str:
        return str(self.entry["name"])


def present_shards(store: WorkStore, out: Path) -> list[Shard]:
    """The shards that the index names, in its order. Raises UserError where one is missing or of another schema."""
    index = read_index(out)
    if index["schema_version"] != SCHEMA_VERSION:
        raise UserError(
            f"{out} is of schema {index['schema_version']}, this toolkit writes {SCHEMA_VERSION}: build it again"
        )
    found = []
    for entry in index["shards"]:
        path, part = out / entry["name"], ledger_part(out, entry["name"])
        if not path.is_file() or path.stat().st_size != entry["bytes"] or not part.is_file():
            raise UserError(f"{path} or its ledger is missing or not what {INDEX} says: run unif2ace-data verify")
        if not set(packing.TEXT_COLUMNS) <= set(pq.read_schema(part).names):
            raise UserError(f"{part} has not the columns of this version's ledgers: build the dataset again")
        row = store.db.execute(
            "select base, texts from packed where sha256=? order by rowid desc", (entry["sha256"],)
        ).fetchone()
        base, texts = row or (entry["sha256"], "")
        found.append(Shard(entry, pq.read_table(part, columns=["key"])["key"].to_pylist(), base, texts))
    return found


def rewrite(
    store: WorkStore,
    out: Path,
    fingerprints: dict[str, tuple[str, str]],
    shards: list[Shard],
    change: Callable[[Shard], Change],
    recipe_changes: dict[str, Any],
    tick: Callable[[int], None],
    decide: Callable[[], None] = lambda: None,
    on: Executor = HERE,
) -> str:
    """Bring every shard to its new fingerprint and describe the dataset anew; returns its root hash.

    fingerprints: shard name -> (fingerprint, texts id) of what it shall hold; `change(shard)` is a function, which workers
    get, that makes the new record of an old one (same key, same picture; run/splice.py). Shards that have their fingerprint
    already are not opened. `decide` is called when all is staged, in the transaction from which on the dataset is to be the
    new one.
    """
    staging = store.folder / "staging"
    staging.mkdir(exist_ok=True)
    for leftover in staging.glob(".*.partial"):
        leftover.unlink()
    todo = []
    for shard in shards:
        fingerprint, _ = fingerprints[shard.name]
        known = packing.written(store, fingerprint)
        present = (shard.entry["sha256"], sha256_file(ledger_part(out, shard.name)))
        in_place = packing.hashes_of(known) == present
        if in_place or (known is not None and is_staged(staging / f"{fingerprint}.tar")):
            tick(len(shard.keys))
        else:
            todo.append(shard)
    named = {shard.name: shard for shard in todo}
    crew = on.for_work(SECONDS * sum(len(shard.keys) for shard in todo))

    def change_file(shard: Shard) -> Path:
        return staging / f".{fingerprints[shard.name][0]}-change.partial"

    def jobs() -> Iterator[Job]:
        for shard in todo:
            given: Change | Path = change(shard)
            if crew.leaves(len(todo)):
                change_file(shard).write_bytes(pickle.dumps(given))
                given = change_file(shard)
            staged = staging / f"{fingerprints[shard.name][0]}.tar"
            yield Job(out / shard.name, ledger_part(out, shard.name), staged, given)

    with closing(crew.spread(stage_chunk, jobs(), len(todo), 1, lambda job: job.shard.name)) as chunks:
        for name, packed in (pair for chunk in chunks for pair in chunk):
            fingerprint, texts = fingerprints[name]
            change_file(named[name]).unlink(missing_ok=True)
            if not seen_staged(staging / f"{fingerprint}.tar"):
                raise UserError(
                    f"a worker staged {name}, and it is not in {staging}: every node needs the same file system as the driver"
                )
            packing.remember(store, fingerprint, packed, named[name].base, texts)
            tick(len(named[name].keys))
    planned = [
        {**{k: shard.entry[k] for k in ("name", "split", "prefix")}, "fingerprint": fingerprints[shard.name][0]}
        for shard in shards
    ]
    return exchange(store, out, planned, read_index(out)["counts"], recipe_changes, decide)


def exchange(
    store: WorkStore,
    out: Path,
    planned: list[dict[str, Any]],
    counts: dict[str, Any],
    recipe_changes: dict[str, Any],
    decide: Callable[[], None],
    removal: dict[str, Any] | None = None,
) -> str:
    """Decide, once all is staged, and put the new dataset into the place of the old one; returns its root hash.

    planned: name, split, prefix and fingerprint of each shard to be; one that is there and not among them goes. removal:
    what else a removal takes away (run/remove.py).
    """
    plan = {"planned": planned, "counts": counts, "recipe": recipe_changes, "removal": removal}
    with store.transaction():
        decide()
        store.set_fact(UNDERWAY, orjson.dumps(plan).decode())
    return finish(store, out) or ""


@dataclass(frozen=True, slots=True)
class Job:
    """A shard and its ledger as they stand, where the new ones go, and what makes a new record of an old one.

    `change`: to another process in a file, since it holds a shard's questions and two jobs a worker are under way at once.
    """

    shard: Path
    ledger: Path
    staged: Path
    change: Change | Path


def is_staged(tar: Path) -> bool:
    return tar.is_file() and tar.with_suffix(".parquet").is_file()


def seen_staged(tar: Path) -> bool:
    """Whether what a worker has staged is here, or comes in some seconds: file systems of networks remember what was not."""
    for _ in range(SECONDS_TO_SEE):
        if is_staged(tar):
            return True
        time.sleep(1)
    return is_staged(tar)


def stage_chunk(jobs: list[Job]) -> list[tuple[str, packing.Packed]]:
    """In a worker: the name of each shard, and what was staged for it. Raises UserError where the disk does not take it."""
    return [(job.shard.name, stage(job)) for job in jobs]


def stage(job: Job) -> packing.Packed:
    facts: dict[str, dict[str, Any]] = {}
    change: Change = pickle.loads(job.change.read_bytes()) if isinstance(job.change, Path) else job.change

    def samples() -> Iterator[tuple[str, bytes, bytes, bytes]]:
        for key, files in read_samples(job.shard):
            new = change(files["json"])
            facts[key] = new.facts
            yield key, files["jpg"], new.record, new.caption

    # A node that counts as lost may still be writing the same shard.
    own = job.staged.with_name(f".{job.staged.stem}-{socket.gethostname()}-{os.getpid()}.partial")
    info = write_files(own, samples())
    ledger = pq.read_table(job.ledger)
    rows = [facts[key] for key in ledger["key"].to_pylist()]
    for name, kind in packing.TEXT_COLUMNS.items():
        values = pa.array([row[name] for row in rows], kind)
        ledger = ledger.set_column(ledger.schema.get_field_index(name), name, values)
    own_ledger = own.with_suffix(".parquet.partial")
    ledger_sha256 = packing.write_table(own_ledger, ledger)
    own_ledger.replace(job.staged.with_suffix(".parquet"))
    own.replace(job.staged)
    return packing.Packed(info, ledger_sha256)


def finish(store: WorkStore, out: Path) -> str | None:
    """Complete a rewrite that was decided: exchange the shards, describe, index. None where none is under way."""
    fact = store.fact(UNDERWAY)
    if not fact:
        return None
    plan = orjson.loads(fact)
    planned = [Planned(p["name"], p["split"], p["prefix"], [], p["fingerprint"]) for p in plan["planned"]]
    before = {p.name: sha256_file(out / p.name) for p in planned if (out / p.name).is_file()}
    packing.publish(store, planned, out)
    entries = []
    for p in planned:
        known = packing.written(store, p.fingerprint)
        if known is None:
            raise UserError(f"{store.folder} has lost what it staged: run `unif2ace-data build` again")
        info = known.shard
        entries.append(
            {
                "name": p.name, "split": p.split, "prefix": p.prefix, "samples": info.samples,
                "bytes": info.bytes, "sha256": info.sha256,
            }
        )  # fmt: skip
    removal = plan.get("removal")
    if removal:
        (out / INDEX).unlink(missing_ok=True)  # also where no shard changed: the private ledger is about to
    found = erase_private(store, removal, [str(e["sha256"]) for e in entries]) if removal else {}
    if before != {e["name"]: e["sha256"] for e in entries} or not (out / INDEX).is_file():
        update_full_ledger(store, out, [p.name for p in planned])
    root = describe_again(store, out, entries, plan["counts"], plan["recipe"], removal)
    if removal:
        write_receipt(store, removal, root, found)
    store.set_fact(UNDERWAY, "")
    return root


def give_up(store: WorkStore, out: Path) -> None:
    """Forget a rewrite that cannot be completed: `build` packs anew. A removal that was decided stays decided.

    What it deletes from the store went in the same transaction, and the tombstones are kept there as well.
    """
    fact = store.fact(UNDERWAY)
    removal = orjson.loads(fact).get("removal") if fact else None
    if removal:
        (out / INDEX).unlink(missing_ok=True)
        erase_private(store, removal, [])
    store.set_fact(UNDERWAY, "")


def update_full_ledger(store: WorkStore, out: Path, names: list[str]) -> None:
    """The private ledger's columns about captions, from the ledgers of the kept."""
    path = store.folder / "ledger.parquet"
    if not path.is_file():
        return
    columns = ["key", *packing.TEXT_COLUMNS]
    kept = pa.concat_tables([pq.read_table(ledger_part(out, name), columns=columns) for name in names])
    place = {key: i for i, key in enumerate(kept["key"].to_pylist())}
    full = pq.read_table(path)
    rows = [
        place.get(key, -1) if status == "kept" else -1
        for key, status in zip(full["key"].to_pylist(), full["status"].to_pylist(), strict=True)
    ]
    for name, kind in packing.TEXT_COLUMNS.items():
        said, old = kept[name].to_pylist(), full[name].to_pylist()
        values = pa.array([said[r] if r >= 0 else o for r, o in zip(rows, old, strict=True)], kind)
        full = full.set_column(full.schema.get_field_index(name), name, values)
    packing.write_table(path, full)


def describe_again(
    store: WorkStore, out: Path, shards: list[dict[str, Any]], counts: dict[str, Any], recipe_changes: dict[str, Any],
    removal: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Recipe, stats, datasheet, card, report and index of a dataset whose shards are in place."""
    (out / INDEX).unlink(missing_ok=True)
    if removal:
        put_tombstones(out, removal["tombstones"])
        earlier = read_mapping(out / "stats.json")
        write_bytes(out / "stats.json", orjson.dumps(earlier | removal["losses"], option=orjson.OPT_INDENT_2) + b"\n")
    recipe = merged(read_mapping(out / "recipe.yaml"), recipe_changes)
    full = store.folder / "ledger.parquet"
    stats = compute_stats(out, full if full.is_file() else None, fairness=measured_fairness(store, out))
    write_descriptions(out, descriptions(out, stats, recipe, manifests_of(store, recipe), shards))
    return write_index(out, shards, files_of(out, companions(shards)), counts)


def manifests_of(store: WorkStore, recipe: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The sources' manifests: as the recipe tells them or the build kept them, or by name; None where one is not known."""
    kept = store.fact("manifests")
    if kept and "manifests" not in (recipe.get("resolved") or {}):
        return list(orjson.loads(kept))
    found = manifests_in(recipe)
    return found if all(m.get("found", True) for m in found) else None


def merged(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`recipe` with the (nested) values of `changes`."""
    result = dict(recipe)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result
