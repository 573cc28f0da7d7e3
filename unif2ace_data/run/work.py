"""What a worker process does: analyse photos, cut crops, write texts. Plain functions over chunks.

A process loads its networks once. Every exception of one input becomes that input's error. What no input can cause
(missing weights) is a UserError and ends the run.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unif2ace_data.captions.text import text_of
from unif2ace_data.curate.removal import REMOVED, WHY, Tombstones, face_kind, look_of, look_of_jpeg, read_tombstones
from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.align import crop_jpeg
from unif2ace_data.faces.analyse import Analyser, Seen, models_of
from unif2ace_data.faces.decode import Decoded
from unif2ace_data.faces.runtime import single_threaded
from unif2ace_data.filters import face_drop, photo_drop
from unif2ace_data.recipe import Recipe
from unif2ace_data.run.environment import differences
from unif2ace_data.run.store import packed_record
from unif2ace_data.schema import FaceRecord, InputRef, PhotoRecord, sample_key
from unif2ace_data.sources.kinds import HEAD, kind_by_content
from unif2ace_data.sources.read import read_input
from unif2ace_data.sources.video import frame_at

MOST_HELD = 1 << 26  # bytes of files and pixels that wait for a chunk's next step


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
    look: np.ndarray | None = None  # of the whole photo (curate/removal.py)
    crops: list[Crop] = field(default_factory=list)
    texts: list[tuple[str, bytes]] = field(default_factory=list)  # sample key, captions.text.text_of
    reason: str = ""  # why it will not be kept, as far as one photo alone can tell; for the progress line
    error: tuple[str, str] | None = None


_analysers: dict[str, Analyser] = {}


def analyser_for(recipe: Recipe, models: dict[str, str]) -> Analyser:
    """Raises UserError where this process would measure with other networks than `models`."""
    nsfw = recipe.filters.nsfw is not None
    name = recipe.faces.model_dump_json() + str(nsfw)
    if name not in _analysers:
        single_threaded()
        analyser = Analyser(recipe.faces, nsfw=nsfw)
        if different := differences(short(models_of(analyser.pack, nsfw)), short(models)):
            raise UserError(
                f"the face pack {recipe.faces.engine!r} is not the driver's: {different}. Every machine needs the same pack "
                "under the same name"
            )
        _analysers[name] = analyser
    return _analysers[name]


def short(hashes: dict[str, str]) -> dict[str, str]:
    return {name: sha256[:12] for name, sha256 in hashes.items()}


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


@functools.cache
def tombstones_of(out: Path) -> Tombstones | None:
    """Read once a process: a pool of workers lives no longer than a stage."""
    return read_tombstones(out)


@dataclass(slots=True)
class Job:
    """One input on its way through the steps of `analyse_chunk`. `faces`: those to be described, one a crop."""

    ref: InputRef
    result: Result
    seen: Seen | None = None
    faces: list[FaceRecord] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Bytes of memory, about: the file's, and the pixels' as Pillow, insightface and OpenCV's warps like them."""
        if self.seen is None:
            return 0
        return len(self.seen.data) + (4 * self.seen.decoded.rgb.nbytes if self.seen.decoded else 0)


def analyse_chunk(recipe: Recipe, out: Path, models: dict[str, str], refs: list[InputRef]) -> list[Result]:
    """Measure each input; faces that pass the recipe's filters are cut and described at once, from what is at hand.

    `models`: the networks that the driver knows of, file -> SHA-256 (faces.analyse.models_of). What matches a tombstone of
    the dataset at `out` is an error (REMOVED), and nothing of it is handed on. Each step is taken for several inputs in a
    row: then it finds its code and data in the processor's caches.
    """
    analyser, stones = analyser_for(recipe, models), tombstones_of(out)
    done: list[Result] = []
    jobs: list[Job] = []
    for ref in refs:
        jobs.append(Job(ref, Result(ref.source_id)))
        attempt(open_input, jobs[-1], analyser, stones)
        if ref is refs[-1] or sum(job.held for job in jobs) > MOST_HELD:
            for job in jobs:
                attempt(look, job, analyser)
            for job in jobs:
                attempt(measure, job, analyser, stones, recipe)
            for job in jobs:
                attempt(describe, job, recipe)
            done += [job.result for job in jobs]
            jobs = []
    return done


