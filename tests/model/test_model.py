"""Parity: with transformers' Phi, of an upcycled mixture with its dense body, of saved with loaded; and no leak."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from unif2ace_models import CLIP, DENSE, FACE, FULL, TOKENS, VOCAB, codes, mixed_batch, random_model

from unif2ace_data.errors import UserError
from unif2ace_model.attention import dense_mask
from unif2ace_model.checkpoint import from_phi, from_showo, load_model, save_model, special_rows, upcycle
from unif2ace_model.config import SequenceMoe, TokenMoe
from unif2ace_model.decoding import label_nll
from unif2ace_model.model import CodeFactors, UniF2ace
from unif2ace_model.prompts import SPECIAL, Layout, conversation, generation, pack, understanding
from unif2ace_model.transformer import Place


def phi(qk_norm: bool, rows: int = VOCAB, seed: int = 0) -> torch.nn.Module:
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(seed)
    config = PhiConfig(
        vocab_size=rows, hidden_size=DENSE.dim, intermediate_size=DENSE.ffn_dim, num_hidden_layers=DENSE.layers,
        num_attention_heads=DENSE.heads, qk_layernorm=qk_norm, hidden_act="gelu_new", attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    )  # fmt: skip
    theirs = PhiForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return theirs


@pytest.mark.parametrize("qk_norm", [True, False])
def test_a_dense_body_gives_the_logits_of_transformers_phi(qk_norm: bool) -> None:
    theirs = phi(qk_norm)
    ours = UniF2ace(DENSE.model_copy(update={"qk_norm": qk_norm})).eval()
    upcycle(ours, from_phi(theirs.state_dict(), ours.config))
    text = torch.randint(0, VOCAB, (2, 30))
    batch = mixed_batch()
    everything = torch.ones(2, 30, dtype=torch.bool)
    place = Place(dense_mask(~everything, everything), batch.group_B[:2], None)
    with torch.no_grad():
        hidden, _, _ = ours.body(ours.text_embed(text), place)
        difference = ours.text_logits(hidden)[..., :VOCAB] - theirs(text).logits
    assert difference.abs().max() < 1e-4
    assert theirs(text).logits.std() > 0.1


def test_an_upcycled_mixture_is_the_dense_model_at_step_0_and_learns_from_the_first_step() -> None:
    dense = random_model(DENSE)
    mixture = UniF2ace(FULL).eval()
    upcycle(mixture, dense.state_dict())
    batch = mixed_batch()
    with torch.no_grad():
        expected = dense(batch).hidden_BSD
    found = mixture(batch)
    keep = batch.valid_BS
    assert (found.hidden_BSD - expected)[keep].abs().max() < 1e-5
    (found.hidden_BSD[keep] ** 2).sum().backward()
    for block in mixture.body.blocks:
        assert block.feed.routed.down_EFD.grad.abs().sum() > 0
        assert block.sequence.scale_D.grad.abs().sum() > 0


def test_showo_weights_find_their_places() -> None:
    rows = VOCAB + 10 + DENSE.codebook + 1  # text, special, codes, mask
    theirs = {f"showo.{name}": t for name, t in phi(True, rows).state_dict().items()}
    ours = UniF2ace(FULL).eval()
    upcycle(ours, from_showo(theirs, FULL))
    table = theirs["showo.model.embed_tokens.weight"]
    assert torch.equal(ours.codes.embed.weight, table[VOCAB + 10 :])
    assert torch.equal(ours.text_embed.weight[:VOCAB], table[:VOCAB])
    special = special_rows(theirs, FULL, bos=3)
    assert torch.equal(special["text_embed.weight"][SPECIAL.index("soi")], table[VOCAB + 1])
    assert torch.equal(special["text_embed.weight"][SPECIAL.index("t2i")], table[VOCAB + 5])
    assert torch.equal(special["text_embed.weight"][SPECIAL.index("eos")], table[3])
    with pytest.raises(UserError, match="do not fit"):
        from_showo(theirs, FULL.model_copy(update={"levels": [64, 64]}))


def test_the_target_under_a_mask_changes_no_logit_of_generation() -> None:
    """Nor do the picture's features: they belong to understanding."""
    model, batch = random_model(), mixed_batch()
    rows = batch.group_B == 1
    with torch.no_grad():
        before = model.code_logits(model(batch).hidden_BSD[rows])
        batch.targets_BN = torch.where(batch.targets_BN >= 0, (batch.targets_BN + 7) % DENSE.codebook, batch.targets_BN)
        batch.face_BC, batch.clip_BPC = torch.randn(2, FACE), torch.randn(2, 3, CLIP)
        after = model.code_logits(model(batch).hidden_BSD[rows])
    assert torch.equal(before, after)


