"""Fairness of a dataset's filters, from the private measurements: the ledger says what became of a face, the store who it is.

Only the sums of curate/fairness.py leave. Where the store or its measurements are gone there is nothing to count, and
stats.json keeps what it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.curate.fairness import Groups, fairness, groups_of
from unif2ace_data.release.read import ledger_batches, sample_records, shard_paths
from unif2ace_data.run.store import WorkStore

ANALYSIS = "analysis"  # the fact that holds under which config the last build measured
COLUMNS = ["sha256", "face", "status", "reason"]


def measured_fairness(store: WorkStore, out: Path) -> dict[str, Any] | None:
    """The section `fairness` of stats.json; None where the private measurements of this dataset are not at hand."""
    config, ledger = store.fact(ANALYSIS), store.folder / "ledger.parquet"
    if not config or not ledger.is_file() or not store.has_analyses(config):
        return None
    return fairness(rows_of(store, ledger, config), samples_of(store, out, config))


def rows_of(store: WorkStore, ledger: Path, config: str) -> Iterator[tuple[Groups, str]]:
    """Every face that a filter saw. A photo that was dropped as a whole counts by its largest face (our choice)."""
    for batch in ledger_batches(ledger, COLUMNS):
        for row in batch.to_pylist():
            if row["status"] != "failed" and row["sha256"]:
                groups = face_groups(store, row["sha256"], max(0, row["face"]), config)
                if groups:
                    yield groups, "" if row["status"] == "kept" else row["reason"]


def samples_of(store: WorkStore, out: Path, config: str) -> Iterator[tuple[Groups, dict[str, Any]]]:
    for shard in shard_paths(out):
        for record in sample_records(shard):
            face = int(record["uid"].partition("-")[2] or 0)
            yield face_groups(store, record["source"]["sha256"], face, config), record


def face_groups(store: WorkStore, sha256: str, face: int, config: str) -> Groups:
    row = store.db.execute("select record from analyses where sha256=? and config=?", (sha256, config)).fetchone()
    faces = orjson.loads(row[0])["faces"] if row else []
    return groups_of(faces[face]) if face < len(faces) else {}
