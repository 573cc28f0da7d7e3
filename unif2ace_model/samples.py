"""What a model makes while it trains: pictures of captions and answers to questions, of samples that it does not learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from unif2ace_model.config import Preset
from unif2ace_model.data import Dataset, Record
from unif2ace_model.decoding import answer
from unif2ace_model.generation import Sampling, generate, grid
from unif2ace_model.mixture import question_text
from unif2ace_model.model import UniF2ace
from unif2ace_model.prompts import pack, understanding
from unif2ace_model.text import TextTokenizer

PICTURES = 8  # our choice


def write_samples(out: Path, step: int, model: UniF2ace, dataset: Dataset, text: TextTokenizer, preset: Preset) -> None:
    """samples/step-NNNNNN.png (a grid, generated from captions) and .jsonl (captions, questions, answers).

    Random state is left as it was: whether samples are written changes no weight.
    """
    records = shown(dataset)
    training = model.training
    model.eval()
    folder = out / "samples"
    folder.mkdir(exist_ok=True)
    captions = [text.encode(record.caption)[: preset.text.max_tokens] for record in records]
    pixels = generate(model, captions, preset, Sampling(seed=preset.run.seed))
    grid(pixels).save(folder / f"step-{step:06d}.png")
    questions = [next((qa for qa in record.qa), None) for record in records]
    asked = [(record, qa) for record, qa in zip(records, questions, strict=True) if qa]
    said = answers(model, dataset, text, [(record, qa["question"]) for record, qa in asked])
    lines = [{"uid": r.uid, "caption": r.caption} for r in records]
    lines += [
        {"uid": record.uid, "question": qa["question"], "answer": qa["answer"], "said": words}
        for (record, qa), words in zip(asked, said, strict=True)
    ]
    (folder / f"step-{step:06d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    model.train(training)


def shown(dataset: Dataset) -> list[Record]:
    for split in ("validation", "test"):
        if held_out := [record for record in dataset.records if record.split == split]:
            return held_out[:PICTURES]
    return dataset.records[:PICTURES]


def answers(
    model: UniF2ace, dataset: Dataset, text: TextTokenizer, asked: Sequence[tuple[Record, str]], batch: int = 32
) -> list[str]:
    """The model's answers, greedy. asked: (sample, question)."""
    vocab, said = model.config.text_vocab, []
    device = next(model.parameters()).device
    for first in range(0, len(asked), batch):
        some = asked[first : first + batch]
        layouts = [
            understanding(dataset.codes(record), text.encode(question_text(question)), [], vocab)
            for record, question in some
        ]
        prompts = pack(layouts, vocab, left=True)
        prompts.face_BC = dataset.features("face", [record for record, _ in some])
        prompts.clip_BPC = dataset.features("clip", [record for record, _ in some])
        said += [text.decode(ids) for ids in answer(model, prompts.to(device))]
    return said
