"""An attribute model at work: attributes.onnx (unif2ace_model/attributes.py wrote it) on one crop, without torch.

The graph takes RGB pixels (1, 3, S, S) from 0 to 255 and gives one probability for every value of every attribute, the
encoder's own normalisation included. What it may state, and from which probability on, stands in the file's metadata.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import onnx
import onnxruntime
from PIL import Image
from pydantic import Field, ValidationError, model_validator

from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import TEMPLATE_112, similarity
from unif2ace_data.faces.runtime import session_options
from unif2ace_data.schema import Attribute, Evidence, Model
from unif2ace_data.taxonomy import ValueClaim, load_taxonomy

FORMAT = "unif2ace-attributes-1"
METADATA = "unif2ace"  # the key of the metadata in the file's metadata_props
PIXELS, PROBABILITIES = "pixels", "probabilities"


class Preprocessing(Model):
    """`face`: the five landmarks moved to ArcFace's template; `crop`: the whole crop, scaled (bicubic). S = `size`."""

    kind: Literal["face", "crop"]
    size: int = Field(ge=16, le=2048)
    align: str = Field(
        "", description="crop: how the crops that it learnt from were aligned (recipe: faces.align.mode)"
    )


class EncoderFacts(Model):
    """The frozen encoder inside: its name, the SHA-256 of its weights, and the licence of these."""

    name: str
    sha256: str
    licence: str
    non_commercial: bool


class Head(Model):
    """One attribute. `values` in the order of the graph's output; a value "" stands for all others and is never stated.

    `stated`: values that reached the precision wanted, each with its threshold and what was counted on the validation
    split there.
    """

    name: str
    values: list[str] = Field(min_length=2)
    stated: dict[str, ValueClaim]


class Metadata(Model):
    """What stands in the file beside the graph. `yaw`, `pitch`: degrees up to which faces were there to learn from."""

    format: Literal["unif2ace-attributes-1"]
    encoder: EncoderFacts
    preprocessing: Preprocessing
    heads: list[Head] = Field(min_length=1)
    precision: float = Field(ge=0, le=1, description="the precision that was wanted of every value")
    yaw: float = Field(ge=0)
    pitch: float = Field(ge=0)
    trained_on: str = Field(description="root hash of the dataset")

    @model_validator(mode="after")
    def fits_the_taxonomy(self) -> Metadata:
        taxonomy = load_taxonomy()
        for head in self.heads:
            known = taxonomy[head.name].values if head.name in taxonomy else []
            unknown = sorted({*head.values, *head.stated} - {*known, ""})
            if unknown or not set(head.stated) <= set(head.values) - {""}:
                raise ValueError(
                    f"{head.name} = {unknown or sorted(head.stated)} is not in the taxonomy of this version"
                )
        return self


class AttributeModel:
    """One attribute model, loaded: a session of one thread. Raises UserError where the file is none."""

    def __init__(self, path: Path) -> None:
        data = read_model(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.metadata = metadata_of(data, path)
        self.by = f"attributes:{self.metadata.encoder.name}"
        try:
            self._session = onnxruntime.InferenceSession(data, session_options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own for what it cannot run
            raise UserError(f"{path}: onnxruntime cannot run this attribute model ({one_line(error)})") from None

    def probabilities(self, crop_rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """(V,) float32: the values of all heads, one head after another; each head's add up to 1."""
        pixels = pixels_of(crop_rgb, landmarks, self.metadata.preprocessing)
        return np.asarray(self._session.run([PROBABILITIES], {PIXELS: pixels})[0][0])

    def predict(self, crop_rgb: np.ndarray, landmarks: np.ndarray) -> list[Attribute]:
        """What may be stated of the face in a crop (H, W, 3) uint8 RGB with five landmarks (5, 2) in its pixels.

        At most one value an attribute, the likeliest, where it reaches its threshold; in the taxonomy's order.
        """
        taxonomy = load_taxonomy()
        given, found, start = self.probabilities(crop_rgb, landmarks), dict[str, Attribute](), 0
        for head in self.metadata.heads:
            shares = given[start : start + len(head.values)]
            start += len(head.values)
            value, share = head.values[int(shares.argmax())], round(float(shares.max()), 3)
            if value not in head.stated or share < head.stated[value].threshold:
                continue
            found[head.name] = Attribute(
                name=head.name,
                group=taxonomy[head.name].group,
                value=value,
                confidence=min(1.0, share),
                validated=True,
                evidence=Evidence(by=self.by, revision=self.sha256[:8], measured=f"p={share:.2f}"),
            )
        return [found[name] for name in taxonomy.attributes if name in found]

    def resembles(self, yaw: float, pitch: float) -> bool:
        """Whether a head turned and raised so (degrees) is like those that its figures were counted on."""
        return abs(yaw) <= self.metadata.yaw and abs(pitch) <= self.metadata.pitch


def load_model(path: str) -> AttributeModel:
    """The model in this file, loaded once per process (again where the file has changed). Raises UserError."""
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise unreadable(Path(path), error) from None
    return _loaded(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1)
def _loaded(path: str, _changed: int, _size: int) -> AttributeModel:
    return AttributeModel(Path(path))


def describe_model(path: str) -> tuple[str, Metadata]:
    """(SHA-256, metadata) of an attribute model, without starting it. Raises UserError."""
    data = read_model(Path(path))
    return hashlib.sha256(data).hexdigest(), metadata_of(data, Path(path))


def read_model(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"no attribute model at {path} ({error.strerror or error}): `unif2ace-model attributes` writes one", 2
    )


def metadata_of(data: bytes, path: Path) -> Metadata:
    try:
        graph = onnx.load_model_from_string(data)
        facts = {entry.key: entry.value for entry in graph.metadata_props}
    except Exception as error:  # protobuf raises classes of its own
        raise UserError(f"{path} is no ONNX file, or a damaged one ({one_line(error)})") from None
    if METADATA not in facts:
        raise UserError(f"{path} is no attribute model: use a file that `unif2ace-model attributes` wrote")
    try:
        return Metadata.model_validate_json(facts[METADATA])
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()[:3])
        raise UserError(f"{path} does not fit this version ({problems}): train it again") from None


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def pixels_of(crop_rgb: np.ndarray, landmarks: np.ndarray, how: Preprocessing) -> np.ndarray:
    """(1, 3, S, S) float32 RGB from 0 to 255: what the graph takes of a crop (H, W, 3) uint8 and landmarks (5, 2)."""
    side = (how.size, how.size)
    if how.kind == "face":
        warp = similarity(np.asarray(landmarks, np.float64), TEMPLATE_112 * how.size / 112)
        picture = cv2.warpAffine(crop_rgb, warp, side)
    else:
        picture = np.asarray(Image.fromarray(crop_rgb).resize(side, Image.Resampling.BICUBIC))
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