def attempt(step: Callable[..., None], job: Job, *given: object) -> None:
    """Take a step; what it raises becomes the input's error, and no step follows."""
    if job.result.error is not None:
        return
    try:
        step(job, *given)
    except InputError as error:
        job.result = Result(job.ref.source_id, error=(error.code, error.message))
    except UserError:
        raise
    except Exception as error:
        job.result = Result(job.ref.source_id, error=("engine_error", f"{type(error).__name__}: {error}"))


def open_input(job: Job, analyser: Analyser, stones: Tombstones | None) -> None:
    data = read_input(job.ref)
    if stones is not None and stones.has_file(hashlib.sha256(data).hexdigest()):
        raise InputError(REMOVED, WHY)
    job.seen = analyser.open(data, "video" if is_video(job.ref, data) else "image")


def look(job: Job, analyser: Analyser) -> None:
    assert job.seen is not None
    analyser.look(job.seen)


def measure(job: Job, analyser: Analyser, stones: Tombstones | None, recipe: Recipe) -> None:
    assert job.seen is not None
    analysis = analyser.measure(job.seen)
    record = analysis.record
    result = Result(job.ref.source_id, record.sha256, packed_record(record), analysis.embeddings)
    if analysis.decoded is not None:
        result.look = look_of(analysis.decoded.as_picture())
    if stones is not None and stones.has_any(result.look, "", ()):
        raise InputError(REMOVED, WHY)
    job.result = result
    drop = photo_drop(record, recipe) if record.error is None else None
    if record.error is not None or drop is not None or analysis.decoded is None:
        result.reason = record.error[0] if record.error else drop.reason if drop else ""
        return
    for index, face in enumerate(record.faces):
        drop = face_drop(face, record, job.ref.annotations, recipe)
        if drop is None:
            crop = cut(job.seen.data, record, index, recipe, analysis.decoded)
            refuse_removed(crop, recipe, stones)
            result.crops.append(crop)
            job.faces.append(face)
        else:
            result.reason = drop.reason


def describe(job: Job, recipe: Recipe) -> None:
    for crop, face in zip(job.result.crops, job.faces, strict=True):
        job.result.texts.append((crop.key, text_of(crop.key, face, job.ref.annotations, recipe, crop.jpeg)))


def is_video(ref: InputRef, data: bytes) -> bool:
    """By the bytes, whatever the file is named: an analysis is kept by its bytes. The name decides where they do not tell."""
    kind = kind_by_content(data[:HEAD])
    return ref.kind == "video" if kind not in ("image", "video") else kind == "video"


def refuse_removed(crop: Crop, recipe: Recipe, stones: Tombstones | None) -> None:
    """Raises InputError where the crop looks like one that was removed."""
    if stones is not None and stones.has_look(face_kind(recipe.faces.align), look_of_jpeg(crop.jpeg)):
        raise InputError(REMOVED, WHY)


def crop_chunk(recipe: Recipe, out: Path, jobs: list[tuple[InputRef, PhotoRecord, list[int]]]) -> list[Result]:
    """Cut crops of faces that were measured before but not kept then. `jobs`: input, its record, face indices."""
    single_threaded()
    stones = tombstones_of(out)
    results = []
    for ref, record, indices in jobs:
        try:
            data = read_input(ref)
            decoded = video_frame(data, record) if record.format == "VIDEO" else None
            crops = [cut(data, record, i, recipe, decoded) for i in indices]
            for crop in crops:
                refuse_removed(crop, recipe, stones)
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
