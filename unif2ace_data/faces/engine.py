"""The face engine: insightface loads the pack (the embedded one, a named one or a folder) and finds and embeds faces.

Every pack runs the same code. What insightface does not give, the age distribution inside the embedded age network,
is read from the same file by naming that tensor an output.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import yaml

from unif2ace_data.errors import UserError
from unif2ace_data.faces.runtime import quiet_stderr, session_options
from unif2ace_data.recipe import Detector
from unif2ace_data.resources import PACKAGE
from unif2ace_data.shards import sha256_file

EMBEDDED = PACKAGE / "faces" / "packs" / "embedded"
INSIGHTFACE_MODELS = Path("~/.insightface/models")
AGES = np.array([0.25, *range(1, 81)], np.float32)  # the 81 classes of the embedded age network, years
UNDER = {limit: int(np.count_nonzero(limit > AGES)) for limit in (13, 18, 21, 25)}  # years of age: classes below
COARSE_SIDE = 256  # our choice: the first look, detector pixels
STRIP = 32  # our choice: a strip this much longer than wide shows no face (and would shrink to nothing for the network)
DOMINANT = 0.25  # our choice: a face this large (share of the longer side) ends the search at the first look

# Where the five landmarks of an upright face lie in a 112 x 112 recognition crop (ArcFace's template).
TEMPLATE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)


@dataclass(frozen=True)
class Pack:
    """A pack on disk: its files' hashes and what is known of its licence and its embedding space."""

    name: str
    folder: Path
    licence: str
    non_commercial: bool
    identity_cosine: float
    duplicate_cosine: float
    files: dict[str, str]  # file name -> sha256


def find_pack(engine: str) -> Pack:
    """`embedded`, the name of an InsightFace pack that is installed, or a folder. Raises UserError (exit code 2)."""
    folder = EMBEDDED if engine == "embedded" else Path(engine).expanduser()
    if not folder.is_dir():
        folder = (INSIGHTFACE_MODELS / engine).expanduser()
    if not folder.is_dir() or not list(folder.glob("*.onnx")):
        raise UserError(
            f"no face pack {engine!r}: use `embedded`, a folder with .onnx files, or a pack installed under "
            f"{INSIGHTFACE_MODELS} (insightface-cli model.download {engine}; InsightFace's own packs are for "
            "non-commercial research only)",
            2,
        )
    files = {p.name: sha256_file(p) for p in sorted(folder.iterdir()) if p.suffix in (".onnx", ".task", ".tflite")}
    facts: dict[str, Any] = {}
    if (folder / "pack.yaml").is_file():
        facts = yaml.safe_load((folder / "pack.yaml").read_text()) or {}
    return Pack(
        name=str(facts.get("name", folder.name)),
        folder=folder,
        # A pack that does not say otherwise is taken to be InsightFace's: non-commercial research only.
        licence=str(facts.get("licence", "LicenseRef-InsightFace-non-commercial-research")),
        non_commercial=bool(facts.get("non_commercial", True)),
        identity_cosine=float(facts.get("identity_cosine", 0.4)),
        duplicate_cosine=float(facts.get("duplicate_cosine", 0.95)),
        files=files,
    )


@dataclass(slots=True)
class Detection:
    box: np.ndarray  # (4,) x1 y1 x2 y2, pixels of the image given
    landmarks: np.ndarray  # (5, 2)
    score: float


