"""What a worker process does: analyse photos, cut crops, write texts. Plain functions over chunks.

A process loads its networks once. Every exception of one input becomes that input's error. What no input can cause
(missing weights) is a UserError and ends the run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from unif2ace_data.captions.text import text_of
from unif2ace_data.faces.align import crop_jpeg
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.faces.decode import Decoded
from unif2ace_data.faces.runtime import single_threaded
from unif2ace_data.filters import face_drop, photo_drop
from unif2ace_data.recipe import Recipe
from unif2ace_data.run.store import packed_record
from unif2ace_data.schema import InputError, InputRef, PhotoRecord, UserError, sample_key
from unif2ace_data.sources.kinds import HEAD, kind_by_content
from unif2ace_data.sources.read import read_input
from unif2ace_data.sources.video import frame_at


@dataclass(slots=True)
class Crop:
    key: str
    jpeg: bytes
    side: int
    padded: float


@dataclass(slots=True)
class Result:
    """Of one input: what was measured, ready to be stored; or an error (code, message) that a later run may not meet."""

    source_id: str
    sha256: str = ""
    record: bytes = b""  # a PhotoRecord as JSON
    embeddings: np.ndarray | None = None
    crops: list[Crop] = field(default_factory=list)
    texts: list[tuple[str, bytes]] = field(default_factory=list)  # sample key, captions.text.text_of
    reason: str = ""  # why it will not be kept, as far as one photo alone can tell; for the progress line
    error: tuple[str, str] | None = None


_analysers: dict[str, Analyser] = {}


def analyser_for(recipe: Recipe) -> Analyser:
    name = recipe.faces.model_dump_json() + str(recipe.filters.nsfw is not None)
    if name not in _analysers:
        single_threaded()
        _analysers[name] = Analyser(recipe.faces, nsfw=recipe.filters.nsfw is not None)
    return _analysers[name]


def hash_chunk(refs: list[InputRef]) -> list[Result]:
    """Only read and hash: inputs that were moved, renamed or touched may have been measured before."""
    results = []
    for ref in refs:
        try:
            data = read_input(ref)
            results.append(Result(ref.source_id, hashlib.sha256(data).hexdigest()))
        except InputError as error:
            results.append(Result(ref.source_id, error=(error.code, error.message)))
    return results


def analyse_chunk(recipe: Recipe, refs: list[InputRef]) -> list[Result]:
    """Measure each input; faces that pass the recipe's filters are cut and described at once, from what is at hand."""
    analyser = analyser_for(recipe)
    return [analyse_one(analyser, recipe, ref) for ref in refs]


def analyse_one(analyser: Analyser, recipe: Recipe, ref: InputRef) -> Result:
    try:
        data = read_input(ref)
        analysis = analyser.analyse(data, "video" if is_video(ref, data) else "image")
        record = analysis.record
        result = Result(ref.source_id, record.sha256, packed_record(record), analysis.embeddings)
        drop = photo_drop(record, recipe) if record.error is None else None
        if record.error is not None or drop is not None or analysis.decoded is None:
            result.reason = record.error[0] if record.error else drop.reason if drop else ""
            return result
        for index, face in enumerate(record.faces):
            drop = face_drop(face, record, ref.annotations, recipe)
            if drop is None:
                crop = cut(data, record, index, recipe, analysis.decoded)
                result.crops.append(crop)
                result.texts.append((crop.key, text_of(crop.key, face, ref.annotations, recipe, crop.jpeg)))
            else:
                result.reason = drop.reason
        return result
    except InputError as error:
        return Result(ref.source_id, error=(error.code, error.message))
    except UserError:
        raise
    except Exception as error:
        return Result(ref.source_id, error=("engine_error", f"{type(error).__name__}: {error}"))


def is_video(ref: InputRef, data: bytes) -> bool:
    """By the bytes, whatever the file is named: an analysis is kept by its bytes. The name decides where they do not tell."""
    kind = kind_by_content(data[:HEAD])
    return ref.kind == "video" if kind not in ("image", "video") else kind == "video"


def crop_chunk(recipe: Recipe, jobs: list[tuple[InputRef, PhotoRecord, list[int]]]) -> list[Result]:
    """Cut crops of faces that were measured before but not kept then. `jobs`: input, its record, face indices."""
    single_threaded()
    results = []
    for ref, record, indices in jobs:
        try:
            data = read_input(ref)
            decoded = video_frame(data, record) if record.format == "VIDEO" else None
            crops = [cut(data, record, i, recipe, decoded) for i in indices]
            results.append(Result(ref.source_id, crops=crops))
        except InputError as error:
            results.append(Result(ref.source_id, error=(error.code, error.message)))
        except Exception as error:
            results.append(Result(ref.source_id, error=("crop_error", f"{type(error).__name__}: {error}")))
    return results


TextJob = tuple[InputRef, PhotoRecord, list[tuple[int, str, bytes]]]  # input, its record, (face, sample key, crop)


def text_chunk(recipe: Recipe, jobs: list[TextJob]) -> list[Result]:
    """Describe faces whose measurements and crops are stored already (the captions, or what they rest on, changed)."""
    single_threaded()
    results = []
    for ref, record, faces in jobs:
        result = Result(ref.source_id)
        try:
            for index, key, jpeg in faces:
                result.texts.append((key, text_of(key, record.faces[index], ref.annotations, recipe, jpeg)))
        except UserError:
            raise
        except Exception as error:
            result = Result(ref.source_id, error=("text_error", f"{type(error).__name__}: {error}"))
        results.append(result)
    return results


def cut(data: bytes, record: PhotoRecord, index: int, recipe: Recipe, at_hand: Decoded | None) -> Crop:
    quad = np.array(record.faces[index].quad, np.float64)
    jpeg, side, padded = crop_jpeg(data, quad, recipe.faces.align, at_hand)
    return Crop(sample_key(record.sha256, index, recipe.faces.per_photo == "one"), jpeg, side, padded)


def video_frame(data: bytes, record: PhotoRecord) -> Decoded:
    rgb = frame_at(data, record.frame_index)
    return Decoded(rgb, 1.0, rgb.shape[1], rgb.shape[0], "VIDEO", "RGB")
