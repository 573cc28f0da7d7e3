"""From stored measurements, an attribute model's predictions and the source's annotations to attributes with evidence.

A pure function of what is given: bands, weights and thresholds (manifests/attributes.yaml) may change without a
look at the pictures. A value that is not confident is not stated at all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from unif2ace_data.errors import UserError
from unif2ace_data.resources import resource
from unif2ace_data.schema import Annotations, Attribute, Evidence, FaceRecord
from unif2ace_data.taxonomy import Bands, Entry, Weights, load_taxonomy

UNVALIDATED = 0.8  # our choice: confidence from which a value without a claim is recorded, marked as not validated
UNUSUAL = 6.0  # our choice: standard scores from the labelled portraits beyond which a model is not trusted
GAZE_DEGREES = (
    110.0  # eye rotation, degrees, that moves the iris by one eye width (fitted on portraits that look at the camera)
)

# What no labelled portrait shows: figures counted on these portraits say nothing about such faces.
TURNED = 25.0  # degrees of yaw or pitch; the portraits reach 19
WIDE_OPEN = 0.35  # blendshape jawOpen: talking, shouting, laughing out loud; the portraits reach 0.34
OF_THE_MOUTH = {"smile", "emotion", "lips", "teeth", "mouth"}

# Who measured a quantity, by the beginning of its name, and the file of the pack that holds its weights.
MEASURED_BY = {
    "pixels": ("pixels", ""),
    "age": ("genderage", "genderage.onnx"),
    "p_female": ("genderage", "genderage.onnx"),
    "emotion": ("emotion_fer", "emotion_fer.tflite"),
}
LANDMARKER = ("face_landmarker", "face_landmarker.task")
SOURCE = "source:"  # so begins Evidence.by where the source itself says so
PEOPLE = "people:"  # … and where people looked at the very crop (`review`)


def attributes_of(
    face: FaceRecord,
    annotations: Annotations,
    predictions: Sequence[Attribute] = (),
    *,
    complexion: bool = False,
    engine: str = "embedded",
) -> list[Attribute]:
    """The attributes of one face, in the taxonomy's order: a name's measured record, its predictions, its annotations.

    `predictions`: what an attribute model says (attributes/predict.py). `complexion`: include what is stated on request
    only. `engine`: the face pack; what another pack's networks say of gender and age is not validated. A prediction or
    an annotation replaces a measurement that is not validated; beside a validated one all stay, whether they agree or
    not (captions/facts.py states nothing of which they disagree). Annotations outside the taxonomy (an age in years)
    are for filters, not for captions, and are left out.
    """
    taxonomy = load_taxonomy()
    said: dict[str, list[Attribute]] = {}
    for prediction in predictions:
        said.setdefault(prediction.name, []).append(prediction)
    for given in annotations.attributes:
        attribute = Attribute.model_validate(given)
        if attribute.name in taxonomy and attribute.value in taxonomy[attribute.name].values:
            said.setdefault(attribute.name, []).append(attribute)
    quantities = quantities_of(face)
    fits = fits_of_taxonomy()(quantities)
    found: list[Attribute] = []
    for entry in taxonomy.attributes.values() if said else taxonomy.measured:
        if entry.on_request and not complexion:
            continue
        others = said.get(entry.name, [])
        probabilities = banded(entry.bands, entry.values, quantities) if entry.bands else fits.get(entry.name)
        measured = stated(entry, probabilities, quantities, engine) if probabilities else None
        if measured is not None and (measured.validated or not others):
            found.append(measured)
        found += others
    return found


def is_annotation(attribute: Attribute) -> bool:
    """Whether the source itself says so (people, where it is validated), or a review, and no measurement or model."""
    return attribute.evidence.by.startswith((SOURCE, PEOPLE))


def measure(entry: Entry, quantities: dict[str, float], engine: str = "embedded") -> Attribute | None:
    """The attribute where a value is confident enough to be stated, else None."""
    probabilities = probabilities_of(entry, quantities)
    return stated(entry, probabilities, quantities, engine) if probabilities else None


def stated(
    entry: Entry, probabilities: dict[str, float], quantities: dict[str, float], engine: str
) -> Attribute | None:
    """The likeliest value where it is confident enough."""
    confidence, value = max(zip(probabilities.values(), probabilities, strict=True))
    if not value:
        return None
    by, revision, telling = measured_by(entry.used, engine)
    claim = entry.claims.get(value)
    trusted = (engine == "embedded" or "genderage" not in by) and like_labelled(entry.name, quantities)
    if claim is not None and claim.holds and trusted:
        if confidence < claim.threshold:
            return None
        if entry.bands:
            confidence = min(confidence, claim.precision)  # an edge set by hand knows no better than its record
        validated = True
    elif confidence < UNVALIDATED:
        return None
    else:
        validated = False
    seen = ", ".join(f"{short}={quantities[name]:.2f}" for name, short in telling)
    return Attribute(
        name=entry.name,
        group=entry.group,
        value=value,
        confidence=round(confidence, 3),
        validated=validated,
        evidence=Evidence(by=by, revision=revision, measured=seen),
    )


def like_labelled(name: str, quantities: dict[str, float]) -> bool:
    """Whether the face lies within what was labelled, as far as this attribute is concerned."""
    if max(abs(quantities.get("yaw", 0.0)), abs(quantities.get("pitch", 0.0))) > TURNED:
        return False
    return name not in OF_THE_MOUTH or quantities.get("blendshape.jawOpen", 0.0) <= WIDE_OPEN


def probabilities_of(entry: Entry, quantities: dict[str, float]) -> dict[str, float] | None:
    """Probability of each value, or None where a quantity is missing or unlike anything that was labelled."""
    if entry.bands:
        return banded(entry.bands, entry.values, quantities)
    return fitted(entry.weights, quantities) if entry.weights else None


def banded(bands: Bands, values: list[str], quantities: dict[str, float]) -> dict[str, float] | None:
    """Each value's share of a logistic distribution of scale `width` around the measured quantity."""
    if bands.quantity not in quantities:
        return None
    below = [1 / (1 + np.exp((quantities[bands.quantity] - edge) / bands.width)) for edge in bands.edges]
    cumulative = [0.0, *below, 1.0]
    return {value: float(cumulative[i + 1] - cumulative[i]) for i, value in enumerate(values)}


