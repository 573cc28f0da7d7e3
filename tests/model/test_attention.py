"""One predicate, two masks; positions that are relative; a cache that changes nothing."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_model.attention import Attention, attend, dense_mask, flex_mask, rotary_table, rotate

LENGTH = 24


@st.composite
def layouts(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """(image_BP, valid_BP) of sequences with an image span somewhere and padding on one side."""
    image, valid = torch.zeros(3, LENGTH, dtype=torch.bool), torch.ones(3, LENGTH, dtype=torch.bool)
    for row in range(3):
        padding, left = draw(st.integers(0, 8)), draw(st.booleans())
        valid[row, slice(0, padding) if left else slice(LENGTH - padding, LENGTH)] = False
        first = draw(st.integers(padding if left else 0, LENGTH - 8))
        image[row, first : first + draw(st.integers(0, 8))] = True
    return image & valid, valid


@given(layouts())
@settings(max_examples=30, deadline=None)
def test_the_mask_says_causal_text_whole_image_and_no_padding(layout: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, valid = layout
    seen = dense_mask(image, valid)[:, 0] == 0
    for row in range(len(image)):
        for q in range(LENGTH):
            for k in range(LENGTH):
                both = bool(image[row, q] and image[row, k])
                assert seen[row, q, k] == (q == k or (bool(valid[row, k]) and (k <= q or both)))


@given(layouts())
@settings(max_examples=5, deadline=None)
def test_flex_attention_and_scaled_dot_products_agree(layout: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, valid = layout
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 3, 2, LENGTH, 16)
    dense = attend(query, key, value, dense_mask(image, valid))
    flexible = attend(query, key, value, flex_mask(image, valid))
    torch.testing.assert_close(dense, flexible, atol=2e-5, rtol=1e-4)


def test_the_mask_from_a_position_on_is_the_lower_part_of_the_whole_one() -> None:
    image = torch.zeros(1, LENGTH, dtype=torch.bool)
    image[:, 10:20] = True
    valid = torch.ones(1, LENGTH, dtype=torch.bool)
    assert torch.equal(dense_mask(image, valid, 9), dense_mask(image, valid)[:, :, 9:])


def test_scores_depend_on_distance_alone_and_only_part_of_a_head_turns() -> None:
    torch.manual_seed(0)
    cos, sin = rotary_table(40, 8, 10000.0, torch.device("cpu"))
    query, key = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(q: int, k: int) -> torch.Tensor:
        turned = rotate(query, cos[q : q + 1], sin[q : q + 1]), rotate(key, cos[k : k + 1], sin[k : k + 1])
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(9, 4), score(35, 30), atol=1e-5, rtol=1e-5)
    assert abs(score(9, 4) - score(9, 8)) > 1e-3
    assert torch.equal(rotate(query, cos[7:8], sin[7:8])[..., 8:], query[..., 8:])


def test_a_cache_changes_nothing() -> None:
    torch.manual_seed(0)
    layer = Attention(32, 4, True, 1e-5).eval()
    x = torch.randn(2, LENGTH, 32)
    image, valid = torch.zeros(2, LENGTH, dtype=torch.bool), torch.ones(2, LENGTH, dtype=torch.bool)
    cos, sin = rotary_table(LENGTH, 4, 10000.0, x.device)
    whole, _ = layer(x, (cos, sin), dense_mask(image, valid))
    first, past = layer(x[:, :15], (cos[:15], sin[:15]), dense_mask(image[:, :15], valid[:, :15]))
    second, _ = layer(x[:, 15:], (cos[15:], sin[15:]), dense_mask(image, valid, 15), past)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-6, rtol=1e-5)
