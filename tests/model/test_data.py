"""Which samples never meet a mirrored view: those of which a text tells left from right."""

from __future__ import annotations

from typing import Any

from unif2ace_model.data import Record


def record(caption: str = "A face.", **qa: Any) -> Record:
    question = {
        "question": "Is it right to say that it is dark?",
        "answer": "no",
        "value": "dark",
        "options": ["yes", "no"],
    }
    return Record("k", "train", caption, [question | qa], {}, 0, 0)


def test_a_side_in_caption_answer_value_or_option_counts_and_one_in_the_question_s_manner_does_not() -> None:
    assert not record().sided
    assert record("The light comes from the left.").sided
    assert record(answer="turned to the right").sided
    assert record(value="left").sided  # "Is the head turned to the left?" "yes"
    assert record(options=["to the left", "to the camera"]).sided
