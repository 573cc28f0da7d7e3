"""Why a sample is not in the other dataset: its ledger's row, its photograph's, a removal, or that nobody knows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "release"))
from small_dataset import FULL_LEDGER, row, sha

from unif2ace_data.curate.removal import keyed, no_tombstones, tombstone_bytes
from unif2ace_data.errors import UserError
from unif2ace_data.run.diff_reasons import ANOTHER_FACE, NOT_AN_INPUT, NOT_KNOWN, Reasons
from unif2ace_data.schema import sample_key


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    rows = sorted(rows, key=lambda r: (r["key"] or r["sha256"][:32], r["face"], r["source_id"]))
    pq.write_table(pa.Table.from_pylist(rows, FULL_LEDGER), path)
    return path


def face(name: str, number: int, status: str, reason: str = "", single: bool = False) -> dict[str, Any]:
    key = sample_key(sha(name), number, single)
    return row(f"folder/{name}.jpg", status, key=key, face=number, sha256=sha(name), reason=reason)


def photo(name: str, reason: str, **facts: Any) -> dict[str, Any]:
    return row(f"folder/{name}.jpg", **{"sha256": sha(name), "reason": reason, **facts})


def asked(reasons: Reasons, name: str, number: int | None = None, others: bool = False) -> str:
    key = sample_key(sha(name), number or 0, number is None)
    return reasons(key, {"source": {"sha256": sha(name), "id": f"folder/{name}.jpg"}}, others)


def test_every_way_of_not_being_there(tmp_path: Path) -> None:
    rows = [
        face("one", 0, "dropped", "yaw", single=True),
        face("pair", 0, "kept"), face("pair", 1, "dropped", "adult"),
        photo("crowd", "several_faces"),
        photo("copied", "exact_duplicate"), face("copied", 0, "dropped", "sharpness", single=True),
        face("once", 0, "dropped", "border", single=True),
        face("shared", 0, "kept"),
        photo("torn", "truncated", status="failed", sha256=""), photo("taken", "removed", sha256=""),
    ]  # fmt: skip
    cases = [
        ("one", None, False, "yaw"), ("pair", 1, True, "adult"), ("crowd", 2, False, "several_faces"),
        ("copied", None, False, "sharpness"), ("once", 0, False, "border"), ("shared", 4, True, ANOTHER_FACE),
        ("torn", None, False, "truncated"), ("taken", None, False, "removed"), ("never seen", None, False, NOT_AN_INPUT),
    ]  # fmt: skip
    reasons = Reasons(tmp_path, written(tmp_path / "ledger.parquet", rows))
    for name, number, others, reason in sorted(cases, key=lambda case: sha(case[0])):
        assert asked(reasons, name, number, others) == reason, name


def test_without_the_full_ledger_only_removals_are_known(tmp_path: Path) -> None:
    stones = no_tombstones()
    stones = stones.joined([{"file": keyed(stones.key, "file", sha("gone").encode()), "looks": []}])
    (tmp_path / "removed.json").write_bytes(tombstone_bytes(stones))
    reasons = Reasons(tmp_path, None)
    assert (asked(reasons, "gone"), asked(reasons, "other")) == ("removed", NOT_KNOWN)


def test_a_ledger_out_of_order_is_refused(tmp_path: Path) -> None:
    rows = sorted((photo(f"p{i}", "yaw") for i in range(3)), key=lambda r: str(r["sha256"]), reverse=True)
    pq.write_table(pa.Table.from_pylist(rows, FULL_LEDGER), tmp_path / "ledger.parquet")
    reasons = Reasons(tmp_path, tmp_path / "ledger.parquet")
    with pytest.raises(UserError, match="not in the order of keys"):
        reasons("g" * 32, {"source": {"sha256": "g" * 64, "id": "folder/last.jpg"}}, False)
