"""Sequence-level experts: their formulas, who may read what, and that text is never touched."""

from __future__ import annotations

import pytest
import torch
from unif2ace_models import FULL, mixed_batch

from unif2ace_model.config import SequenceMoe
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import GEN, UND
from unif2ace_model.sequence_moe import Guests, Resampler, SequenceMoeLayer, noise_features

DIM, TOKENS = 32, 9
CONFIG = SequenceMoe(dim=16, heads=2, scale=1.0)
GROUPS = torch.tensor([UND, GEN, UND, GEN])


def layer(config: SequenceMoe = CONFIG) -> SequenceMoeLayer:
    torch.manual_seed(0)
    return SequenceMoeLayer(DIM, 1e-5, config)


def guests() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(2, TOKENS, CONFIG.dim) for name in ("clip", "face", "noise")}


def pick(made: SequenceMoeLayer, group: int, *positions: int) -> None:
    """Make the router of a group take these two experts, with equal weights."""
    with torch.no_grad():
        made.routers[group].weight.zero_()
        made.routers[group].bias.fill_(-10)
        made.routers[group].bias[list(positions)] = 3.0


def mixed(made: SequenceMoeLayer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(LN(x), what the experts made of it)."""
    out, _ = made(x, GROUPS, guests())
    return made.norm(x), out - x


@pytest.mark.parametrize("name,position,group", [("clip", 2, UND), ("face", 3, UND), ("noise", 3, GEN)])
def test_a_guest_expert_blends_by_a_softmax_of_trainable_weights(name: str, position: int, group: int) -> None:
    made, x = layer(), torch.randn(4, TOKENS, DIM)
    with torch.no_grad():
        made.blend[name].copy_(torch.tensor([0.3, -0.4]))
    pick(made, group, 0, position)
    normed, out = mixed(made, x)
    own = torch.tensor([0.3, -0.4]).softmax(0)[0]
    rows = group == GROUPS
    expert = own * normed[rows] + (1 - own) * made.project[name](guests()[name])
    torch.testing.assert_close(out[rows], 0.5 * normed[rows] + 0.5 * expert, atol=1e-5, rtol=1e-4)


def test_two_copies_copy_and_zero_takes_its_share() -> None:
    made, x = layer(), torch.randn(4, TOKENS, DIM)
    pick(made, UND, 0, 1)
    pick(made, GEN, 0, 2)
    normed, out = mixed(made, x)
    torch.testing.assert_close(out[GROUPS == UND], normed[GROUPS == UND], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out[GROUPS == GEN], 0.5 * normed[GROUPS == GEN], atol=1e-5, rtol=1e-4)


def test_a_scale_of_zero_is_the_identity_and_has_a_gradient() -> None:
    made = layer(CONFIG.model_copy(update={"scale": 0.0}))
    x = torch.randn(4, TOKENS, DIM)
    out, _ = made(x, GROUPS, guests())
    assert torch.equal(out, x)
    (out**2).sum().backward()
    assert made.scale_D.grad is not None and made.scale_D.grad.abs().sum() > 0


def test_generation_never_sees_clip_or_face() -> None:
    made, x = layer(), torch.randn(4, TOKENS, DIM)
    before, _ = made(x, GROUPS, guests())
    changed = guests()
    changed["clip"] += 1
    changed["face"] += 1
    pick(made, UND, 2, 3)
    after, _ = made(x, GROUPS, changed)
    assert torch.equal(before[GROUPS == GEN], after[GROUPS == GEN])
    assert not torch.equal(before[GROUPS == UND], after[GROUPS == UND])


def test_every_expert_and_resampler_gets_a_gradient_once_chosen() -> None:
    made = layer()
    given = Guests(CONFIG, TOKENS, {"clip": 24, "face": 12, "noise": 64})
    for resampler in given.resamplers.values():
        torch.nn.init.normal_(resampler.query_NR)
    features = {"clip": torch.randn(2, 5, 24), "face": torch.randn(2, 1, 12), "noise": noise_features(torch.rand(2))}
    pick(made, UND, 2, 3)
    pick(made, GEN, 2, 3)
    out, loads = made(torch.randn(4, TOKENS, DIM), GROUPS, given(features))
    (out**2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in given.parameters())
    assert loads[UND].chosen_GN.tolist() == [[0, 0, 2, 2]]
    assert loads[GEN].chosen_GN.tolist() == [[0, 0, 2, 2]]


def test_a_resampler_gives_each_image_token_its_own_vector_from_any_number_of_features() -> None:
    torch.manual_seed(0)
    resampler = Resampler(24, TOKENS, 16, 2, 2)
    torch.nn.init.normal_(resampler.query_NR)
    for count in (1, 7):
        out = resampler(torch.randn(3, count, 24))
        assert out.shape == (3, TOKENS, 16)
        assert (out[:, 1:] - out[:, :1]).abs().amax(-1).min() > 1e-3


def test_a_single_face_vector_is_seen_from_the_first_step_on() -> None:
    """By attention alone it has one part of N + 1, and two faces would be told apart by hundredths of what comes out."""
    torch.manual_seed(0)
    resampler = Resampler(512, 64, 32, 2, 2)
    torch.nn.init.normal_(resampler.query_NR)  # as a fresh model has them
    torch.nn.init.normal_(resampler.take_in.weight, std=0.02)
    faces = torch.nn.functional.normalize(torch.randn(16, 1, 512), dim=-1)
    with torch.no_grad():
        out = resampler(faces)
    assert (out - out.mean(0)).square().mean() / out.square().mean() > 0.1


def test_mask_rates_are_told_apart() -> None:
    features = noise_features(torch.linspace(0, 1, 101))[:, 0]
    distance = torch.cdist(features, features) + 10 * torch.eye(101)
    assert distance.min() > 0.5


def test_a_fresh_model_takes_its_guests_in_every_block() -> None:
    """What a router never chooses never learns, and copies need no learning: they would win."""
    torch.manual_seed(0)
    model = UniF2ace(FULL).eval()
    batch = mixed_batch()
    for loads in model(batch).loads:
        for group in (UND, GEN):
            assert FULL.sequence_moe is not None
            experts = FULL.sequence_moe.und if group == UND else FULL.sequence_moe.gen
            taken = loads.sequences[group].chosen_GN[0].tolist()
            wanted = {"clip", "face"} if group == UND else {"noise"}
            assert {name for name, rows in zip(experts, taken, strict=True) if rows == 2} >= wanted
