"""The adult gate: keeps photographs of people who may be minors out, and fails closed.

Measured for the embedded age network alone, on 209 web photographs of people under 18 and 811 of adults: an expected
age of 25 or more lets 31 of the 209 in, 30: 9, 33: 5, 35: 1 (0.5 %; upper 95 % bound 2.7 %) and keeps 63 % of the
adults. The gate asks for 35 in the lower of two views (the photo and its mirror image), and every further signal can
only keep a photo out, never let one in: so at most that one of the 209 passes. docs/adult-gate.md has the figures.
"""

from __future__ import annotations

import numpy as np

from unif2ace_data.recipe import AdultGate
from unif2ace_data.schema import Annotations, FaceRecord

# A child's face has wide eyes for its width, a short nose and a short lower face. Each ratio of mesh distances with its
# mean and standard deviation over 405 portraits of adults, and the sign in which a child differs.
PROPORTIONS = (
    ("eye width / face width", ((33, 133), (263, 362)), (234, 454), 0.1886, 0.0105, 1),
    ("nose / face height", ((168, 2),), (10, 152), 0.2841, 0.0109, -1),
    ("lower face / face height", ((2, 152),), (10, 152), 0.4408, 0.0183, -1),
)


def child_proportion(mesh: np.ndarray) -> float:
    """How childlike the proportions of a mesh (478, 3) are: the mean of three standard scores, 0 for an average adult."""

    def distance(pair: tuple[int, int]) -> float:
        return float(np.linalg.norm(mesh[pair[0]] - mesh[pair[1]]))

    scores = []
    for _, parts, whole, mean, deviation, sign in PROPORTIONS:
        ratio = float(np.mean([distance(part) for part in parts])) / max(distance(whole), 1e-9)
        scores.append(sign * (ratio - mean) / deviation)
    return float(np.mean(scores))


def adult_drop(face: FaceRecord, notes: Annotations, gate: AdultGate) -> tuple[float, float, str] | None:
    """(value, threshold, detail) of the first signal that keeps the face out, or None for an adult.

    Signals: the source's own age annotation; expected age (the lower of both views); probability mass under 18;
    disagreement of the views; a child's proportions. A missing reading counts as failed.
    """
    stated = stated_drop(notes, gate)
    if stated is not None:
        return stated
    views = (reading(face, "expected"), reading(face, "expected_mirrored"))
    if views[0] is None or views[1] is None:
        return -1.0, gate.min_age, "no age estimate"
    if not (views[0] >= gate.min_age and views[1] >= gate.min_age):
        return min(views[0], views[1]), gate.min_age, "expected age, the lower of the photo and its mirror image"
    minor = reading(face, "p_under_18")
    # Packs of InsightFace tell no distribution, and say so; where one should be there and is not, the face stays out.
    if minor is None and reading(face, "tells_distribution") != 0.0:
        return -1.0, gate.max_p_minor, "no probability under 18"
    if minor is not None and minor > gate.max_p_minor:
        return minor, gate.max_p_minor, "probability under 18"
    apart = abs(views[0] - views[1])
    if apart > gate.max_disagreement:
        return round(apart, 3), gate.max_disagreement, "years between the photo and its mirror image"
    childlike = reading(face, "child_proportion")
    if childlike is None or childlike > gate.max_child_proportion:
        value = -1.0 if childlike is None else childlike
        return value, gate.max_child_proportion, "proportions of the face, standard scores from the average adult"
    return None


def stated_drop(notes: Annotations, gate: AdultGate) -> tuple[float, float, str] | None:
    """Like adult_drop, from the source's own age annotations alone: these count also where somebody vouches."""
    stated = [float(a["value"]) for a in notes.attributes if a["name"] == "source_age" and is_number(a["value"])]
    if stated and not min(stated) >= gate.min_source_age:
        return min(stated), gate.min_source_age, "the source's own age annotation"
    return None


def reading(face: FaceRecord, name: str) -> float | None:
    """A reading, or None where it is missing or no number."""
    value = face.age.get(name)
    return None if value is None or np.isnan(value) else float(value)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
