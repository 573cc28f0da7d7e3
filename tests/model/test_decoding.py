"""Caches give the same tokens and logits as computing everything anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from unif2ace_models import CLIP, DENSE, FACE, FULL, VOCAB, codes, random_model

from unif2ace_model.decoding import Denoise, answer, denoiser, spoken, text_nll
from unif2ace_model.prompts import generation, pack, special_id, understanding
from unif2ace_model.sampling import ancestral, first_hitting, maskgit


def test_answers_from_the_cache_are_those_without_it() -> None:
    model = random_model(std=0.15)
    pictures = codes(3)
    questions = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]
    torch.manual_seed(0)
    face, clip = torch.randn(3, FACE), torch.randn(3, 2, CLIP)
    prompts = pack([understanding(c, q, [], VOCAB) for c, q in zip(pictures, questions, strict=True)], VOCAB, left=True)
    prompts.face_BC, prompts.clip_BPC = face, clip
    cached = answer(model, prompts, 12)
    assert len({tuple(a) for a in cached}) == 3
    eos = special_id("eos", VOCAB)
    for row, question in enumerate(questions):
        said: list[int] = []
        while len(said) < 12:
            whole = pack([understanding(pictures[row], question + said, [], VOCAB)], VOCAB)
            whole.face_BC, whole.clip_BPC = face[row : row + 1], clip[row : row + 1]
            with torch.no_grad():
                token = int(spoken(model.text_logits(model(whole).hidden_BSD[:, -1]), VOCAB).argmax())
            if token == eos:
                break
            said.append(token)
        assert cached[row] == said


def test_a_prompt_ends_at_eos_and_no_other_special_id_is_said() -> None:
    logits = torch.zeros(1, VOCAB + 8)
    logits[0, special_id("soi", VOCAB)] = 5
    logits[0, special_id("eos", VOCAB)] = 1
    assert spoken(logits, VOCAB).argmax() == special_id("eos", VOCAB)


def test_logits_from_a_cached_prefix_are_those_of_whole_sequences_and_guidance_is_affine() -> None:
    model = random_model()
    captions = [[1, 2, 3, 4], [9]]
    masked = codes(2)
    masked[:, ::3] = DENSE.codebook
    rate = torch.tensor([0.4, 0.7])

    def whole(texts: list[list[int]]) -> torch.Tensor:
        batch = pack([generation(t, c, VOCAB, float(r)) for t, c, r in zip(texts, masked, rate, strict=True)], VOCAB)
        with torch.no_grad():
            hidden = model(batch).hidden_BSD
        start = int(batch.start_B[0])
        return model.code_logits(hidden[:, start : start + FULL.image_tokens])

    with_caption, without = whole(captions), whole([[], []])
    noisy = torch.from_numpy(masked)
    torch.testing.assert_close(denoiser(model, captions)(noisy, rate), with_caption, atol=2e-5, rtol=1e-4)
    guided = denoiser(model, captions, 1.75)(noisy, rate)
    torch.testing.assert_close(guided, 2.75 * with_caption - 1.75 * without, atol=2e-4, rtol=1e-3)
    again = denoiser(model, captions, 1.75)
    again(noisy, rate * 0.5)
    torch.testing.assert_close(again(noisy, rate), guided)  # a step leaves the cache as it was


SAMPLERS: dict[str, Callable[[Denoise, torch.Generator], torch.Tensor]] = {
    "maskgit": lambda denoise, generator: maskgit(denoise, 2, FULL.image_tokens, FULL.codebook, 5, generator),
    "ancestral": lambda denoise, generator: ancestral(denoise, 2, FULL.image_tokens, FULL.codebook, 8, generator),
    "first_hitting": lambda denoise, generator: first_hitting(denoise, 2, FULL.image_tokens, FULL.codebook, generator),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_pictures_from_a_cached_prefix_are_those_of_whole_sequences(name: str) -> None:
    model, captions = random_model(), [[1, 2, 3, 4], [9]]

    def whole(codes_BN: torch.Tensor, rate_B: torch.Tensor) -> torch.Tensor:
        rows = zip(captions, codes_BN.numpy(), rate_B, strict=True)
        batch = pack([generation(text, picture, VOCAB, float(rate)) for text, picture, rate in rows], VOCAB)
        start = int(batch.start_B[0])
        return model.code_logits(model(batch).hidden_BSD[:, start : start + FULL.image_tokens])

    cached, uncached = (
        SAMPLERS[name](denoise, torch.Generator().manual_seed(0)) for denoise in (denoiser(model, captions), whole)
    )
    assert torch.equal(cached, uncached)
    assert cached.max() < FULL.codebook


def test_the_nll_of_an_answer_is_the_chain_of_its_tokens() -> None:
    model = random_model()
    torch.manual_seed(0)
    face, clip = torch.randn(1, FACE), torch.randn(1, 2, CLIP)
    picture, said = codes()[0], [7, 8, 9]
    batch = pack([understanding(picture, [1, 2], said, VOCAB)], VOCAB, length=40)
    batch.face_BC, batch.clip_BPC = face, clip
    total, count = text_nll(model, batch)
    expected = 0.0
    for position, token in enumerate([*said, special_id("eos", VOCAB)]):
        prompt = pack([understanding(picture, [1, 2, *said[:position]], [], VOCAB)], VOCAB)
        prompt.face_BC, prompt.clip_BPC = face, clip
        with torch.no_grad():
            expected -= float(model.text_logits(model(prompt).hidden_BSD[0, -1]).log_softmax(-1)[token])
    assert count.tolist() == [4]
    assert np.isclose(total.item(), expected, atol=1e-4)
