"""Which samples never meet a mirrored view, those of which a text tells left from right; and the cache on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unif2ace_data.errors import UserError
from unif2ace_model.data import Growing, Record


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


def test_an_array_that_grows_is_the_array_and_appears_whole(tmp_path: Path) -> None:
    whole = np.arange(5 * 2 * 3, dtype=np.float16).reshape(5, 2, 3)
    growing = Growing(tmp_path / "a.npy", 5)
    growing.add(whole[:2])
    assert not (tmp_path / "a.npy").exists()
    growing.add(whole[2:])
    growing.finish()
    read = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert read.dtype == np.float16 and np.array_equal(read, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_shard_with_fewer_samples_than_its_index_says_leaves_nothing(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "a.npy", 5)
    growing.add(np.zeros((4, 1)))
    with pytest.raises(UserError, match="holds 4 samples where its index says 5"):
        growing.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "a.npy", 5)
    growing.partial.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot be written to .*No space left on device"):
        growing.add(np.zeros((4, 1)))
    assert list(tmp_path.iterdir()) == []
