"""What flows through the house: photo and face records, annotations, attributes, claims, and the sample on disk.

Records (dataclasses) are what a stage measures and the work store keeps; models (pydantic) are what `{key}.json` holds.
Coordinates are pixels of the upright source image, x to the right, y down; angles are degrees; shares and
confidences run from 0 to 1. "Left" and "right" are sides of the image as the viewer sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = "1.1"

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Status = Literal["kept", "dropped", "failed"]
Group = Literal["appearance", "action", "emotion"]
Verdict = Literal["supported", "contradicted", "unverified"]


# ------------------------------------------------------------------ the sample: {key}.json


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evidence(Model):
    """Who says so: a model with its revision (first hex digits of its hash), the source's own annotation, or people who
    looked (`people:INITIALS`, captions/people.py)."""

    by: str
    revision: str = ""
    measured: str = ""


class Attribute(Model):
    """One measured or annotated property. `validated`: its precision was shown on labelled photographs (docs/attributes.md)."""

    name: str
    group: Group
    value: str
    confidence: float = Field(ge=0, le=1)
    validated: bool
    evidence: Evidence


class Source(Model):
    """Where the photo comes from. `captions`: what the source itself says of it, a caption a line ("": nothing)."""

    dataset: str
    id: str
    sha256: str
    licence: str
    author: str
    url: str
    captions: str = ""


class Image(Model):
    """The crop: its size, and the four corners (tl, tr, br, bl) that it covers in the upright source image."""

    width: int
    height: int
    align: Literal["ffhq", "box"]
    quad: list[list[float]]
    source_width: int
    source_height: int
    padded: float = Field(ge=0, le=1, description="share of the crop's area outside the source, filled by reflection")


class Face(Model):
    """The face in crop coordinates (box x1 y1 x2 y2; five landmarks), and what the filters looked at."""

    box: list[float]
    landmarks: list[list[float]]
    score: float
    face_px: float
    yaw: float
    pitch: float
    roll: float
    sharpness: float
    brightness: float


class Captioner(Model):
    """Who wrote the caption. `removed`: claims of it that the evidence contradicted, and that were rewritten or cut
    (`attribute=value` or `attribute!=value`, separated by blanks; "": none)."""

    engine: str
    model: str
    revision: str
    prompt_sha256: str
    removed: str = ""


class Claim(Model):
    """`caption[span[0]:span[1]]` states `attribute = value` (`negated`: that it is not so).

    `by`: whose evidence settled the verdict, as in Evidence.by; "" where nothing did.
    """

    attribute: str
    value: str
    negated: bool = False
    span: list[int]
    verdict: Verdict
    by: str = ""


QAKind = Literal["true_false", "choice_2_3", "choice_4", "open"]
Check = Literal["pass", "fail", "unchecked"]
NOT_VISIBLE = "not_visible"  # the value of an answer "this cannot be seen"


class Checks(Model):
    """What was checked of a question; a published one has no `fail` (docs/qa.md)."""

    derivable: Check  # the answer was found again from claims or image, without seeing it
    blind: Check  # the answer cannot be guessed without the image
    one_correct: Check  # of the options exactly one is right
    no_giveaway: Check  # the question does not hold its answer
    distinct: Check  # no other question of the sample asks the same
    allowed: Check  # nothing forbidden: identity, ethnicity, …
    value_stated: Check = "unchecked"  # the answer states the value that it is filed under


class QA(Model):
    """One question. `value` is the answer in the taxonomy's words; `letter` the right option's ("" for open questions)."""

    question: str
    answer: str
    kind: QAKind
    category: Group
    attribute: str
    value: str
    options: list[str]
    letter: str
    verdict: Verdict
    checks: Checks
    source: str


class Sample(Model):
    """The whole of `{key}.json`: every field in every sample, typed, never null."""

    uid: str
    schema_version: str
    split: Split
    source: Source
    image: Image
    face: Face
    attributes: list[Attribute]
    caption: str
    captioner: Captioner
    claims: list[Claim]
    qa: list[QA]


# ------------------------------------------------------------------ inputs and what their source says of them


@dataclass(slots=True)
class Annotations:
    """What the source itself says of one photo, and what people answered about its faces in a review.

    Attribute names and values are the taxonomy's. `people`: answers as captions/people.py reads them, of every sample of the
    photo; the work store adds them where it hands out an input.
    """

    author: str = ""
    licence: str = ""
    url: str = ""
    captions: list[str] = field(default_factory=list)
    attributes: list[dict[str, Any]] = field(default_factory=list)  # Attribute.model_dump()
    adults: bool = False  # somebody vouches that this source holds adults only
    people: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class InputRef:
    """One input, cheap to list and to send to a worker; sources.read.read_input turns it into bytes.

    `source_id` is `dataset/relative/path` (tar member and table row behind `#`), stable, UTF-8 and unique in a run.
    `kind`: file | tar (member at `offset`, `size`) | table (row `offset` of a parquet or arrow file) | video.
    `stamp` changes when the bytes may have changed (size and mtime of the containing file).
    `problem`: (code, message) of an input that can be named but not read; `status` then says dropped or failed.
    """

    source_id: str
    dataset: str
    kind: Literal["file", "tar", "table", "video"]
    path: str  # os.fsdecode: may hold surrogate escapes
    stamp: str
    member: str = ""
    offset: int = 0
    size: int = 0
    problem: tuple[str, str] | None = None
    problem_status: Status = "failed"
    annotations: Annotations = field(default_factory=Annotations)


# ------------------------------------------------------------------ what analysis measures


@dataclass(slots=True)
class FaceRecord:
    """Everything measured on one face; all numbers rounded. `measured` is False where only the detector ran."""

    box: list[float]
    landmarks: list[list[float]]  # right eye, left eye, nose, mouth corners as insightface orders them: 5 x 2
    score: float
    measured: bool = False
    quad: list[list[float]] = field(default_factory=list)  # aligned crop: tl, tr, br, bl
    presence: float = 0.0
    yaw: float = 0.0  # > 0: nose to the image's right
    pitch: float = 0.0  # > 0: looking up
    roll: float = 0.0  # > 0: clockwise in the image
    age: dict[str, float] = field(
        default_factory=dict
    )  # expected, mirrored, p_under_13 … (faces/age.py); empty: no estimate
    p_female: float = -1.0  # -1: not measured
    emotion: dict[str, float] = field(default_factory=dict)
    blendshapes: dict[str, float] = field(default_factory=dict)
    geometry: dict[str, float] = field(default_factory=dict)  # attributes/mesh.py
    pixels: dict[str, float] = field(default_factory=dict)  # attributes/pixels.py; skin tone among them: private
    quality: dict[str, float] = field(
        default_factory=dict
    )  # faces/quality.py: sharpness, brightness, contrast, dark, bright, outside


@dataclass(slots=True)
class PhotoRecord:
    """The analysis of one photo's bytes. `error` is (code, message) where it failed; then the rest is empty."""

    sha256: str
    bytes: int
    format: str = ""
    mode: str = ""
    width: int = 0  # upright
    height: int = 0
    frames: int = 1
    frame_index: int = 0
    phash: str = ""
    faces: list[FaceRecord] = field(default_factory=list)
    nsfw: float = -1.0  # -1: not measured
    error: tuple[str, str] | None = None


def sample_key(sha256: str, face_index: int, single: bool) -> str:
    """First 128 bits of the source's hash; `-N` (from 0, detection order) where one photo gives several samples."""
    return sha256[:32] if single else f"{sha256[:32]}-{face_index}"
