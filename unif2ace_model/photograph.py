"""A raw photograph as a model sees it, cropped and encoded as those were that it learnt from; and what it says of it.

How a dataset's crops were made stands in its recipe; a run keeps that section in faces.yaml, so that the model alone,
without the dataset, knows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError

from unif2ace_data.errors import UserError
from unif2ace_data.faces.align import crop_jpeg
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.faces.decode import decode
from unif2ace_data.recipe import Faces
from unif2ace_data.run.pack import face_in_crop
from unif2ace_data.run.private import recipe_at
from unif2ace_data.shards import write_bytes
from unif2ace_model.answering import Ask, spoken_answers
from unif2ace_model.config import Preset
from unif2ace_model.data import same_encoders, views_of
from unif2ace_model.features import kept, networks_of
from unif2ace_model.image_tokenizer import load_image_tokenizer
from unif2ace_model.pictures import EncodedPictures
from unif2ace_model.trained import TrainedModel

FACES = "faces.yaml"


@dataclass(slots=True)
class Seen:
    """Of one photograph: its crop as JPEG, how many faces were found, and what the model reads of the largest."""

    jpeg: bytes
    faces: int
    codes_N: np.ndarray
    features: dict[str, np.ndarray]  # "face" (C,) and "clip" (P, C) float32, those that the model reads


def keep_faces(shards: Path, run: Path) -> None:
    """Write faces.yaml of a run. Raises UserError where the dataset has no recipe."""
    faces = recipe_at(shards).faces
    write_bytes(run / FACES, yaml.safe_dump(faces.model_dump(mode="json"), sort_keys=False).encode())


def faces_of(run: Path) -> Faces:
    """Raises UserError where the file is missing or broken."""
    file = run / FACES
    try:
        return Faces.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except FileNotFoundError:
        raise UserError(f"{file} is missing: it says how the crops were made that the model learnt from", 2) from None
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is broken ({str(error).splitlines()[0]})") from None


def see(photograph: Path, faces: Faces, preset: Preset, encoders: Mapping[str, str]) -> Seen:
    """The largest face of a photograph, as `build` and then `train` take it. `encoders`: whose revisions are wanted.

    Raises UserError: no such file, not a picture, no face in it, weights that are missing or not those of the training.
    """
    tokenizer, networks = load_image_tokenizer(preset.images.tokenizer), networks_of(preset.features)
    revisions = {name: network.revision for name, network in networks.items()}
    same_encoders(encoders, {"tokenizer": tokenizer.revision} | revisions)
    data = read(photograph)
    analysis = Analyser(faces).analyse(data)
    record = analysis.record
    if record.error is not None:
        raise UserError(f"{photograph} cannot be read as a picture: {record.error[1]}")
    face = next((face for face in record.faces if face.measured), None)  # the largest comes first
    if face is None:
        raise UserError(f"{photograph}: no face found; the model knows crops of faces alone")
    quad = np.array(face.quad, np.float64)
    jpeg, side, _ = crop_jpeg(data, quad, faces.align, analysis.decoded)
    crop = decode(jpeg).rgb
    pixels_HWC = views_of(crop, record.sha256, preset.images.size, 1)[0]
    pixels_CHW = torch.from_numpy(pixels_HWC).float().permute(2, 0, 1) / 127.5 - 1
    codes_N = tokenizer.encode(pixels_CHW[None])[0].numpy()
    landmarks = np.array(face_in_crop(face, quad, side).landmarks)
    features = {name: kept(networks[name].of([crop], [landmarks])[0]) for name in preset.model.guests}
    return Seen(jpeg, len(record.faces), codes_N, features)


def answer_about(trained: TrainedModel, photograph: Path, questions: Sequence[str]) -> dict[str, Any]:
    """The model's answers about the largest face of a photograph, and how many faces were found.

    Raises UserError: an empty question, and as `see` does.
    """
    if not questions or not all(question.strip() for question in questions):
        raise UserError('an empty question: ask, for example, --question "Is the person smiling?"', 2)
    seen = see(photograph, faces_of(trained.run), trained.preset, trained.encoders)
    pictures = EncodedPictures(seen.codes_N[None], {name: array[None] for name, array in seen.features.items()})
    said = spoken_answers(trained, pictures, [Ask(0, question) for question in questions])
    return {
        "image": str(photograph),
        "faces": seen.faces,
        "checkpoint": str(trained.folder),
        "answers": [{"question": q, "answer": words} for q, words in zip(questions, said, strict=True)],
    }


def read(photograph: Path) -> bytes:
    try:
        return photograph.read_bytes()
    except OSError as error:
        raise UserError(f"{photograph} cannot be read ({error.strerror})", 2) from None
