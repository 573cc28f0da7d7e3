"""Schemas whose answers parse, and answers read as they come."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.llm.structured import MOST_REPEATS, fields_of, line, object_of, prose, strings_in


@given(st.integers(60, 4000))
def test_prose_is_a_bounded_number_of_bounded_words(chars: int) -> None:
    pattern = prose(chars)["pattern"]
    assert all(int(n) <= MOST_REPEATS for n in re.findall(r"\d+", pattern))
    assert re.fullmatch(pattern, "A person looks at the camera.")
    assert not re.fullmatch(pattern, 'He says "no" to it all.') and not re.fullmatch(pattern, "a\nb c d e")
    assert not re.fullmatch(pattern, "word " * (2 * chars) + "end")


def test_a_line_takes_what_json_need_not_escape() -> None:
    pattern = line(80, least=2)["pattern"]
    assert re.fullmatch(pattern, "the hair (gray) isn't {long}~!") and not re.fullmatch(pattern, "a\tb")
    assert not re.fullmatch(pattern, "x") and not re.fullmatch(pattern, 'a"b') and not re.fullmatch(pattern, "a\\b")
    with pytest.raises(ValueError, match="use prose"):
        line(MOST_REPEATS + 1)


def test_objects_are_closed() -> None:
    schema = object_of(a={"type": "boolean"}, b={"type": "string"})
    assert schema["required"] == ["a", "b"] and schema["additionalProperties"] is False


@pytest.mark.parametrize("text", ['{"a": 1}', '```json\n{"a": 1}\n```', 'Here it is: {"a": 1} as you asked'])
def test_an_object_is_found_in_what_a_model_puts_around_it(text: str) -> None:
    assert fields_of(text) == {"a": 1}


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"a": ', "{}}{"])
def test_what_is_no_object_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        fields_of(text)


def test_strings_are_counted() -> None:
    assert strings_in('{"answers": ["a", "b"]}', "answers", 2) == ["a", "b"]
    for text in ('{"answers": ["a"]}', '{"answers": ["a", 1]}', '{"answers": "ab"}', "{}"):
        with pytest.raises(ValueError):
            strings_in(text, "answers", 2)