class FaceEngine:
    """insightface's models of one pack, each on one thread."""

    def __init__(self, pack: Pack, detector: Detector) -> None:
        logging.getLogger("insightface").setLevel(logging.ERROR)
        with quiet_stderr():
            from insightface.app import FaceAnalysis

            try:
                analysis = FaceAnalysis(
                    name=str(pack.folder),
                    allowed_modules=["detection", "recognition", "genderage"],
                    sess_options=session_options(),
                    providers=["CPUExecutionProvider"],
                    static_shape_sessions=False,  # inputs come in many sizes: one dynamic session instead of one a size
                )
            except Exception as error:
                raise UserError(f"insightface cannot load the pack in {pack.folder}: {error}") from None
        analysis.prepare(ctx_id=-1, det_thresh=detector.score, det_size=(640, 640))
        if "recognition" not in analysis.models:
            raise UserError(f"the pack in {pack.folder} has no recognition network (w600k_*.onnx or the like)")
        self.detector = detector
        self._detector = analysis.det_model
        self._recogniser = analysis.models["recognition"]
        self._age = age_network(analysis.models.get("genderage"))

    def detect(self, bgr: np.ndarray, source_scale: float = 1.0) -> list[Detection]:
        """Faces by falling score. `source_scale`: pixels of `bgr` per source pixel (below 1 for a reduced decode).

        The network's input follows the image: `scale` of the source's size, at most `max_side`. A photo larger than
        COARSE_SIDE is looked at small first; a face that dominates it ends the search there, so that a portrait of
        12 megapixels costs what a small one does. (Then faces under about a fifth of the main one's size may go
        unseen: for a close-up they are background.)
        """
        height, width = bgr.shape[:2]
        side = max(height, width)
        full = min(self.detector.max_side, max(64.0, self.detector.scale * side / source_scale), float(side))
        if full > COARSE_SIDE:
            coarse = self._detect_at(bgr, COARSE_SIDE)
            if any(max(d.box[2] - d.box[0], d.box[3] - d.box[1]) >= DOMINANT * side for d in coarse):
                return coarse
        return self._detect_at(bgr, full)

    def _detect_at(self, bgr: np.ndarray, longest: float) -> list[Detection]:
        height, width = bgr.shape[:2]
        if max(height, width) > STRIP * min(height, width):
            return []
        ratio = longest / max(height, width)
        size = tuple(max(32, int(np.ceil(v * ratio / 32)) * 32) for v in (width, height))
        boxes, landmarks = self._detector.detect(bgr, input_size=size)
        return [
            Detection(b[:4].astype(np.float64), k.astype(np.float64), float(b[4]))
            for b, k in zip(boxes, landmarks, strict=True)
        ]

    def embed(self, bgr: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Unit-length identity embedding (D,) float32 of the face with these five landmarks (5, 2)."""
        size = self._recogniser.input_size[0]
        crop = cv2.warpAffine(bgr, similarity(landmarks, TEMPLATE_112 * size / 112), (size, size))
        feature = self._recogniser.get_feat(crop).reshape(-1).astype(np.float32)
        return np.asarray(feature / max(float(np.linalg.norm(feature)), 1e-12), np.float32)

    def age_and_gender(self, bgr: np.ndarray, box: np.ndarray) -> tuple[dict[str, float], float]:
        """(age readings, probability of apparent female); ({}, -1) where the pack has no such network.

        Readings: `expected` and `expected_mirrored` years; and, where the network tells its distribution,
        `p_under_13`, `p_under_18`, `p_under_21`, `p_under_25` (the larger of both views) and `spread` (years).
        """
        if self._age is None:
            return {}, -1.0
        size = self._age.size
        scale = size / (1.5 * max(box[2] - box[0], box[3] - box[1]))
        centre = (box[:2] + box[2:]) / 2
        warp = np.array([[scale, 0, size / 2 - centre[0] * scale], [0, scale, size / 2 - centre[1] * scale]])
        crop = cv2.warpAffine(bgr, warp, (size, size))
        views = [self._age(view) for view in (crop, cv2.flip(crop, 1))]
        readings = {"expected": views[0][1], "expected_mirrored": views[1][1]}
        readings["tells_distribution"] = 0.0
        told = [(mean, p) for _, mean, p in views if p is not None]
        if told:
            for limit, years in UNDER.items():
                readings[f"p_under_{limit}"] = max(float(p[:years].sum()) for _, p in told)
            readings["tells_distribution"] = 1.0
            readings["spread"] = max(float(np.sqrt((p * (AGES - mean) ** 2).sum())) for mean, p in told)
        return readings, (views[0][0] + views[1][0]) / 2


class AgeNetwork:
    """(p_female, expected age in years, distribution over AGES or None) of a square BGR crop."""

    def __init__(self, session: onnxruntime.InferenceSession, size: int, mean: float, std: float) -> None:
        self.session, self.size, self.mean, self.std = session, size, mean, std
        self.input = session.get_inputs()[0].name

    def __call__(self, crop: np.ndarray) -> tuple[float, float, np.ndarray | None]:
        blob = cv2.dnn.blobFromImage(crop, 1 / self.std, (self.size, self.size), (self.mean,) * 3, swapRB=True)
        outputs = self.session.run(None, {self.input: blob})
        head = outputs[0][0]
        pair = head[:2].astype(np.float64)
        if not (abs(pair.sum() - 1) < 1e-3 and (pair >= 0).all()):  # InsightFace's own packs give logits
            pair = np.exp(pair - pair.max())
            pair /= pair.sum()
        return float(pair[0]), float(head[2] * 100), outputs[1][0] if len(outputs) > 1 else None


def age_network(model: Any) -> AgeNetwork | None:
    """insightface's Attribute model, with the inner distribution as a second output where the graph has one."""
    if model is None or model.taskname != "genderage":
        return None
    graph = onnx.load(model.model_file)
    session = model.session
    if any("a_probabilities" in node.output for node in graph.graph.node):
        graph.graph.output.append(
            onnx.helper.make_tensor_value_info("a_probabilities", onnx.TensorProto.FLOAT, [1, 81])
        )
        session = onnxruntime.InferenceSession(
            graph.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
        )
    return AgeNetwork(session, model.input_size[0], model.input_mean, model.input_std)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity (2, 3) that maps points `source` (N, 2) onto `target` (N, 2) (Umeyama 1991)."""
    s, t = source @ [1, 1j], target @ [1, 1j]  # as complex numbers, which one factor turns and scales
    mean_s, mean_t = s.mean(), t.mean()
    factor = np.vdot(s - mean_s, t - mean_t) / max(float(np.square(np.abs(s - mean_s)).sum()), 1e-12)
    shift = mean_t - factor * mean_s
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
