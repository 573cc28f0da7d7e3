"""One photo's bytes in, everything measured on it out. The only place where networks see pictures.

A pure function of the bytes and of what `analysis_config` names: thresholds of filters play no part, so that changing
one re-reads measurements and never pictures. Numbers are rounded here, once, before anything stores them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import imagehash
import numpy as np
from PIL import Image

from unif2ace_data.attributes.mesh import geometry_of
from unif2ace_data.attributes.pixels import pixels_of
from unif2ace_data.errors import InputError
from unif2ace_data.faces.adult import child_proportion
from unif2ace_data.faces.align import base_scale, box_quad, ffhq_quad
from unif2ace_data.faces.decode import Decoded, decode, jpeg_scale, open_header
from unif2ace_data.faces.emotion import EmotionNet
from unif2ace_data.faces.engine import EMBEDDED, Detection, FaceEngine, Pack, find_pack
from unif2ace_data.faces.mesh import FaceMesh
from unif2ace_data.faces.nsfw import NsfwNet, nsfw_model
from unif2ace_data.faces.quality import quality_of
from unif2ace_data.faces.runtime import bgr_of
from unif2ace_data.recipe import Faces
from unif2ace_data.schema import FaceRecord, PhotoRecord
from unif2ace_data.shards import sha256_file
from unif2ace_data.sources.video import candidate_frames

ANALYSIS_VERSION = 1  # raise it when the same bytes would give other numbers
MESH_FILE = EMBEDDED / "face_landmarker.task"
EMOTION_FILE = EMBEDDED / "emotion_fer.tflite"
LOOK_CLOSER = 128  # our choice: a face that is smaller than this in a reduced decode is decoded again, larger
HASHED = 128  # our choice: the perceptual hash sees a picture of about this size (it works on 32 x 32)
TINY = 16  # faces under this many source pixels are counted, not measured


@dataclass(slots=True)
class Analysis:
    """`embeddings` (faces, D) float32, unit length, zero where a face was not measured; `decoded` for the crop."""

    record: PhotoRecord
    embeddings: np.ndarray
    decoded: Decoded | None = None


@dataclass(slots=True)
class Readings:
    """What the networks say of one face: mesh `points` (478, 3) in pixels of the decoded photo, `embedding` (D,)."""

    points: np.ndarray
    presence: float
    blendshapes: dict[str, float]
    emotion: dict[str, float]
    age: dict[str, float]
    p_female: float
    embedding: np.ndarray


@dataclass(slots=True)
class Seen:
    """One photo on its way: `record` as far as it goes, `found` with the readings of those faces that are to be measured.

    `picture`: the whole photo as it was first looked at; `decoded`: as its faces are. Both None where it cannot be read.
    """

    data: bytes
    record: PhotoRecord
    picture: Image.Image | None = None
    decoded: Decoded | None = None
    found: list[tuple[Detection, Readings | None]] = field(default_factory=list)


def models_of(pack: Pack, nsfw: bool = False) -> dict[str, str]:
    """The networks of an analysis, file -> SHA-256."""
    own = {MESH_FILE.name: sha256_file(MESH_FILE), EMOTION_FILE.name: sha256_file(EMOTION_FILE)}
    return {**pack.files, **own, **({"nudenet": nsfw_model()} if nsfw else {})}


def analysis_config(faces: Faces, pack: Pack, nsfw: bool) -> dict[str, object]:
    """What decides an analysis; its hash is the key under which measurements are kept."""
    return {
        "version": ANALYSIS_VERSION,
        "detector": faces.detector.model_dump(),
        "max_faces": faces.max_faces,
        "align": {"mode": faces.align.mode, "margin": faces.align.margin},
        "nsfw": nsfw_model() if nsfw else "",
        "models": models_of(pack),
    }


def config_hash(config: object) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


class Analyser:
    """All networks of one recipe, loaded once per process. Raises UserError where weights are missing."""

    def __init__(self, faces: Faces, nsfw: bool = False) -> None:
        self.faces = faces
        self.pack = find_pack(faces.engine)
        self.engine = FaceEngine(self.pack, faces.detector)
        self.mesh = FaceMesh(MESH_FILE)
        self.emotion = EmotionNet(EMOTION_FILE)
        self.nsfw = NsfwNet() if nsfw else None

    def analyse(self, data: bytes, kind: str = "image") -> Analysis:
        """`kind`: image, or video (then its sharpest frontal frame is the photo). InputErrors end up in the record."""
        seen = self.open(data, kind)
        self.look(seen)
        return self.measure(seen)

    # Its three steps, for those who have several photos. A step that is taken for a few photos in a row finds its code
    # and data in the processor's caches; between two photos' networks it takes up to twice as long.

    def open(self, data: bytes, kind: str = "image") -> Seen:
        """Bytes to pixels."""
        record = PhotoRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        try:
            decoded = self._pick_frame(data, record) if kind == "video" else first_look(data)
        except InputError as error:
            record.error = (error.code, error.message)
            return Seen(data, record)
        record.format, record.mode = decoded.format, decoded.mode
        record.width, record.height = decoded.width, decoded.height
        if kind != "video":
            record.frames = decoded.frames
        return Seen(data, record, decoded.as_picture(), decoded)

    def look(self, seen: Seen) -> None:
        """What networks say."""
        decoded = seen.decoded
        if decoded is None:
            return
        if self.nsfw is not None:
            seen.record.nsfw = round(self.nsfw(decoded.rgb), 3)
        bgr = bgr_of(decoded.rgb)
        found = self.engine.detect(bgr, decoded.scale)
        decoded, bgr, found = self._closer(seen.data, decoded, bgr, found)
        found.sort(key=lambda d: (-area(d), d.box.tolist()))
        seen.decoded = decoded
        for index, face in enumerate(found):
            side = max(face.box[2] - face.box[0], face.box[3] - face.box[1]) / decoded.scale
            measured = index < self.faces.max_faces and side >= TINY
            seen.found.append((face, self._read(decoded, bgr, face) if measured else None))

    def measure(self, seen: Seen) -> Analysis:
        """What is read off the pixels and the points."""
        record, picture, decoded = seen.record, seen.picture, seen.decoded
        if picture is None or decoded is None:
            return Analysis(record, np.zeros((0, 0), np.float32))
        record.phash = str(imagehash.phash(picture.reduce(max(1, min(picture.size) // HASHED))))
        record.faces = [
            self._measured(decoded, face, readings) if readings else face_record(face, decoded.scale)
            for face, readings in seen.found
        ]
        width = max((len(readings.embedding) for _, readings in seen.found if readings), default=0)
        unmeasured = np.zeros(width, np.float32)
        embeddings = [readings.embedding if readings else unmeasured for _, readings in seen.found]
        return Analysis(record, np.stack(embeddings) if embeddings else np.zeros((0, 0), np.float32), decoded)

    def _closer(
        self, data: bytes, decoded: Decoded, bgr: np.ndarray, found: list[Detection]
    ) -> tuple[Decoded, np.ndarray, list[Detection]]:
        """Decode again, larger, where a reduced decode leaves the faces too small to be measured well."""
        sides = [max(d.box[2] - d.box[0], d.box[3] - d.box[1]) for d in found[: self.faces.max_faces]]
        if decoded.scale >= 0.99 or not sides or min(sides) >= LOOK_CLOSER:
            return decoded, bgr, found
        scale = jpeg_scale(decoded.width, decoded.height, decoded.format, decoded.scale * LOOK_CLOSER / min(sides))
        if scale <= decoded.scale * 1.02:
            return decoded, bgr, found
        larger = decode(data, scale)
        ratio = larger.scale / decoded.scale
        scaled = [Detection(d.box * ratio, d.landmarks * ratio, d.score) for d in found]
        return larger, bgr_of(larger.rgb), scaled

    def _read(self, decoded: Decoded, bgr: np.ndarray, face: Detection) -> Readings:
        points, presence, blendshapes = self.mesh(decoded.for_warps(), face.box, face.landmarks)
        emotion = self.emotion(decoded.rgb, face.box)
        age, p_female = self.engine.age_and_gender(bgr, face.box)
        embedding = self.engine.embed(bgr, face.landmarks)
        return Readings(points, presence, blendshapes, emotion, age, p_female, embedding)

    def _measured(self, decoded: Decoded, face: Detection, readings: Readings) -> FaceRecord:
        scale, points = decoded.scale, readings.points
        record = face_record(face, scale)
        align = self.faces.align
        quad = ffhq_quad(points) if align.mode == "ffhq" else box_quad(face.box, align.margin)
        record.measured = True
        record.quad = rounded_points(quad / scale, 2)
        record.presence = round(readings.presence, 3)
        record.yaw, record.pitch, record.roll = (round(float(v), 1) for v in self.mesh.pose(points))
        record.blendshapes = rounded(readings.blendshapes, 3)
        record.geometry = geometry_of(points)
        record.pixels = pixels_of(decoded.rgb, points, decoded.for_warps())
        record.quality = rounded(quality_of(decoded.rgb, face.box, points), 3)
        record.emotion = rounded(readings.emotion, 3)
        record.age = rounded(readings.age | {"child_proportion": child_proportion(points)}, 3)
        record.p_female = round(readings.p_female, 3)
        return record

    def _pick_frame(self, data: bytes, record: PhotoRecord) -> Decoded:
        """The frame with the sharpest frontal face (as CelebV-HQ's use needs); the first where none has a face."""
        frames = candidate_frames(data)
        best, best_score = 0, -1.0
        for position, (_, rgb) in enumerate(frames):
            found = self.engine.detect(bgr_of(rgb))
            if found:
                face = max(found, key=area)
                score = quality_of(rgb, face.box)["sharpness"] * frontality(face.landmarks) * face.score
                if score > best_score:
                    best, best_score = position, score
        index, rgb = frames[best]
        record.frame_index, record.frames = index, len(frames)
        return Decoded(rgb, 1.0, rgb.shape[1], rgb.shape[0], "VIDEO", "RGB")


def first_look(data: bytes) -> Decoded:
    """Decode at the scale at which faces are looked for. Raises InputError."""
    opened = open_header(data)
    header = opened[1]
    return decode(data, base_scale(header.width, header.height, header.format), opened)


def area(face: Detection) -> float:
    return float((face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))


def frontality(landmarks: np.ndarray) -> float:
    """1 where the nose lies midway between the eyes, 0 where it lies beyond one of them."""
    eyes = landmarks[1] - landmarks[0]
    along = float((landmarks[2] - landmarks[0]) @ eyes / max(float(eyes @ eyes), 1e-9))
    return max(0.0, 1 - 2 * abs(along - 0.5))


def face_record(face: Detection, scale: float) -> FaceRecord:
    return FaceRecord(
        box=[round(float(v), 2) for v in face.box / scale],
        landmarks=rounded_points(face.landmarks / scale, 2),
        score=round(face.score, 4),
    )


def rounded(values: dict[str, float], digits: int) -> dict[str, float]:
    return {name: round(float(value), digits) for name, value in values.items()}


def rounded_points(points: np.ndarray, digits: int) -> list[list[float]]:
    return [[round(float(x), digits), round(float(y), digits)] for x, y in points]
