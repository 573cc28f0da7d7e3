"""Questions spliced into a record give the bytes that the whole way, by way of the sample, gives."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from unif2ace_data.qa.basis import FROM_CAPTION, FROM_EVIDENCE, basis_of, rests_unchanged
from unif2ace_data.run import splice
from unif2ace_data.run.pack import with_questions
from unif2ace_data.run.splice import FIELDS, asked_anew, whole
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import QA, Checks, Sample
from unif2ace_data.shards import dataset_shards, read_samples


@pytest.fixture(scope="module")
def records(built: Path) -> list[bytes]:
    return [files["json"] for shard in dataset_shards(built) for _, files in read_samples(shard)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkStore]:
    store = WorkStore(tmp_path / "shards.work")
    yield store
    store.close()


def asked(store: WorkStore, records: list[bytes]) -> dict[str, tuple[str, bytes]]:
    keys = [orjson.loads(record)["uid"] for record in records]
    return {key: found for key in keys if (found := store.qa(key)) is not None}


def questions(source: str) -> list[QA]:
    checks = Checks(
        derivable="pass", blind="pass", one_correct="pass", no_giveaway="pass", distinct="pass", allowed="pass"
    )
    return [
        QA(
            question=f'Is "qa":[{n}] ünusual?', answer="Yes.", kind="open", category="emotion", attribute="smile",
            value="broad", options=[], letter="", verdict="supported", checks=checks, source=source,
        )
        for n in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(("source", "kind"), [("templates:1", FROM_EVIDENCE), ("openai:m", FROM_CAPTION)])
def test_the_bytes_are_those_of_the_whole_way(
    records: list[bytes], store: WorkStore, monkeypatch: pytest.MonkeyPatch, source: str, kind: str
) -> None:
    samples = [Sample.model_validate_json(record) for record in records]
    for sample in samples:
        store.put_qa(sample.uid, basis_of(sample, kind), orjson.dumps([qa.model_dump() for qa in questions(source)]))
    expected = [whole(functools.partial(with_questions, store), record) for record in records]
    monkeypatch.setattr(splice, "whole", None)  # nothing needs it here
    assert [asked_anew(asked(store, records), record) for record in records] == expected
    assert all(len(orjson.loads(new.record)["qa"]) == 2 for new in expected)


def test_what_rests_on_something_else_now_goes_the_whole_way(records: list[bytes], store: WorkStore) -> None:
    sample = Sample.model_validate_json(records[0])
    assert orjson.loads(asked_anew(asked(store, records), records[0]).record)["qa"] == []  # never asked about
    other = sample.model_copy(update={"caption": "Another caption.", "claims": []})
    for kind, left in ((FROM_EVIDENCE, 2), (FROM_CAPTION, 0)):
        source = "templates:1" if kind == FROM_EVIDENCE else "openai:m"
        basis = basis_of(other, kind)
        assert rests_unchanged(FIELDS.decode(records[0]), basis) == (kind == FROM_EVIDENCE)
        store.put_qa(sample.uid, basis, orjson.dumps([qa.model_dump() for qa in questions(source)]))
        new = asked_anew(asked(store, records), records[0])
        assert new == whole(functools.partial(with_questions, store), records[0])
        assert len(orjson.loads(new.record)["qa"]) == left
