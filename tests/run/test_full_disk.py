"""A disk that is full, or a file that it spoiled: the message names the file, and nothing stays half done."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.run.progress import Log
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import InputRef


def ref(name: str) -> InputRef:
    return InputRef(name, "folder", "file", f"/raw/{name}", "1-1")


def test_a_full_work_store_names_itself_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = WorkStore(tmp_path / "shards.work")
    store.list_inputs([ref("a"), ref("b")])
    pages = store.db.execute("pragma page_count").fetchone()[0]
    store.db.execute(f"pragma max_page_count={pages}")  # SQLite says the same of a full disk
    with (
        pytest.raises(sqlite3.OperationalError, match=f"{tmp_path}/shards.work/work.sqlite: .*full"),
        store.transaction(),
    ):
        store.put_failure("a", "truncated", "half of it")
        store.put_crop("key", "config", bytes(1 << 20), 256, 0.0)
    assert not store.db.in_transaction
    assert store.db.execute("select error_code from inputs").fetchall() == [(None,), (None,)], "half a chunk was kept"
    store.db.execute("pragma max_page_count=1000000")
    with store.transaction():
        store.put_crop("key", "config", bytes(1 << 20), 256, 0.0)
    assert store.has_crop("key", "config")
    store.close()


def test_a_damaged_work_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "shards.work").mkdir()
    (tmp_path / "shards.work" / "work.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match=r"work\.sqlite is damaged .*move it away"):
        WorkStore(tmp_path / "shards.work")


@pytest.mark.parametrize(
    "read",
    [
        list,
        lambda rows: rows.fetchall(),
        lambda rows: rows.fetchmany(3000),
        lambda rows: [rows.fetchone() for _ in range(3000)],
    ],
    ids=["iterated", "fetchall", "fetchmany", "fetchone"],
)
def test_a_damaged_page_is_told_however_its_rows_are_read(
    tmp_path: Path, read: Callable[[sqlite3.Cursor], object]
) -> None:
    store = WorkStore(tmp_path / "shards.work")
    store.list_inputs([ref(f"{number:05d}") for number in range(3000)])
    everything = "select ref from inputs order by rowid"
    assert list(store.db.execute(everything)) == store.db.execute(everything).fetchall()
    assert len(store.db.execute(everything).fetchmany(2000)) == 2000
    store.close()
    path = tmp_path / "shards.work" / "work.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) - len(whole) // 2))
    store = WorkStore(tmp_path / "shards.work")
    rows = store.db.execute(everything)
    assert store.db.execute(everything).fetchone(), "the damage is found by execute"
    with pytest.raises(UserError, match=r"work\.sqlite is damaged \(.*malformed\): move it away"):
        read(rows)
    store.close()


def test_a_full_disk_takes_no_line_of_the_log_and_the_log_says_where(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*log\.jsonl: No space left on device.* run the command again"):
        Log(tmp_path / "log.jsonl").write("build")


def test_a_line_that_a_full_disk_cut_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event":"analysed","sources":["fol')
    log = Log(path)
    log.write("analyse", pending=3)
    log.close()
    assert json.loads(path.read_bytes().splitlines()[1])["pending"] == 3