def fitted(weights: Weights, quantities: dict[str, float]) -> dict[str, float] | None:
    return Fits({"": weights})(quantities).get("")


class Fits:
    """Several fitted models side by side: together they take a few calls of numpy, and not a dozen each.

    Called with a face's quantities it gives the probabilities by name, without those models of which a quantity is
    missing or unlike anything that was labelled.
    """

    def __init__(self, models: Mapping[str, Weights]) -> None:
        weights = models.values()
        self.values = {name: w.values for name, w in models.items()}
        asked = [quantity for w in weights for quantity in w.quantities]
        self.quantities = list(dict.fromkeys(asked))
        self.taken = np.array([self.quantities.index(quantity) for quantity in asked])
        self.mean = np.array([mean for w in weights for mean in w.mean])
        self.scale = np.array([scale for w in weights for scale in w.scale])
        self.bias = np.array([bias for w in weights for bias in w.bias])
        ends = list(accumulate(len(w.quantities) for w in weights))
        self.starts = [0, *ends[:-1]]  # of each model's quantities
        self.by_value = [(np.array(w.weights), slice(*own)) for w, *own in zip(weights, self.starts, ends, strict=True)]
        counts = np.array([len(w.values) for w in weights])
        self.is_value = np.arange(counts.max()) < counts[:, None]  # in a table with a row a model

    def __call__(self, quantities: Mapping[str, float]) -> dict[str, dict[str, float]]:
        raw = np.array([quantities.get(name, math.nan) for name in self.quantities])
        scores = (raw[self.taken] - self.mean) / self.scale
        usual = np.maximum.reduceat(np.abs(scores), self.starts) <= UNUSUAL  # which no missing one is
        logits = np.full(self.is_value.shape, -np.inf)
        logits[self.is_value] = self.bias + np.concatenate([weights @ scores[own] for weights, own in self.by_value])
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        rows = zip(self.values.items(), usual.tolist(), shares.tolist(), strict=True)
        return {name: dict(zip(values, row, strict=False)) for (name, values), is_usual, row in rows if is_usual}


@functools.cache
def fits_of_taxonomy() -> Fits:
    return Fits({entry.name: entry.weights for entry in load_taxonomy().attributes.values() if entry.weights})


