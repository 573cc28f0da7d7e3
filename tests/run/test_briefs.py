"""What decisions read of an analysis is a brief of it: they must be the same as on the whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from unif2ace_data.recipe import load_recipe
from unif2ace_data.run.decide import filtered
from unif2ace_data.run.store import NOT_IN_BRIEF, WorkStore


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Iterator[WorkStore]:
    shutil.copytree(built.with_name("shards.work"), tmp_path / "shards.work")
    opened = WorkStore(tmp_path / "shards.work")
    yield opened
    opened.close()


def test_decisions_are_those_on_whole_records(store: WorkStore) -> None:
    """As in a store of before, which has no briefs."""
    config = store.fact("analysis")
    changes = [["subjects=adults"], [], ["subjects=adults", "faces.per_photo=each"], ["filters.face_px.min=200"]]
    recipes = [load_recipe("embedded", change) for change in changes]
    by_brief = [filtered(store, config, recipe) for recipe in recipes]
    assert store.db.execute("delete from briefs").rowcount > 0
    whole = [filtered(store, config, recipe) for recipe in recipes]
    for some, all_ in zip(by_brief, whole, strict=True):
        assert list(map(repr, some.rows)) == list(map(repr, all_.rows))
        assert [s.embedding for s in some.standing] == [s.embedding for s in all_.standing]
    assert len({len(found.standing) for found in whole}) > 1, "these recipes decide alike: nothing was tested"


def test_a_brief_is_the_record_without_what_no_decision_reads(store: WorkStore) -> None:
    for record, brief in store.db.execute(
        "select a.record, b.record from analyses a join briefs b using (sha256, config)"
    ):
        whole = orjson.loads(record)
        for face in whole["faces"]:
            assert all(name in face for name in NOT_IN_BRIEF)
            for name in NOT_IN_BRIEF:
                del face[name]
        assert orjson.loads(brief) == whole


def test_who_is_forgotten_is_in_no_brief(store: WorkStore) -> None:
    hashes = {row[0] for row in store.db.execute("select sha256 from briefs")}
    gone = min(hashes)
    with store.transaction():
        store.forget({gone})
    assert {row[0] for row in store.db.execute("select sha256 from briefs")} == hashes - {gone}
