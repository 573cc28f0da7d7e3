"""Splits: whole identities, by hash, deterministic; and what is impossible is said."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.curate.splits import assign_splits, join_by_photo, place
from unif2ace_data.recipe import Splits


def keys(n: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest()[:32] for i in range(n)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=60))
def test_no_identity_is_cut(clusters: list[int]) -> None:
    splits, _ = assign_splits(keys(len(clusters)), clusters, Splits())
    for cluster in set(clusters):
        assert len({s for s, c in zip(splits, clusters, strict=True) if c == cluster}) == 1


@given(st.lists(st.integers(0, 9), min_size=3, max_size=40), st.randoms(use_true_random=False))
def test_order_does_not_matter(clusters: list[int], random) -> None:
    names = keys(len(clusters))
    straight = dict(zip(names, assign_splits(names, clusters, Splits())[0], strict=True))
    order = list(range(len(names)))
    random.shuffle(order)
    shuffled, _ = assign_splits([names[i] for i in order], [clusters[i] for i in order], Splits())
    assert {names[i]: s for i, s in zip(order, shuffled, strict=True)} == straight


def test_shares_follow_the_recipe() -> None:
    splits, notes = assign_splits(keys(5000), list(range(5000)), Splits(train=0.7, validation=0.1, test=0.2))
    assert abs(splits.count("train") / 5000 - 0.7) < 0.03
    assert abs(splits.count("test") / 5000 - 0.2) < 0.03
    assert notes == []


def test_few_people_still_fill_every_split() -> None:
    for n in (3, 4, 7, 12):
        splits, notes = assign_splits(keys(n), list(range(n)), Splits())
        assert set(splits) == {"train", "validation", "test"}, n
        assert notes == []


def test_what_is_impossible_is_said() -> None:
    splits, notes = assign_splits(keys(5), [0, 0, 1, 1, 1], Splits())
    assert len(set(splits)) == 2
    assert len(notes) == 1 and "2 identities cannot fill 3 splits" in notes[0]


def test_a_split_that_nobody_wants_stays_empty() -> None:
    splits, notes = assign_splits(keys(20), list(range(20)), Splits(train=1, validation=0, test=0))
    assert set(splits) == {"train"} and notes == []


def test_test_people_of_an_earlier_release_stay_in_test() -> None:
    names, clusters = keys(300), [i // 3 for i in range(300)]
    splits, _ = assign_splits(names, clusters, Splits(), held_out={5, 17})
    assert all(s == "test" for s, c in zip(splits, clusters, strict=True) if c in (5, 17))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
def test_groups_cut_neither_an_identity_nor_a_photo_and_are_no_larger_than_they_must(
    pairs: list[tuple[int, int]],
) -> None:
    clusters, photos = [c for c, _ in pairs], [p for _, p in pairs]
    groups = join_by_photo(clusters, photos)
    for numbers in (clusters, photos):
        assert len({*zip(numbers, groups, strict=True)}) == len(set(numbers))
    reached = {0}  # samples that the first one is tied to, step by step
    for _ in pairs:
        reached |= {
            i for i in range(len(pairs)) for j in reached if pairs[i][0] == pairs[j][0] or pairs[i][1] == pairs[j][1]
        }
    assert {i for i, group in enumerate(groups) if group == groups[0]} == reached
    assert groups[0] == min(clusters[i] for i in reached)


def test_one_face_a_photo_leaves_identities_as_they_are() -> None:
    assert join_by_photo([0, 0, 2, 3, 2], [5, 6, 7, 8, 9]) == [0, 0, 2, 3, 2]


@given(st.text(min_size=1))
def test_place_is_a_fraction(key: str) -> None:
    assert 0 <= place(key, "salt") < 1


def test_settled_samples_keep_their_people_where_they_are() -> None:
    names = keys(12)
    clusters = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    splits, _ = assign_splits(names, clusters, Splits(), settled={names[1]: "test", names[2]: "validation"})
    assert splits[:4] == ["test", "test", "validation", "validation"]
    # People whom a later photo joins: what was held out stays held out.
    splits, _ = assign_splits(
        names, [0] * 12, Splits(), settled={names[0]: "train", names[3]: "test", names[7]: "validation"}
    )
    assert set(splits) == {"test"}
    # Nobody is moved out of a settled place to fill an empty split.
    splits, notes = assign_splits(names, clusters, Splits(), settled=dict.fromkeys(names, "train"))
    assert set(splits) == {"train"} and len(notes) == 2
