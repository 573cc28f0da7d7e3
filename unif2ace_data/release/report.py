"""One HTML page about a dataset: what was dropped and why, how what is left is distributed, two hundred samples.

The page is whole in itself (plotly.js inline, pictures as data URIs) and its content policy forbids every request, so
it can be opened from a disk, mailed, or archived. The same dataset gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from PIL import Image
from plotly.offline import get_plotlyjs

from unif2ace_data.errors import UserError
from unif2ace_data.release.claims import claim_rows
from unif2ace_data.release.fairness import balance_rows, rate_rows, warning_lines
from unif2ace_data.release.page import page_template
from unif2ace_data.release.read import ledger_batches, read_mapping, strided_samples
from unif2ace_data.release.stats import BINS, compute_stats
from unif2ace_data.schema import Attribute, Claim, Sample
from unif2ace_data.shards import write_bytes

MAX_SAMPLES = 200
MAX_BYTES = 20_000_000
MAX_EXAMPLES = 6
MAX_FAILURES = 100
SAMPLE_SIDE = 256
EXAMPLE_SIDE = 144
UNSEEN = ("adult", "nsfw", "removed")  # reasons whose photographs are never shown, not even to the builder
REASON_TEXT = {
    "not_media": "neither a picture nor a video",
    "removed": "removed before, or a copy of what was removed",
    "exact_duplicate": "the same bytes as another input",
    "resolution": "the photo's shorter side is too small",
    "no_face": "no face found",
    "several_faces": "more than one face",
    "nsfw": "exposed body parts",
    "face_px": "the face is too small",
    "not_measured": "only detected: too small, or too many faces in one photo",
    "score": "the detector is not sure",
    "yaw": "turned too far to the side",
    "pitch": "tilted too far up or down",
    "border": "cut by the border of the photo",
    "sharpness": "not sharp enough",
    "exposure": "too dark or too bright",
    "adult": "not certain to be an adult",
    "perceptual_duplicate": "nearly the same picture as another input",
    "face_duplicate": "nearly the same picture of the same face",
}


def write_report(target: Path, out: Path, work: Path | None, thumbnail: Callable[[str], bytes | None] | None) -> None:
    """Write the report of the dataset at `out` to `target`, at most 20 MB.

    work: folder of the full ledger, for failures with their messages; thumbnail: source id -> a small JPEG or None, for
    examples of what was dropped. With either the page names inputs that are not in the dataset: it is private then, and
    says so. Figures are those of `out`/stats.json, or counted where there is none.
    Raises UserError where files are missing or broken.
    """
    ledger = work / "ledger.parquet" if work else None
    stats = read_mapping(out / "stats.json") or compute_stats(out, ledger)
    lost = losses(ledger, thumbnail) if ledger else Losses({}, [], 0)
    recipe = read_mapping(out / "recipe.yaml")
    template = page_template("report")
    facts = {
        "stats": stats,
        "private": work is not None or thumbnail is not None,
        "pictures": thumbnail is not None,
        "lost": lost,
        "name": recipe.get("name", "dataset"),
        "recipe": yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else "",
        "reason_text": REASON_TEXT,
        "unseen": UNSEEN,
        "plotly_js": get_plotlyjs(),
    }
    most = 2 * MAX_SAMPLES
    page = b""
    while most and not 0 < len(page) <= MAX_BYTES:
        most //= 2
        cards = [card(sample, jpeg) for sample, jpeg in strided_samples(out, most)]
        try:
            parts = {"funnel": funnel(stats), "charts": charts(stats), "unmeasured": claim_rows(stats["claims"])}
            parts |= {"rates": rate_rows(stats), "balance": balance_rows(stats), "uneven": warning_lines(stats)}
            html = template.render(**facts, **parts, cards=cards)
        except (KeyError, jinja2.UndefinedError) as error:
            raise UserError(f"{out / 'stats.json'} is not of this schema ({error}); build again") from None
        page = html.encode("utf-8", "replace")
    write_bytes(target, page)


# ------------------------------------------------------------------ what was lost


@dataclass(frozen=True, slots=True)
class Example:
    """A dropped input; `picture` is a data URI, or empty."""

    source_id: str
    note: str
    picture: str


@dataclass(frozen=True, slots=True)
class Losses:
    """Examples of drops by reason, and failures as (source id, code, message), `failed` in all."""

    examples: dict[str, list[Example]]
    failures: list[tuple[str, str, str]]
    failed: int


def losses(ledger: Path, thumbnail: Callable[[str], bytes | None] | None) -> Losses:
    """Evenly strided examples of each reason, and the first failures, from the full ledger."""
    totals: dict[str, int] = {}
    for row in lost_rows(ledger, ["reason"]):
        totals[row["reason"]] = totals.get(row["reason"], 0) + 1
    wanted = {
        reason: {i * total // min(total, MAX_EXAMPLES) for i in range(min(total, MAX_EXAMPLES))}
        for reason, total in totals.items()
    }
    seen = dict.fromkeys(totals, 0)
    examples: dict[str, list[Example]] = {}
    failures: list[tuple[str, str, str]] = []
    failed = 0
    for row in lost_rows(ledger, ["reason", "source_id", "value", "threshold", "detail"]):
        reason, place = row["reason"], seen[row["reason"]]
        seen[reason] += 1
        if row["status"] == "failed":
            failed += 1
            if len(failures) < MAX_FAILURES:
                failures.append((row["source_id"], reason, row["detail"] or ""))
        elif thumbnail and reason not in UNSEEN and place in wanted[reason]:
            examples.setdefault(reason, []).append(example(row, thumbnail))
    return Losses(examples, failures, failed)


def lost_rows(ledger: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in ledger_batches(ledger, ["status", *columns]):
        yield from (row for row in batch.to_pylist() if row["status"] != "kept")


def example(row: dict[str, Any], thumbnail: Callable[[str], bytes | None]) -> Example:
    jpeg = thumbnail(row["source_id"])
    value, threshold = row["value"], row["threshold"]
    measured = value is not None and threshold is not None and value == value and threshold == threshold
    note = f"{value:.4g}, threshold {threshold:.4g}" if measured else ""
    if row["detail"]:
        note = f"{note}; {row['detail']}" if note else row["detail"]
    return Example(row["source_id"], note, data_uri(jpeg, EXAMPLE_SIDE) if jpeg else "")


def data_uri(jpeg: bytes, side: int) -> str:
    """The picture, no side longer than `side` pixels, as a data URI; empty where it does not decode."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            image.draft("RGB", (side, side))
            small = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def funnel(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """One step per reason: rows lost, rows left after it, both also as shares of all rows."""
    left = total = max(stats["rows"], 1)
    steps = []
    for step in stats["reasons"]:
        left -= step["rows"]
        steps.append({**step, "left": left, "lost_share": step["rows"] / total, "left_share": left / total})
    return steps


# ------------------------------------------------------------------ charts


def charts(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page's script hands to plotly: bins by label, counts of the kept and of the others."""
    found = [
        chart(name, stats["distributions"][name], stats["distributions"][name]["unit"])
        for name in BINS
        if name in stats["distributions"]
    ]
    captions = stats["captions"]
    tokens = {
        "edges": captions["token_edges"],
        "kept": captions["token_counts"],
        "others": [0] * len(captions["token_counts"]),
        "mean": captions["tokens_mean"],
        "min": captions["tokens_min"],
        "max": captions["tokens_max"],
    }
    return [*found, chart("caption length", tokens, "tokens: words and punctuation marks")]


def chart(name: str, histogram: dict[str, Any], unit: str) -> dict[str, Any]:
    edges, kept, others = histogram["edges"], histogram["kept"], histogram["others"]
    filled = [i for i, (a, b) in enumerate(zip(kept, others, strict=True)) if a or b]
    bins = range(filled[0], filled[-1] + 1) if filled else range(0)
    return {
        "id": "chart-" + name.replace(" ", "-").replace("_", "-"),
        "title": name,
        "unit": unit,
        "starts": [f"{edges[i]:g}" for i in bins],
        "labels": [f"{edges[i]:g} to {edges[i + 1]:g}" for i in bins],
        "kept": [kept[i] for i in bins],
        "others": [others[i] for i in bins],
        "summary": f"mean {histogram['mean']:.4g}, from {histogram['min']:.4g} to {histogram['max']:.4g}"
        if sum(kept)
        else "nothing kept",
    }


# ------------------------------------------------------------------ samples


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the caption; `note` says what is claimed there, `verdict` is the worst of the claims."""

    text: str
    verdict: str
    note: str


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a sample's table; `verdict` is empty where the caption does not state the attribute."""

    attribute: str
    value: str
    verdict: str
    confidence: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Card:
    sample: Sample
    picture: str
    pieces: list[Piece]
    lines: list[Line]
    words: str
    link: str


def card(sample: Sample, jpeg: bytes) -> Card:
    lines = table_of(sample)
    return Card(
        sample=sample,
        picture=data_uri(jpeg, SAMPLE_SIDE),
        pieces=pieces_of(sample),
        lines=lines,
        words=" | ".join(f"{line.attribute}={line.value}" for line in lines).lower(),
        link=sample.source.url if sample.source.url.startswith(("https://", "http://")) else "",
    )


def pieces_of(sample: Sample) -> list[Piece]:
    """The caption cut where claims begin and end; spans may overlap, those outside the caption are left out."""
    length = len(sample.caption)
    claims = [c for c in sample.claims if len(c.span) == 2 and 0 <= c.span[0] < c.span[1] <= length]
    cuts = sorted({0, length, *(edge for claim in claims for edge in claim.span)})
    pieces = []
    for start, end in itertools.pairwise(cuts):
        here = [c for c in claims if c.span[0] <= start and end <= c.span[1]]
        worst = min((c.verdict for c in here), key=("contradicted", "unverified", "supported").index, default="")
        note = "; ".join(describe(line_of(c, attribute_of(sample, c))) for c in here)
        pieces.append(Piece(sample.caption[start:end], worst, note))
    return pieces


def table_of(sample: Sample) -> list[Line]:
    """Claims in the order of the caption, then what was measured and not said."""
    claims = sorted(sample.claims, key=lambda claim: claim.span)
    said = {(claim.attribute, claim.value) for claim in claims}
    silent = [a for a in sample.attributes if (a.name, a.value) not in said]
    return [line_of(c, attribute_of(sample, c)) for c in claims] + [line_of(None, a) for a in silent]


def attribute_of(sample: Sample, claim: Claim) -> Attribute | None:
    """What a claim rests on: the attribute with its value, else with its name (then the values differ)."""
    named = [a for a in sample.attributes if a.name == claim.attribute]
    return next((a for a in named if a.value == claim.value), named[0] if named else None)


def line_of(claim: Claim | None, attribute: Attribute | None) -> Line:
    said = claim or attribute
    name = claim.attribute if claim else attribute.name if attribute else ""
    evidence = "no evidence"
    if attribute:
        evidence = " ".join(filter(None, (attribute.evidence.by, attribute.evidence.revision)))
        evidence += f", {attribute.evidence.measured}" if attribute.evidence.measured else ""
        evidence += f" (measured: {attribute.value})" if claim and claim.value != attribute.value else ""
    return Line(
        attribute=name,
        value=said.value if said else "",
        verdict=claim.verdict if claim else "",
        confidence=f"{attribute.confidence:.2f}" if attribute else "",
        evidence=evidence,
    )


def describe(line: Line) -> str:
    facts = (
        f"{line.attribute} = {line.value}",
        line.verdict,
        line.confidence and f"confidence {line.confidence}",
        line.evidence,
    )
    return " · ".join(filter(None, facts))
