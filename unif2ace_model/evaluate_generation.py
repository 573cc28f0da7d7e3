"""Generated faces: what the analyser that built the dataset sees in them, against what their captions say.

    B samples   N image tokens

Every picture is analysed as a photograph is, and each claim of its caption judged by what is measured: it holds, it does
not, or the analyser cannot tell. A picture in which no face is found has every claim wrong. Beside it: the same pictures
against other people's captions (the control, which is what pictures made from exchanged prompts reach), and the real
pictures through the image tokenizer and back (the most that this tokenizer allows).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unif2ace_data.attributes.measure import attributes_of
from unif2ace_data.attributes.predict import describe_model
from unif2ace_data.captions.extract import find_claims
from unif2ace_data.captions.text import predictions_of
from unif2ace_data.captions.verdict import judge
from unif2ace_data.errors import UserError
from unif2ace_data.faces.align import crop_jpeg
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.recipe import Faces
from unif2ace_data.release.read import read_mapping
from unif2ace_data.schema import Annotations, Attribute
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.image_tokenizer import ImageTokenizer

BATCH = 16
ANALYSED = 256  # our choice: smaller pictures are enlarged to this side before they are analysed
Tick = Callable[[int], None]
Claimed = tuple[str, str, bool]  # attribute, value, negated


def decoded(tokenizer: ImageTokenizer, codes_BN: np.ndarray, size: int) -> np.ndarray:
    """(B, size, size, 3) uint8 of codes."""
    made = []
    for first in range(0, len(codes_BN), BATCH):
        with torch.no_grad():
            pixels = tokenizer.decode(torch.from_numpy(codes_BN[first : first + BATCH].astype(np.int64)), size, size)
        made.append(((pixels.permute(0, 2, 3, 1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())
    return np.concatenate(made)


# ------------------------------------------------------------------ what is seen


@dataclass(frozen=True, slots=True)
class Look:
    """How the dataset was looked at: its faces, whether complexion is stated, its attribute model (None: it had none)."""

    faces: Faces
    complexion: bool = False
    attributes: str | None = None


def look_of(shards: Path, attributes: Path | None) -> Look:
    """As the dataset's recipe says. The attribute model's file is not part of a dataset: `attributes` names it.

    Raises UserError (exit code 2): one that is not the dataset's.
    """
    recipe = read_mapping(shards / "recipe.yaml")
    known = (recipe.get("resolved") or {}).get("attribute_model")
    if attributes is not None:
        sha256, _ = describe_model(str(attributes))
        if known is None or known["sha256"] != sha256:
            built = f"with {known['sha256'][:12]}" if known else "without one"
            raise UserError(f"--attributes {attributes}: the dataset was built {built}, this is {sha256[:12]}", 2)
    return Look(
        Faces.model_validate(recipe.get("faces") or {}),
        bool((recipe.get("captions") or {}).get("complexion")),
        str(attributes) if attributes else None,
    )


def seen_in(pictures_BHWC: np.ndarray, look: Look, tick: Tick = lambda n: None) -> list[list[Attribute] | None]:
    """The attributes of the largest face of each picture, with what supports them; None where no face is found."""
    analyser, found = Analyser(look.faces), []
    for pixels in pictures_BHWC:
        found.append(attributes_seen(png_of(pixels), analyser, look))
        tick(1)
    return found


def attributes_seen(png: bytes, analyser: Analyser, look: Look) -> list[Attribute] | None:
    analysis = analyser.analyse(png)
    face = next((face for face in analysis.record.faces if face.measured), None)
    if face is None:
        return None
    predictions: list[Attribute] = []
    if look.attributes:
        jpeg, _, _ = crop_jpeg(png, np.array(face.quad, np.float64), look.faces.align, analysis.decoded)
        predictions = predictions_of(face, jpeg, look.attributes)
    return attributes_of(face, Annotations(), predictions, complexion=look.complexion, engine=look.faces.engine)


def png_of(pixels: np.ndarray, least: int = ANALYSED) -> bytes:
    """A picture as PNG, enlarged to `least` pixels where it is smaller."""
    picture, out = Image.fromarray(pixels), io.BytesIO()
    scale = max(1.0, least / min(picture.size))
    size = (round(picture.width * scale), round(picture.height * scale))
    picture.resize(size, Image.Resampling.LANCZOS).save(out, "PNG")
    return out.getvalue()


def claims_of(caption: str) -> list[Claimed]:
    """What the caption claims, each claim once."""
    return list(dict.fromkeys((c.attribute, c.value, c.negated) for c in find_claims(caption)))


@dataclass(frozen=True, slots=True)
class Verdict:
    sample: int
    attribute: str
    holds: bool
    settled: bool


def verdicts(seen: Sequence[list[Attribute] | None], claims: Sequence[Sequence[Claimed]]) -> list[Verdict]:
    """One for each claim. Of a picture without a face every claim is settled, and does not hold."""
    found = []
    for sample, (attributes, stated) in enumerate(zip(seen, claims, strict=True)):
        for attribute, value, negated in stated:
            verdict = "contradicted" if attributes is None else judge(attribute, value, negated, attributes)[0]
            found.append(Verdict(sample, attribute, verdict == "supported", verdict != "unverified"))
    return found


def columns(rows: Sequence[Verdict]) -> tuple[list[int], list[bool], list[bool]]:
    """As Bootstrap.ratio takes them: whose, what holds, what is settled."""
    return [r.sample for r in rows], [r.holds for r in rows], [r.settled for r in rows]


def agreement(
    seen: Sequence[list[Attribute] | None], claims: Sequence[Sequence[Claimed]], bootstrap: Bootstrap
) -> dict[str, Any]:
    """`agreement`: claims that hold, of those that the analyser settles; `shown`: of all."""
    rows = verdicts(seen, claims)

    def figures(these: Sequence[Verdict]) -> dict[str, Any]:
        who, holds, settled = columns(these)
        return {
            "claims": len(these),
            "agreement": bootstrap.ratio(who, holds, settled).as_json(),
            "shown": bootstrap.ratio(who, holds).as_json(),
        }

    names = sorted({row.attribute for row in rows})
    found = [attributes is not None for attributes in seen]
    return {
        "faces_found": bootstrap.ratio(range(len(found)), found).as_json(),
        **figures(rows),
        "by_attribute": {name: figures([row for row in rows if row.attribute == name]) for name in names},
    }


def agreements(
    generated: Sequence[list[Attribute] | None],
    rebuilt: Sequence[list[Attribute] | None],
    captions: Sequence[str],
    bootstrap: Bootstrap,
    instead: list[int] | None,
) -> dict[str, Any]:
    """Generated pictures against their captions, against other people's, and what the tokenizer leaves of real ones."""
    claims = [claims_of(caption) for caption in captions]
    report: dict[str, Any] = {"generated": agreement(generated, claims, bootstrap)}
    if instead:
        strangers = [claims[i] for i in instead]
        report["exchanged_prompts"] = agreement(generated, strangers, bootstrap)
        own, other = (columns(verdicts(generated, stated)) for stated in (claims, strangers))
        report["caption_tells"] = bootstrap.difference(own, other).as_json()
    report["reconstructed"] = agreement(rebuilt, claims, bootstrap)
    return report