def quantities_of(face: FaceRecord) -> dict[str, float]:
    """Every stored measurement under one flat name, with the few that are made of several.

    `yaw`, `pitch`, `roll`, `nose_shift` (to the image's right of the middle between eyes and mouth, in eye distances),
    `p_female`, `age.*`, `emotion.*`, `blendshape.*`, `mesh.*`, `pixels.*`; the mean of a left and a right one goes by
    their common name. Empty where the face was only detected.
    """
    if not face.measured:
        return {}
    values = {"yaw": face.yaw, "pitch": face.pitch, "roll": face.roll}
    if face.p_female >= 0:
        values["p_female"] = face.p_female
    for prefix, measured in (("age", face.age), ("emotion", face.emotion), ("pixels", face.pixels)):
        values |= {f"{prefix}.{name}": value for name, value in measured.items()}
    values |= both_sides("blendshape", face.blendshapes, "Left", "Right")
    values |= both_sides("mesh", face.geometry, "_left", "_right")
    values |= composed(values)
    eyes, nose = np.array(face.landmarks[:2]), np.array(face.landmarks[2])
    across = eyes[1] - eyes[0]
    middle = (eyes.sum(0) + np.array(face.landmarks[3:]).sum(0)) / 4
    values["nose_shift"] = float((nose - middle) @ across / max(float(across @ across), 1e-9))
    return values


def both_sides(prefix: str, measured: dict[str, float], left: str, right: str) -> dict[str, float]:
    values = {}
    for name, value in measured.items():
        values[f"{prefix}.{name}"] = value
        if name.endswith(left) and name.removesuffix(left) + right in measured:
            common = name.removesuffix(left)
            values[f"{prefix}.{common}"] = (value + measured[common + right]) / 2
    return values


def composed(v: dict[str, float]) -> dict[str, float]:
    """Quantities made of several, where all of these are there."""
    made = {}
    if {"mesh.iris_x", "blendshape.eyeLookUp", "blendshape.eyeLookDown"} <= v.keys():
        across = v["yaw"] + GAZE_DEGREES * v["mesh.iris_x"]
        along = 30 * (v["blendshape.eyeLookUp"] - v["blendshape.eyeLookDown"])
        made["gaze_off"] = float(np.hypot(across, max(0.0, abs(along + v["pitch"]) - 12)))
    if {"blendshape.browInnerUp", "blendshape.browOuterUp", "blendshape.browDown"} <= v.keys():
        raised = (v["blendshape.browInnerUp"] + v["blendshape.browOuterUp"]) / 2
        made["brow_lift"] = raised - v["blendshape.browDown"]
    if {"blendshape.mouthPucker", "blendshape.mouthPress"} <= v.keys():
        made["lips_push"] = v["blendshape.mouthPucker"] - v["blendshape.mouthPress"]
    if {"blendshape.jawOpen", "blendshape.mouthSmile"} <= v.keys():
        made["laughing"] = min(v["blendshape.jawOpen"], v["blendshape.mouthSmile"])
    if {"blendshape.eyeBlinkLeft", "blendshape.eyeBlinkRight"} <= v.keys():
        made["blink_difference"] = abs(v["blendshape.eyeBlinkLeft"] - v["blendshape.eyeBlinkRight"])
    return made


@functools.lru_cache(1 << 10)  # an attribute each
def measured_by(quantities: str, engine: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Who measured these quantities, the weights' hashes, and the two that say most (never the skin's own colour): their
    names in full and in short."""
    used = quantities.split()
    owners = {MEASURED_BY.get(name.split(".")[0], LANDMARKER) for name in used}
    revisions = [
        revision_of(file) for by, file in sorted(owners) if file and (engine == "embedded" or by != "genderage")
    ]
    telling = [(name, name.split(".", 1)[-1]) for name in used if "skin" not in name][:2]
    return "+".join(sorted(by for by, _ in owners)), "+".join(revisions), telling


@functools.cache
def revision_of(file: str) -> str:
    """First eight hex digits of the SHA-256 of a file in the embedded pack."""
    for line in resource("faces", "packs/embedded/SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        if name == file:
            return digest[:8]
    raise UserError(f"faces/packs/embedded/SHA256SUMS does not list {file}: the package is incomplete, reinstall it")
