"""A run that begins with a published body: the dense function at step 0, in a checkpoint's real format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_model import phi
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from unif2ace_models import DENSE, FULL, VOCAB, mixed_batch

from unif2ace_data.errors import UserError
from unif2ace_model.checkpoint import from_phi, from_showo, upcycle
from unif2ace_model.model import UniF2ace
from unif2ace_model.prompts import special_id
from unif2ace_model.start import place_of, start_from
from unif2ace_model.text import TextTokenizer

BOS_ID = 7


def text(bos: bool = True) -> TextTokenizer:
    words = {f"w{i}": i for i in range(VOCAB)}
    if bos:
        words = {"<|endoftext|>" if i == BOS_ID else word: i for word, i in words.items()}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit() if bos else pre_tokenizers.Punctuation()
    return TextTokenizer(tokenizer)


@pytest.mark.parametrize("kind", ["phi", "showo"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_run_starts_at_the_dense_function(tmp_path: Path, kind: str, file: str) -> None:
    rows = VOCAB if kind == "phi" else VOCAB + 10 + DENSE.codebook + 1
    prefix = "" if kind == "phi" else "showo."
    theirs = {f"{prefix}{name}": tensor.clone() for name, tensor in phi(True, rows).state_dict().items()}
    if file.endswith(".bin"):
        torch.save(theirs, tmp_path / file)
    else:
        save_file(theirs, tmp_path / file)
    torch.manual_seed(0)
    ours = UniF2ace(FULL).eval()
    torch.manual_seed(0)
    dense = UniF2ace(DENSE).eval()
    start_from(ours, f"{kind}:{tmp_path}", text())
    upcycle(dense, from_phi(theirs, DENSE) if kind == "phi" else from_showo(theirs, DENSE))
    for name in ("text_embed", "codes.embed") if kind == "phi" else ("text_embed",):  # what the body lacks was fresh
        dense.state_dict()[f"{name}.weight"].copy_(ours.state_dict()[f"{name}.weight"])
    batch = mixed_batch()
    with torch.no_grad():
        difference = (ours(batch).hidden_BSD - dense(batch).hidden_BSD)[batch.valid_BS]
    assert difference.abs().max() < 1e-5
    if kind == "showo":
        table = theirs["showo.model.embed_tokens.weight"]
        assert torch.equal(ours.text_embed.weight[special_id("soi", VOCAB)], table[VOCAB + 1])
        assert torch.equal(ours.text_embed.weight[special_id("eos", VOCAB)], table[BOS_ID])


def test_a_run_starts_from_a_checkpoint_of_ours_and_what_looks_may_be_missing_in_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before, ours = UniF2ace(FULL).state_dict(), UniF2ace(FULL)
    fresh = {name: t.clone() for name, t in ours.state_dict().items()}
    save_file(before, tmp_path / "model.safetensors")
    start_from(ours, f"unif2ace:{tmp_path}", text())
    assert all(torch.equal(t, before[name]) for name, t in ours.state_dict().items())
    looks = {name for name in before if name.startswith("guests.") or ".sequence." in name}
    save_file({name: t for name, t in before.items() if name not in looks}, tmp_path / "model.safetensors")
    ours.load_state_dict(fresh)
    start_from(ours, f"unif2ace:{tmp_path}", text())
    for name, t in ours.state_dict().items():
        assert torch.equal(t, fresh[name] if name in looks else before[name])
    save_file({name: t for name, t in before.items() if name != "text_head.bias"}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"another model: text_head\.bias is missing"):
        start_from(ours, f"unif2ace:{tmp_path}", text())


def test_what_cannot_be_started_from_is_said(tmp_path: Path) -> None:
    model = UniF2ace(FULL)
    for start, words in (
        ("llama:x", "write unif2ace:PATH, phi:PATH or showo:PATH"),
        (f"phi:{tmp_path / 'nowhere'}", "there is no folder"),
        (f"phi:{tmp_path}", "holds no weights"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            start_from(model, start, text())
        assert caught.value.exit_code == 2
    assert place_of("") is None
    save_file({n: t.clone() for n, t in phi(False).state_dict().items()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"does not norm queries and keys.*--set model\.qk_norm=false"):
        start_from(model, f"phi:{tmp_path}", text())
    save_file({"0.q_layernorm.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"no tensor 'model\.embed_tokens\.weight'"):
        start_from(model, f"phi:{tmp_path}", text())
    rows = VOCAB + 10 + DENSE.codebook + 1
    save_file(
        {f"showo.{name}": t.clone() for name, t in phi(True, rows).state_dict().items()}, tmp_path / "model.safetensors"
    )
    with pytest.raises(UserError, match=r"no <\|endoftext\|>"):
        start_from(model, f"showo:{tmp_path}", text(bos=False))
