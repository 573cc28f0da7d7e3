"""Tombstones: copies are recognised by keyed hashes, others are not, and nothing plain stands in the file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import EXAMPLES
from PIL import Image

from unif2ace_data.curate.removal import (
    AGREE,
    PARTS,
    PHOTO,
    SIDE,
    SIGNS,
    TOMBSTONES,
    WAVES,
    WIDTH,
    Tombstones,
    face_kind,
    likeness,
    look_of,
    no_tombstones,
    parts_of,
    places,
    read_tombstones,
    stone_of,
    tombstone_bytes,
    tombstones,
)
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Align

KEY = bytes(range(32))
PICTURES = sorted(p for p in EXAMPLES.iterdir() if p.suffix in (".jpg", ".png"))


def with_photo(look: np.ndarray) -> Tombstones:
    return tombstones(KEY, [stone_of(KEY, "ab" * 32, look, "face ffhq", [])])


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SIGNS) < 0.5


def test_a_look_is_the_signs_of_a_cosine_transform() -> None:
    """A picture of one wave: its own sign is known, and a picture and its negative differ in every sign that is not 0."""
    x = (2 * np.arange(SIDE) + 1) * np.pi / (2 * SIDE)
    for wave in (1, 5, WAVES - 1):
        picture = np.tile(127.5 + 100 * np.cos(wave * x), (SIDE, 1))
        look = look_of(Image.fromarray(picture.astype(np.uint8)))
        assert look[wave - 1]
        assert not look_of(Image.fromarray((255 - picture).astype(np.uint8)))[wave - 1]


def test_places_are_fixed_for_all_time() -> None:
    assert places().shape == (PARTS, WIDTH) and all(len(set(row)) == WIDTH for row in places())
    assert hashlib.sha256(places().astype("<i4").tobytes()).hexdigest()[:12] == "477c105585dd"


@pytest.mark.parametrize("path", PICTURES, ids=lambda p: p.name)
def test_a_re_encoded_smaller_copy_is_recognised_and_no_other_photograph_is(path: Path) -> None:
    image = Image.open(path).convert("RGB")
    stones = with_photo(look_of(image))
    buffer = io.BytesIO()
    image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=70)
    assert stones.has_look(PHOTO, look_of(Image.open(buffer)))
    assert stones.has_any(look_of(image), "face ffhq", [])
    for other in PICTURES:
        if other != path:
            assert not stones.has_look(PHOTO, look_of(Image.open(other)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.sets(st.integers(0, SIGNS - 1), max_size=8))
def test_keyed_hashes_decide_as_the_signs_themselves_do(seed: int, flipped: set[int]) -> None:
    look = noise(seed)
    copy = look.copy()
    copy[list(flipped)] ^= True
    same, share = likeness(look, copy)
    assert with_photo(look).has_look(PHOTO, copy) == same
    assert share == pytest.approx(1 - len(flipped) / SIGNS)
    assert same  # eight signs of 255 may always differ
    assert not with_photo(look).has_look(PHOTO, noise(seed + 1))


def test_one_hash_that_agrees_is_not_enough() -> None:
    look, far = noise(1), ~noise(1)
    far[places()[0]] = look[places()[0]]  # all signs of one hash agree, and no other hash does
    equal = set(parts_of(KEY, PHOTO, look)) & set(parts_of(KEY, PHOTO, far))
    assert len(equal) == 1 < AGREE and not with_photo(look).has_look(PHOTO, far)


def test_hashes_of_two_photographs_do_not_add_up() -> None:
    """One equal hash with each of two tombstones is not two with one."""
    far, first, second = ~noise(1), noise(1), noise(1)
    first[places()[0]], second[places()[1]] = far[places()[0]], far[places()[1]]
    both = tombstones(KEY, [stone_of(KEY, name, look, "", []) for name, look in (("a", first), ("b", second))])
    assert not both.has_look(PHOTO, far)


def test_kinds_and_keys_do_not_mix() -> None:
    look = noise(2)
    stones = with_photo(look)
    assert stones.has_look(PHOTO, look) and not stones.has_look(face_kind(Align()), look)
    assert face_kind(Align(mode="box", margin=0.4)) != face_kind(Align(mode="box", margin=0.5)) != face_kind(Align())
    assert not set(parts_of(bytes(32), PHOTO, look)) & set(parts_of(KEY, PHOTO, look))
    assert no_tombstones().key != no_tombstones().key


def test_the_file_comes_back_as_it_was_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert read_tombstones(tmp_path) is None
    stones = with_photo(noise(3)).joined([stone_of(KEY, "cd" * 32, None, "", [noise(4)])])
    (tmp_path / TOMBSTONES).write_bytes(tombstone_bytes(stones))
    again = read_tombstones(tmp_path)
    assert again == stones and tombstone_bytes(again) == tombstone_bytes(stones)
    assert again.has_file("ab" * 32) and again.has_file("cd" * 32) and not again.has_file("ef" * 32)
    assert "abab" not in tombstone_bytes(stones).decode()
    assert (
        again.joined([stone_of(KEY, "cd" * 32, None, "", [])]).looks.keys() < again.looks.keys()
    )  # told again: replaced
    for broken in (
        b"",
        b"{}",
        b"[]",
        tombstone_bytes(stones)[:-9],
        tombstone_bytes(stones).replace(b"-removed", b"-x"),
    ):
        (tmp_path / TOMBSTONES).write_bytes(broken)
        with pytest.raises(UserError, match=r"removed\.json is broken"):
            read_tombstones(tmp_path)
