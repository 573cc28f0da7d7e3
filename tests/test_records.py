"""Records are read by msgspec as pydantic would read them, and what is wrong with one is said in pydantic's words."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from unif2ace_data.records import decoder, kind_of, read_record, struct_of
from unif2ace_data.schema import SCHEMA_VERSION, Sample

RECORD: dict[str, Any] = {
    "uid": "0" * 32, "schema_version": SCHEMA_VERSION, "split": "train",
    "source": {
        "dataset": "d", "id": "d/a.jpg", "sha256": "0" * 64, "licence": "", "author": "Ünï", "url": "", "captions": "",
    },
    "image": {
        "width": 8, "height": 8, "align": "ffhq", "quad": [[0.0, 1.5]], "source_width": 9, "source_height": 9, "padded": 0.5,
    },
    "face": {
        "box": [1.0], "landmarks": [[2.0, 2.0]], "score": 0.9, "face_px": 6.0, "yaw": 0.0, "pitch": 0.0, "roll": -1.0,
        "sharpness": 1.0, "brightness": 1.0,
    },
    "attributes": [{
        "name": "smile", "group": "emotion", "value": "broad", "confidence": 0.75, "validated": True,
        "evidence": {"by": "mesh", "revision": "1", "measured": ""},
    }],
    "caption": "A smile.", "captioner": {"engine": "g", "model": "", "revision": "1", "prompt_sha256": "", "removed": ""},
    "claims": [{"attribute": "smile", "value": "broad", "negated": False, "span": [0, 1], "verdict": "supported", "by": ""}],
    "qa": [{
        "question": "?", "answer": "Yes.", "kind": "open", "category": "emotion", "attribute": "smile", "value": "broad",
        "options": [], "letter": "", "verdict": "supported", "source": "templates:1",
        "checks": {
            "derivable": "pass", "blind": "pass", "one_correct": "pass", "no_giveaway": "pass", "distinct": "pass",
            "allowed": "pass", "value_stated": "pass",
        },
    }],
}  # fmt: skip


def plain(record: Any) -> Any:
    """A struct or model as plain values, in the order of its fields."""
    if isinstance(record, list):
        return [plain(r) for r in record]
    names = getattr(record, "__struct_fields__", None)
    if names is None and isinstance(record, BaseModel):
        names = type(record).model_fields
    return record if names is None else {name: plain(getattr(record, name)) for name in names}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([path] if path else []) + [p for key, v in inner for p in places(v, (*path, key))]


def test_a_sound_record_is_read_by_the_struct_alone() -> None:
    found = decoder().decode(orjson.dumps(RECORD))
    assert plain(found) == plain(Sample.model_validate(RECORD)) == RECORD


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.just(10**20), st.floats(-2, 2), st.text(max_size=3), st.just("1"),
    st.just([]), st.just({}), st.just([1, 2]), st.sampled_from(["train", "pass", "supported", "open", "box"]),
)  # fmt: skip


@settings(deadline=None)  # a busy machine is no fault
@given(st.sampled_from(places(RECORD)), st.one_of(st.just("delete"), st.just("add"), ODD.map(lambda v: ("set", v))))
def test_what_the_struct_takes_pydantic_takes_too(path: tuple[Any, ...], change: Any) -> None:
    """One place of a sound record changed in any way: never another verdict, never another reading."""
    record = copy.deepcopy(RECORD)
    inside = record
    for step in path[:-1]:
        inside = inside[step]
    if change == "delete":
        del inside[path[-1]]
    elif change == "add" and isinstance(inside, dict):
        inside["unheard_of"] = 1
    elif change != "add":
        inside[path[-1]] = change[1]
    try:
        data = orjson.dumps(record)
    except TypeError:  # an integer beyond 64 bits: orjson writes none, other tools do
        data = repr(record).replace("'", '"').replace("True", "true").replace("False", "false").encode()
    try:
        expected = plain(Sample.model_validate_json(data))
    except ValidationError as error:
        with pytest.raises(ValidationError) as raised:
            read_record(data)
        assert raised.value.errors()[0]["loc"] == error.errors()[0]["loc"]
    else:
        assert plain(read_record(data)) == expected


def test_bytes_that_are_no_json_are_pydantics_error() -> None:
    for data in (b"", b"{", b'{"uid": "\xff"}', b"[]", b"nul"):
        with pytest.raises(ValidationError):
            read_record(data)


def test_a_rule_that_msgspec_does_not_know_is_refused() -> None:
    """So that a schema which grows such a rule is not checked without it."""
    from pydantic import Field

    class Strange(BaseModel):
        even: int = Field(multiple_of=2)

    with pytest.raises(TypeError, match="even"):
        struct_of(Strange)
    assert kind_of(list[list[float]]) == list[list[float]]
