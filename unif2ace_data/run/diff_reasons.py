"""Why a sample of one dataset is not in another: what the other's full ledger says of its photograph, where it is at hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unif2ace_data.curate.removal import REMOVED, read_tombstones
from unif2ace_data.errors import UserError
from unif2ace_data.release.read import ledger_batches

NOT_KNOWN = "not known"  # the full ledger is not at hand
NOT_AN_INPUT = "not an input"
ANOTHER_FACE = "another face of the photo"  # is there, this one is not
COLUMNS = ["source_id", "key", "face", "sha256", "status", "reason"]
COPY = "exact_duplicate"  # tells of a copy, not of the photograph


class Reasons:
    """Answers, in the order of keys, why samples are not in the dataset at `out`. ledger: its full one, or None.

    Held in memory are the rows of one photograph, and inputs whose bytes are not known (unreadable, or removed).
    """

    def __init__(self, out: Path, ledger: Path | None) -> None:
        self.tombstones, self.known = read_tombstones(out), ledger is not None
        self.unread: dict[str, str] = dict(unread_inputs(ledger)) if ledger else {}
        self.photos = photos_lost(ledger) if ledger else iter(())
        self.here = next(self.photos, None)

    def __call__(self, key: str, record: Mapping[str, Any], others: bool) -> str:
        source = record["source"]
        if self.tombstones and self.tombstones.has_file(source["sha256"]):
            return REMOVED
        while self.here and self.here[0] < key[:32]:
            self.here = next(self.photos, None)
        rows = self.here[1] if self.here and self.here[0] == key[:32] else []
        if reason := reason_in(rows, key):
            return reason
        if others:
            return ANOTHER_FACE
        if rows:
            return str(rows[0]["reason"])
        return self.unread.get(source["id"], NOT_AN_INPUT) if self.known else NOT_KNOWN


def reason_in(rows: list[dict[str, Any]], key: str) -> str:
    """Of the rows of a photograph, that of the sample; else that of the photograph as a whole; else of the same number."""
    number = int(key[33:]) if key[33:].isdigit() else 0
    told = [row for row in rows if row["reason"] != COPY]
    for fits in (lambda row: row["key"] == key, lambda row: not row["key"], lambda row: row["face"] == number):
        for row in told:
            if fits(row):
                return str(row["reason"])
    return ""


def photos_lost(ledger: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(first 32 digits of the hash, rows that were not kept) of each photograph, in the ledger's order, that of the digits."""
    last = ""
    for photo, rows in itertools.groupby(lost_rows(ledger), key=lambda row: row["sha256"][:32]):
        if photo <= last:
            raise UserError(f"{ledger} is not in the order of keys; run unif2ace-data build again")
        last = photo
        yield photo, list(rows)


def lost_rows(ledger: Path) -> Iterator[dict[str, Any]]:
    for batch in ledger_batches(ledger, COLUMNS):
        table = pa.Table.from_batches([batch])
        lost = pc.and_(pc.not_equal(table["status"], "kept"), pc.not_equal(table["sha256"], ""))
        yield from table.filter(lost).to_pylist()


def unread_inputs(ledger: Path) -> Iterator[tuple[str, str]]:
    """(source id, reason) of inputs whose bytes the ledger does not name."""
    for batch in ledger_batches(ledger, COLUMNS):
        table = pa.Table.from_batches([batch]).filter(pc.equal(batch["sha256"], ""))
        yield from zip(table["source_id"].to_pylist(), table["reason"].to_pylist(), strict=True)
