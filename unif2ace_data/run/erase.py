"""What a removal takes away besides samples, and how it stays away. Every step may be done twice: a kill comes anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unif2ace_data.curate.removal import (
    REMOVED,
    TOMBSTONES,
    WHY,
    Tombstones,
    look_of_jpeg,
    parse_tombstones,
    read_tombstones,
    tombstone_bytes,
)
from unif2ace_data.llm.journal import JOURNAL, Journal
from unif2ace_data.release.annotations_index import ANNOTATIONS
from unif2ace_data.run import pack as packing
from unif2ace_data.run.decide import Row
from unif2ace_data.run.store import WorkStore
from unif2ace_data.shards import INDEX, write_bytes

IN_FORCE = "tombstones"  # the fact that holds removed.json: who deletes OUT and builds again brings nobody back
RECEIPTS = "removals"  # folder in OUT.work


def in_force(store: WorkStore, out: Path, kind: str, crops: str) -> Tombstones | None:
    """The tombstones of the dataset at `out`, and the store without anything that they match. None: there are none.

    kind: how faces are aligned (curate/removal.py), crops: the hash under which crops are kept.
    """
    path, known = out / TOMBSTONES, store.fact(IN_FORCE)
    if known and not path.is_file():
        put_tombstones(out, known)
    stones = read_tombstones(out)
    if stones is None:
        return None
    mine = parse_tombstones(path, known.encode()) if known else stones
    if mine.key == stones.key:  # an older file was put back, or a removal was decided and its exchange failed
        stones = stones.joined(mine.stones)
        put_tombstones(out, tombstone_bytes(stones).decode())
    told = tombstone_bytes(stones).decode()
    if told != known:
        with store.transaction():
            store.db.execute("update inputs set error_code=null, error_message=null where error_code=?", (REMOVED,))
            store.forget(matching(store, stones, kind, crops))
            store.set_fact(IN_FORCE, told)
    return stones


def put_tombstones(out: Path, content: str) -> None:
    """Write removed.json; an index that does not list it goes first, as for every other file."""
    path = out / TOMBSTONES
    if path.is_file() and path.read_bytes() == content.encode():
        return
    (out / INDEX).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.encode())


def matching(store: WorkStore, stones: Tombstones, kind: str, crops: str) -> list[str]:
    """SHA-256 of the photographs in the store that were removed, or are copies of such."""
    return [
        sha256
        for sha256, photo, faces in looks_in_store(store, crops)
        if stones.has_file(sha256) or stones.has_any(photo, kind, faces)
    ]


def looks_in_store(store: WorkStore, crops: str) -> Iterator[tuple[str, np.ndarray | None, list[np.ndarray]]]:
    """(SHA-256, look of the whole photo where it is known, looks of the faces that have a crop) of every photo."""
    known = store.db.execute(
        "select sha256 from inputs where sha256 is not null union select sha256 from analyses order by 1"
    ).fetchall()
    for (sha256,) in known:
        rows = store.db.execute(
            "select jpeg from crops where config=? and (key=? or (key>=? and key<?)) order by key",
            (crops, sha256[:32], f"{sha256[:32]}-", f"{sha256[:32]}."),
        )
        yield sha256, store.look(sha256), [look_of_jpeg(jpeg) for (jpeg,) in rows.fetchall()]


# ------------------------------------------------------------------ the private ledger and its sums


def without(full: pa.Table, datasets: dict[str, str]) -> pa.Table:
    """The full ledger with one row `dropped: removed` in the place of all rows of these inputs (source id -> dataset)."""
    kept = full.filter(pc.invert(pc.is_in(full["source_id"], pa.array(list(datasets), pa.string()))))
    rows = [Row(s, dataset, "dropped", REMOVED, detail=WHY) for s, dataset in datasets.items()]
    told = pa.table(
        [pa.array([getattr(row, name) for row in rows], full.schema.field(name).type) for name in full.schema.names],
        schema=full.schema,
    )
    both = pa.concat_tables([kept, told])
    first = pc.if_else(pc.equal(both["key"], ""), pc.utf8_slice_codeunits(both["sha256"], 0, 32), both["key"])
    order = pc.sort_indices(
        pa.table({"first": first, "face": both["face"], "source_id": both["source_id"]}),
        sort_keys=[("first", "ascending"), ("face", "ascending"), ("source_id", "ascending")],
    )
    return both.take(order).combine_chunks()


def sums(full: pa.Table) -> dict[str, Any]:
    """The index's counts of a full ledger, as run/describe.py makes them of a decision."""
    fate: dict[str, set[str]] = {"kept": set(), "failed": set(), "dropped": set()}
    rows: dict[str, int] = dict.fromkeys(fate, 0)
    reasons: dict[str, int] = {}
    columns = (full[name].to_pylist() for name in ("source_id", "status", "reason"))
    for source_id, status, reason in zip(*columns, strict=True):
        fate[status].add(source_id)
        rows[status] += 1
        if status != "kept":
            reasons[reason] = reasons.get(reason, 0) + 1
    fate["failed"] -= fate["kept"]
    fate["dropped"] -= fate["kept"] | fate["failed"]
    return {
        "inputs": sum(map(len, fate.values())),
        **{f"inputs_{status}": len(fate[status]) for status in ("kept", "dropped", "failed")},
        "rows": sum(rows.values()),
        **{status: rows[status] for status in ("kept", "dropped", "failed")},
        "reasons": dict(sorted(reasons.items())),
    }


