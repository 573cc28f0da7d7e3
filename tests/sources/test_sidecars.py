"""Labels beside a photograph: in the taxonomy's words, or named as what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sources import listed, picture, put, put_tar, reasons

from unif2ace_data.attributes.measure import is_annotation
from unif2ace_data.errors import InputError
from unif2ace_data.schema import Attribute
from unif2ace_data.sources.sidecars import from_record, labelled
from unif2ace_data.taxonomy import load_taxonomy


def values(records: list[dict[str, Any]]) -> dict[str, str]:
    return {record["name"]: record["value"] for record in records}


@given(
    st.dictionaries(st.sampled_from(sorted(load_taxonomy().attributes)), st.integers(0, 9)).map(
        lambda given: {n: load_taxonomy()[n].values[i % len(load_taxonomy()[n].values)] for n, i in given.items()}
    )
)
def test_every_value_of_the_taxonomy_can_be_given(given: dict[str, str]) -> None:
    records = labelled(given)
    assert values(records) == given
    for record in records:
        attribute = Attribute.model_validate(record)
        assert is_annotation(attribute) and attribute.validated and attribute.confidence == 1.0
        assert attribute.group == load_taxonomy()[attribute.name].group


def test_yes_and_no_may_be_written_as_true_and_false_and_nothing_says_nothing() -> None:
    given = {"Smiling": True, "young": False, "hair_color": " Gray ", "glasses": None, "mouth": ""}
    assert values(labelled(given)) == {"smiling": "yes", "young": "no", "hair_color": "gray"}
    assert labelled(None) == labelled({}) == labelled([]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hair_colour": "gray"}, "attributes that the taxonomy does not have: hair_colour"),
        ({"hair_color": "plaid"}, r"hair_color=plaid \(it may be black, brown"),
        ({"hair_color": 3}, "hair_color=3"),
        ({"hair_color": True}, "hair_color=yes"),
        ("smiling", "are a mapping"),
        (["smiling"], "are a mapping"),
        (7, "are a mapping"),
    ],
)
def test_what_is_not_the_taxonomys_is_named(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_record({"attributes": given})
    assert caught.value.code == "broken_sidecar"


def test_beside_a_photo_and_in_a_tar(tmp_path: Path) -> None:
    sidecar = json.dumps({"author": "N. N.", "attributes": {"hair_color": "gray", "smiling": True}})
    put(tmp_path / "a.jpg", picture())
    put(tmp_path / "a.json", sidecar)
    put_tar(tmp_path / "t.tar", [("b.jpg", picture(1)), ("b.json", sidecar.encode())])
    for ref in listed(tmp_path).values():
        assert values(ref.annotations.attributes) == {"smiling": "yes", "hair_color": "gray"}
        assert ref.annotations.author == "N. N."


def test_a_broken_label_has_its_own_row_and_the_photo_stays(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", picture())
    put(tmp_path / "a.json", '{"attributes": {"nose": "big", "hair_color": "gray"}}')
    found = listed(tmp_path)
    assert reasons(found) == {"a.jpg": "", "a.json": "broken_sidecar"}
    assert found["a.jpg"].annotations.attributes == [] and "nose" in str(found["a.json"].problem)
    assert found["a.json"].problem_status == "dropped"


@pytest.mark.parametrize("kind", ["struct", "map"])
def test_a_column_of_a_table(tmp_path: Path, kind: str) -> None:
    rows = [{"hair_color": "gray", "smiling": "yes"}, {"hair_color": None, "smiling": "no"}, None]
    rows.append({"hair_color": "plaid", "smiling": "no"})
    column = pa.array(
        [r if r is None or kind == "struct" else list(r.items()) for r in rows],
        None if kind == "struct" else pa.map_(pa.string(), pa.string()),
    )
    image = pa.array([picture(i) for i in range(4)], pa.binary())
    pq.write_table(pa.table({"image": image, "attributes": column, "author": ["N. N."] * 4}), tmp_path / "t.parquet")
    found = listed(tmp_path)
    rows_of = [values(found[f"t.parquet#row{i:09d}"].annotations.attributes) for i in range(4)]
    assert rows_of == [{"smiling": "yes", "hair_color": "gray"}, {"smiling": "no"}, {}, {}]
    assert found["t.parquet#row000000003"].annotations.author == "N. N."
    assert found["t.parquet#row000000003"].problem is None
    broken = found["t.parquet#row000000003#attributes"]
    assert broken.problem and "hair_color=plaid" in broken.problem[1] and broken.problem_status == "dropped"


def test_columns_of_that_name_that_mean_something_else_are_not_ours(tmp_path: Path) -> None:
    image = pa.array([picture()], pa.binary())
    pq.write_table(pa.table({"image": image, "attributes": [[1, 0, 1]]}), tmp_path / "t.parquet")
    assert reasons(listed(tmp_path)) == {"t.parquet#row000000000": ""}


def test_the_records_of_this_toolkits_own_samples_are_no_labels() -> None:
    record = {"name": "smiling", "value": "yes", "evidence": {"by": "face_landmarker"}}
    assert from_record({"attributes": [record], "caption": "A face."}).attributes == []
