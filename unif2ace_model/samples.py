"""What a model makes while it trains: pictures of captions and answers to questions, of samples that it does not learn."""

from __future__ import annotations

import json
from pathlib import Path

from unif2ace_model.answering import Ask, spoken_answers
from unif2ace_model.config import Preset
from unif2ace_model.data import Dataset, Record
from unif2ace_model.generation import Sampling, generate, grid
from unif2ace_model.image_tokenizer import load_image_tokenizer
from unif2ace_model.model import UniF2ace
from unif2ace_model.pictures import DatasetPictures
from unif2ace_model.text import TextTokenizer
from unif2ace_model.trained import TrainedModel

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
    pixels = generate(
        model, load_image_tokenizer(preset.images.tokenizer), captions, preset, Sampling(seed=preset.run.seed)
    )
    grid(pixels).save(folder / f"step-{step:06d}.png")
    questions = [next((qa for qa in record.qa), None) for record in records]
    asked = [(record, qa) for record, qa in zip(records, questions, strict=True) if qa]
    device = next(model.parameters()).device
    standing = TrainedModel(out, folder, step, "", dataset.root_sha256, dataset.encoders, preset, model, text, device)
    pictures = DatasetPictures(dataset, [record for record, _ in asked])
    said = spoken_answers(standing, pictures, [Ask(i, qa["question"]) for i, (_, qa) in enumerate(asked)])
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