def sums_less(counts: dict[str, Any], photographs: int, samples: int) -> dict[str, Any]:
    """The index's counts where the full ledger is not here: so many photographs, with so many samples, were kept."""
    reasons = counts["reasons"] | {REMOVED: counts["reasons"].get(REMOVED, 0) + photographs}
    return {
        **counts,
        "inputs_kept": counts["inputs_kept"] - photographs,
        "inputs_dropped": counts["inputs_dropped"] + photographs,
        "rows": counts["rows"] - samples + photographs,
        "kept": counts["kept"] - samples,
        "dropped": counts["dropped"] + photographs,
        "reasons": dict(sorted(reasons.items())),
    }


def losses_less(stats: dict[str, Any], datasets: list[str], samples: dict[str, int]) -> dict[str, Any]:
    """What only the full ledger can tell (release/stats.py), taken over from stats.json, after a removal.

    datasets: that of each removed photograph; samples: dataset -> removed samples.
    """
    if "reasons" not in stats:
        return {}
    rows = {r["reason"]: dict(r) for r in stats["reasons"] if r["status"] == "dropped"}
    entry = rows.get(REMOVED, {"reason": REMOVED, "status": "dropped", "rows": 0})
    others = [r for r in stats["reasons"] if (r["status"], r["reason"]) != ("dropped", REMOVED)]
    place = next((i for i, r in enumerate(others) if r["status"] == "dropped"), len(others))
    others.insert(place, {**entry, "rows": entry["rows"] + len(datasets)})
    tallies = {name: dict(tally) for name, tally in stats["datasets"].items()}
    for name, tally in tallies.items():
        tally["kept"] -= samples.get(name, 0)
        tally["dropped"] += datasets.count(name)
    return {
        "inputs": stats["inputs"], "dropped": stats["dropped"] + len(datasets), "failed": stats["failed"],
        "reasons": others, "datasets": tallies,
    }  # fmt: skip


# ------------------------------------------------------------------ after the exchange


def erase_private(store: WorkStore, removal: dict[str, Any], shards: list[str]) -> dict[str, int]:
    """The private ledger's rows, a model's answers, and everything that was made of shards that are gone.

    shards: SHA-256 of those that the dataset now has. Returns what was found: answers, and answers of unknown samples.
    """
    path = store.folder / "ledger.parquet"
    if path.is_file():
        packing.write_table(path, without(pq.read_table(path), removal["datasets"]))
    (store.folder / "ledger.new.parquet").unlink(missing_ok=True)
    for page in ("report.html", "audit.html"):  # with thumbnails; their commands write them anew
        (store.folder / page).unlink(missing_ok=True)
    shutil.rmtree(store.folder / "audit", ignore_errors=True)  # embeddings that an audit measured
    for folder in (ANNOTATIONS, f".{ANNOTATIONS}.partial"):  # records, as they were published
        shutil.rmtree(store.folder / folder, ignore_errors=True)
    for form in (store.folder / "review").glob(
        "review.*"
    ):  # pictures to be judged; what was answered stands in the store
        form.unlink()
    for cache in (store.folder / "model").glob("*"):  # codes and face features by shard (unif2ace_model)
        if cache.is_dir() and not any(sha256.startswith(cache.name) for sha256 in shards):
            shutil.rmtree(cache, ignore_errors=True)
    if not (store.folder / JOURNAL).is_file():
        return {"answers": 0, "answers_of_unknown_samples": 0}
    journal = Journal(store.folder / JOURNAL)
    try:
        return {"answers": journal.forget(removal["keys"]), "answers_of_unknown_samples": journal.of_nobody()}
    finally:
        journal.close()


def write_receipt(store: WorkStore, removal: dict[str, Any], root: str, found: dict[str, int]) -> dict[str, Any]:
    """`OUT.work/removals/TIME.json`: what was changed, without anything of the photograph but its samples' keys."""
    receipt = {**removal["receipt"], "root_after": root}
    receipt["forgotten"] = {**receipt["forgotten"], **found}
    folder = store.folder / RECEIPTS
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{receipt['at'].replace(':', '')}.json"
    if path.is_file():  # killed behind this line: the first count of the answers was the right one
        return dict(orjson.loads(path.read_bytes()))
    write_bytes(path, orjson.dumps(receipt, option=orjson.OPT_INDENT_2) + b"\n")
    return receipt


def last_receipt(store: WorkStore) -> dict[str, Any]:
    found = sorted((store.folder / RECEIPTS).glob("*.json"))
    return dict(orjson.loads(found[-1].read_bytes())) if found else {}
