"""Named predicates: stored measurements x thresholds -> a reason, or nothing.

A filter is a function of a photo, a face and the recipe's filters; it returns a Drop (what was measured, what was
asked for) or None. The order of PHOTO_FILTERS and FACE_FILTERS is the order of the funnel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unif2ace_data.faces.adult import adult_drop, stated_drop
from unif2ace_data.recipe import Recipe
from unif2ace_data.schema import Annotations, FaceRecord, PhotoRecord


@dataclass(frozen=True, slots=True)
class Drop:
    """Why something is not in the dataset: the filter's name, the measured value, the threshold it missed."""

    reason: str
    value: float
    threshold: float
    detail: str = ""


def resolution(photo: PhotoRecord, recipe: Recipe) -> Drop | None:
    """Shorter side of the upright photo, pixels."""
    limit = recipe.filters.resolution
    side = min(photo.width, photo.height)
    return Drop("resolution", side, limit.min) if limit and side < limit.min else None


def no_face(photo: PhotoRecord, recipe: Recipe) -> Drop | None:
    return Drop("no_face", 0, 1) if not photo.faces else None


def several_faces(photo: PhotoRecord, recipe: Recipe) -> Drop | None:
    """More than one face, where the recipe wants exactly one."""
    count = len(photo.faces)
    return Drop("several_faces", count, 1) if recipe.faces.per_photo == "one" and count > 1 else None


def nsfw(photo: PhotoRecord, recipe: Recipe) -> Drop | None:
    """Largest score of an exposed class; a photo without the measurement does not pass."""
    limit = recipe.filters.nsfw
    if limit is None:
        return None
    if photo.nsfw < 0:
        return Drop("nsfw", photo.nsfw, limit.max, "not measured")
    return Drop("nsfw", photo.nsfw, limit.max) if photo.nsfw > limit.max else None


def not_measured(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    """A face too small to measure, or beyond faces.max_faces."""
    return None if face.measured else Drop("not_measured", face_px(face), recipe.faces.max_faces, "detected only")


def face_size(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    """Longer side of the detector's box, source pixels."""
    limit = recipe.filters.face_px
    return Drop("face_px", face_px(face), limit.min) if limit and face_px(face) < limit.min else None


def score(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    """The detector's confidence."""
    limit = recipe.filters.score
    return Drop("score", face.score, limit.min) if limit and face.score < limit.min else None


def yaw(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    limit = recipe.filters.yaw
    return Drop("yaw", face.yaw, limit.max) if limit and abs(face.yaw) > limit.max else None


def pitch(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    limit = recipe.filters.pitch
    return Drop("pitch", face.pitch, limit.max) if limit and abs(face.pitch) > limit.max else None


def border(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    """Share of the face's box outside the photo."""
    limit, outside = recipe.filters.border, face.quality.get("outside", 1.0)
    return Drop("border", outside, limit.max) if limit and outside > limit.max else None


def sharpness(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    """Variance of the Laplacian of the grey face (faces/quality.py)."""
    limit, value = recipe.filters.sharpness, face.quality.get("sharpness", 0.0)
    return Drop("sharpness", value, limit.min) if limit and value < limit.min else None


def exposure(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    """Mean grey level of the face, 0..255."""
    limit, value = recipe.filters.exposure, face.quality.get("brightness", 0.0)
    if limit is None or limit.min <= value <= limit.max:
        return None
    return Drop("exposure", value, limit.min if value < limit.min else limit.max)


def adult(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    """The adult gate (faces/adult.py). Where somebody vouches for the source, only its own stated ages are asked."""
    gate = recipe.filters.adult
    if gate is None:
        return None
    vouched = recipe.subjects == "adults" or notes.adults
    found = stated_drop(notes, gate) if vouched else adult_drop(face, notes, gate)
    return Drop("adult", *found) if found else None


PHOTO_FILTERS: tuple[Callable[[PhotoRecord, Recipe], Drop | None], ...] = (resolution, no_face, several_faces, nsfw)
FACE_FILTERS: tuple[Callable[[FaceRecord, PhotoRecord, Annotations, Recipe], Drop | None], ...] = (
    face_size,
    not_measured,
    score,
    yaw,
    pitch,
    border,
    sharpness,
    exposure,
    adult,
)
# Every reason a row can be dropped for, in the order of the funnel; failures come before all of them.
REASONS = (
    "not_media", "removed", "exact_duplicate", "resolution", "no_face", "several_faces", "nsfw", "face_px", "not_measured",
    "score", "yaw", "pitch", "border", "sharpness", "exposure", "adult", "perceptual_duplicate", "face_duplicate",
)  # fmt: skip


# Our choice: from here down a note. With an expected age of 25 or more asked for, the age network alone lets 14.8 % of
# photographs of people under 18 in (docs/adult-gate.md), and every year less lets in more.
LOW_MIN_AGE = 25.0
MAJORITY = 18.0  # years; a stated age is taken at its word


def open_gate_notes(recipe: Recipe) -> list[str]:
    """Tell the user where the recipe opens the adult gate wider than it was measured for."""
    gate = recipe.filters.adult
    if gate is None:
        return [
            "the adult gate is off (filters.adult=null): nothing keeps photographs of minors out. If you know that the sources "
            "hold adults only, say so with --subjects adults instead: ages that a source states are then still asked"
        ]
    notes = []
    if gate.min_age < LOW_MIN_AGE and recipe.subjects != "adults":
        notes.append(
            f"filters.adult.min_age={gate.min_age:g} is low (under {LOW_MIN_AGE:g}; the default is 35): age networks read "
            "many people under 18 as that old, so photographs of minors may be in (docs/adult-gate.md)"
        )
    if gate.min_source_age < MAJORITY:
        notes.append(
            f"filters.adult.min_source_age={gate.min_source_age:g} lets in people whose source itself states an age under 18"
        )
    return notes


def photo_drop(photo: PhotoRecord, recipe: Recipe) -> Drop | None:
    return next((drop for f in PHOTO_FILTERS if (drop := f(photo, recipe))), None)


def face_drop(face: FaceRecord, photo: PhotoRecord, notes: Annotations, recipe: Recipe) -> Drop | None:
    return next((drop for f in FACE_FILTERS if (drop := f(face, photo, notes, recipe))), None)


def face_px(face: FaceRecord) -> float:
    """Longer side of the face's box, source pixels."""
    return round(max(face.box[2] - face.box[0], face.box[3] - face.box[1]), 2)
