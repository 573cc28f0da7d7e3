"""In which order samples come: by their keys and the seed, wherever they lie and whatever lies beside them."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_model.config import Preset
from unif2ace_model.data import Dataset, Record, open_dataset
from unif2ace_model.mixture import marks_of, mixture_of, order_of
from unif2ace_model.text import TextTokenizer, learn_tokenizer

KEYS = st.lists(st.integers(0, 2**128 - 1).map("{:032x}".format), min_size=1, max_size=40)


def records_of(keys: list[str]) -> list[Record]:
    return [Record(key, "train", "", [], {}, 0, place) for place, key in enumerate(keys)]


def ordered(keys: list[str], seed: int, stream: int, epoch: int) -> list[str]:
    return [keys[i] for i in order_of(seed, stream, epoch, marks_of(records_of(keys)))]


@given(keys=KEYS, seed=st.integers(0, 2**31), stream=st.integers(0, 1), epoch=st.integers(0, 5), chance=st.randoms())
def test_an_epoch_has_every_sample_once_wherever_it_lies(
    keys: list[str], seed: int, stream: int, epoch: int, chance: random.Random
) -> None:
    found = ordered(keys, seed, stream, epoch)
    assert sorted(found) == sorted(keys)
    chance.shuffle(keys)
    assert ordered(keys, seed, stream, epoch) == found


@given(keys=KEYS.map(lambda keys: list(dict.fromkeys(keys))), epoch=st.integers(0, 5), data=st.data())
def test_what_two_datasets_share_comes_in_the_same_order_from_both(
    keys: list[str], epoch: int, data: st.DataObject
) -> None:
    kept = data.draw(st.sets(st.sampled_from(keys)))
    whole, part = ordered(keys, 7, 0, epoch), ordered([key for key in keys if key in kept], 7, 0, epoch)
    assert [key for key in whole if key in kept] == part


def test_every_order_is_as_likely_as_any_other() -> None:
    """Each of 20 samples at each of 20 places, in 4,000 epochs: chi-square, and its expectation for 19 x 19 free cells."""
    marks, count, epochs = marks_of(records_of([f"{i:032x}" for i in range(20)])), 20, 4000
    seen = np.zeros((count, count))
    for epoch in range(epochs):
        seen[np.arange(count), order_of(0, 0, epoch, marks)] += 1
    expected = epochs / count
    square, free = float(((seen - expected) ** 2 / expected).sum()), (count - 1) ** 2
    assert abs(square - free) < 4 * (2 * free) ** 0.5


def test_a_sample_that_is_there_twice_comes_twice_and_not_side_by_side_each_time() -> None:
    keys = [f"{i:032x}" for i in range(30)] * 2
    found = ordered(keys, 0, 0, 0)
    assert sorted(found) == sorted(keys)
    assert sum(one == other for one, other in itertools.pairwise(found)) < 10


@pytest.fixture(scope="module")
def dataset(asked: Path, preset: Preset) -> Dataset:
    return open_dataset(asked, preset.images, preset.features, quiet=True)


@pytest.fixture(scope="module")
def text(dataset: Dataset) -> TextTokenizer:
    return learn_tokenizer([record.caption for record in dataset.of("train")], 300)


@given(chance=st.randoms())
def test_a_step_is_the_same_to_the_last_bit_when_the_samples_lie_otherwise(
    dataset: Dataset, text: TextTokenizer, preset: Preset, chance: random.Random
) -> None:
    turned = replace(dataset, records=chance.sample(dataset.records, len(dataset.records)))
    one, other = (mixture_of(data, "train", text, preset) for data in (dataset, turned))
    for step in (0, 3):
        assert one.uids(step) == other.uids(step)
        (batch,), (again,) = one.batch(step, 1), other.batch(step, 1)
        assert batch.text_BS.equal(again.text_BS) and batch.codes_BN.equal(again.codes_BN)
        assert batch.face_BC is None or (again.face_BC is not None and batch.face_BC.equal(again.face_BC))