def test_a_padded_sequence_is_what_it_is_alone() -> None:
    model, batch = random_model(), mixed_batch()
    with torch.no_grad():
        together = model(batch).hidden_BSD
        alone = model(pack([generation([], batch.codes_BN[3].numpy(), VOCAB, 0.5)], VOCAB)).hidden_BSD
    torch.testing.assert_close(together[3, -alone.shape[1] :], alone[0], atol=2e-5, rtol=1e-4)


def test_text_before_the_picture_does_not_see_it_and_the_picture_sees_the_text() -> None:
    model = random_model()
    pictures = codes(2)
    one, other = (pack([generation([5, 6, 7], p, VOCAB, 0.3)], VOCAB) for p in pictures)
    other.rate_B = torch.tensor([0.9])
    with torch.no_grad():
        a, b = model(one).hidden_BSD, model(other).hidden_BSD
        start = int(one.start_B[0]) - 1
        assert torch.equal(a[:, :start], b[:, :start])
        changed = pack([generation([5, 6, 8], pictures[0], VOCAB, 0.3)], VOCAB)
        assert not torch.allclose(a[:, start:], model(changed).hidden_BSD[:, start:], atol=1e-4)


def test_factors_give_a_code_the_sum_of_its_factors() -> None:
    made = CodeFactors(FULL.model_copy(update={"code_embedding": "factors"}))
    first = torch.tensor([4 * 4 * 1 + 4 * 3 + 2])  # digits 2, 3, 1 of levels 4, 4, 2
    rows = made.embed.weight
    torch.testing.assert_close(made(first)[0], rows[2] + rows[4 + 3] + rows[8 + 1])
    assert not torch.isclose(made(torch.tensor([FULL.codebook])), made(first)).all()
    logits = made.logits(torch.randn(5, FULL.dim))
    assert logits.shape == (5, FULL.codebook)
    parts = logits.view(5, 2, 4, 4).log_softmax(1)  # the last level varies slowest
    torch.testing.assert_close(parts[:, :, 0, 0], parts[:, :, 3, 2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("embedding", ["table", "factors"])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, embedding: str) -> None:
    model, batch = random_model(FULL.model_copy(update={"code_embedding": embedding})), mixed_batch()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(batch).hidden_BSD, model(batch).hidden_BSD)


def test_checkpoints_that_do_not_fit_say_what_does_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model in .*config\.json"):
        load_model(tmp_path)
    save_model(random_model(), tmp_path)
    other = FULL.model_copy(update={"ffn_dim": 128})
    (tmp_path / "config.json").write_text(other.model_dump_json())
    with pytest.raises(UserError, match=r"feed\.shared\.up\.weight is \(96, 64\), the model has \(128, 64\)"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(FULL.model_dump_json().replace('"layers"', '"layer"'))
    with pytest.raises(UserError, match="not a model's configuration"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(FULL.model_dump_json())
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is not there"):
        load_model(tmp_path)


def test_missing_features_are_named() -> None:
    batch = mixed_batch()
    batch.face_BC = None
    with pytest.raises(UserError, match="no face features"):
        random_model()(batch)
    with pytest.raises(UserError, match="how wide"):
        UniF2ace(FULL.model_copy(update={"clip_dim": 0}))


def test_active_parameters_leave_out_what_a_token_does_not_use() -> None:
    config = DENSE.model_copy(update={"token_moe": TokenMoe(experts=4, top_k=1, expert_dim=16)})
    dense, sparse = UniF2ace(DENSE).parameter_counts(), UniF2ace(config).parameter_counts()
    expert = DENSE.dim * 16 * 2 + 16 + DENSE.dim
    router = 2 * 4 * DENSE.dim
    assert sparse["total"] - dense["total"] == DENSE.layers * (8 * expert + router)
    assert sparse["active"] - dense["active"] == DENSE.layers * (expert + router)
    assert dense["total"] == dense["active"]
    assert SequenceMoe().und == ["copy", "copy", "clip", "face"] and DENSE.image_tokens == TOKENS


def test_several_questions_in_a_sequence_are_computed_as_each_alone() -> None:
    model = random_model(FULL)
    picture = codes()[0]
    pairs = [([5, 6, 7], [8, 9]), ([10], [11, 12, 13]), ([14, 15, 16, 17], [18])]
    features = {"face_BC": torch.randn(1, FACE), "clip_BPC": torch.randn(1, 3, CLIP)}

    def nll(layouts: list[Layout], rows: int) -> torch.Tensor:
        batch = pack([*layouts, generation([3, 4], picture, VOCAB)], VOCAB)  # something longer or shorter beside it
        batch.face_BC = features["face_BC"].expand(rows, -1)
        batch.clip_BPC = features["clip_BPC"].expand(rows, -1, -1)
        with torch.no_grad():
            return label_nll(model, model(batch).hidden_BSD, batch.labels_BS)[0][:rows]

    alone = nll([understanding(picture, *pair, VOCAB) for pair in pairs], 3)
    together = nll([conversation(picture, pairs, VOCAB)], 1)
    assert together[0] == pytest.approx(float(alone.sum()), rel=1e-5)
