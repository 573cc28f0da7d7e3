"""The evaluation in the terminal: one table a part, figures with half the width of their 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from unif2ace_data.release.stats import grid, plain


def render_report(report: dict[str, Any]) -> Group:
    """The report of `evaluate` or `evaluate_file` as tables that rich prints."""
    parts: list[Any] = [Text(plain(line)) for line in header(report)]
    for name, rows in tables(report):
        parts += grid(name, rows, numbers=tuple(range(1, len(rows[0]))))
    return Group(*parts)


def header(report: dict[str, Any]) -> list[str]:
    checkpoint = report["checkpoint"]
    model = f"{checkpoint['name']}, weights {checkpoint['sha256'][:12]}"
    if "questions" in report:
        facts = report["questions"]
        lines = [
            f"{model}, on {facts['file']}: {facts['asked']:,} of {facts['rows']:,} rows asked about {facts['images']:,} "
            f"pictures of {facts['identities']:,} people, {facts['images_without_a_face']:,} pictures without a face"
        ]
        return lines + [f"left out: {count:,} rows: {reason}" for reason, count in facts["left_out"].items()]
    dataset = report["dataset"]
    lines = [
        f"{model}, on {dataset['split']} of {dataset['root_sha256'][:12]}: "
        f"{dataset['samples']:,} samples of {dataset['identities']:,} people"
    ]
    if not dataset["trained_on_it"]:
        lines.append("note: the model was trained on another dataset; people may be in both")
    return lines


def tables(report: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    if "qa" in report:
        yield "questions: per cent, nats a token; exchanged: the gain with another's picture", qa_rows(report["qa"])
    if "captions" in report:
        found = report["captions"]
        yield "captions", lines_of(found, CAPTIONS)
        yield "captions written: BLEU-4, ROUGE-L, CIDEr; attributes by the evidence, per cent", caption_rows(found)
    if "nelbo" in report:
        yield "image codes, bits a token", lines_of(report["nelbo"], CODES)
    if "generation" in report:
        found = report["generation"]
        yield f"generated faces ({found['sampler']}): claims that hold, per cent", face_rows(found)
        fid = found["fid"]
        named = ("generated", "reconstructed", "training_pictures")
        rows: list[tuple[str, ...]] = [(n.replace("_", " "), shown(fid[n], "number", bare=True)) for n in named]
        yield f"FID by {fid['network']}, {fid['pictures']} pictures a side", rows
    if "judge" in report:
        found = report["judge"]
        rows = [
            (stage, f"{found[stage]['cases']:,}", shown(found[stage]["score"], form))
            for stage, form in JUDGED
            if stage in found
        ]
        failed = sum(found["failed"].values())
        yield f"judged by {found['model']}" + (f" ({failed} requests failed)" if failed else ""), rows


def qa_rows(qa: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "n", "right", "majority", "gain", "exchanged", "NLL")]
    named = [("all", qa["all"]), ("with options", qa["with_options"])]
    for group in ("by_kind", "by_group", "by_attribute"):  # `emotion` is a group and an attribute
        named += [(f"{group[3:]} {name}", row) for name, row in qa[group].items()]
    for name, row in named:
        if row:
            right, gain, exchanged = (
                shown(row["accuracy"], "share"),
                shown(row.get("gain"), "points"),
                shown(row.get("exchanged_gain"), "points"),
            )
            majority = shown(row.get("majority"), "share", bare=True)
            rows.append(
                (
                    name,
                    f"{row['questions']:,}",
                    right,
                    majority,
                    gain,
                    exchanged,
                    shown(row["nll"], "number", bare=True),
                )
            )
    return rows


def caption_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "BLEU-4", "ROUGE-L", "CIDEr", "precision", "recall")]
    for name in ("written", "exchanged", "stored"):
        if row := found.get(name):
            texts = ("bleu_4", "rouge_l", "cider")
            words = [shown(row[key], "number") if key in row else "" for key in texts]
            rows.append((name, *words, shown(row["precision"], "share"), shown(row["recall"], "share")))
    return rows


def face_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "faces found", "of those settled", "of all claims")]
    for name in ("generated", "exchanged_prompts", "reconstructed"):
        if row := found.get(name):
            rows.append(
                (name.replace("_", " "), *(shown(row[key], "share") for key in ("faces_found", "agreement", "shown")))
            )
    if "caption_tells" in found:
        rows.append(("over exchanged", "", shown(found["caption_tells"], "points"), ""))
    rows.append(("of those settled", "generated", "exchanged", "reconstructed"))
    for name, row in found["generated"]["by_attribute"].items():
        beside = [
            shown(found.get(other, {}).get("by_attribute", {}).get(name, {}).get("agreement"), "share", bare=True)
            for other in ("exchanged_prompts", "reconstructed")
        ]
        rows.append((f"{name} ({row['claims']:,})", shown(row["agreement"], "share"), *beside))
    return rows


def lines_of(found: dict[str, Any], fields: Sequence[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    return [(words, shown(found[key], form)) for key, words, form in fields if key in found]


# field, words, form
CAPTIONS = [
    ("nll", "NLL of the stored ones, nats a token", "number"),
    ("exchanged_nll", "with exchanged pictures", "number"),
    ("picture_tells", "what the picture tells", "number"),
]
CODES = [
    ("bits_per_token", "NELBO", "number"),
    ("without_caption", "without the caption", "number"),
    ("exchanged_caption", "with another's caption", "number"),
    ("unigram", "add-one unigram of the training codes", "number"),
    ("under_unigram", "NELBO under the unigram, per cent", "share"),
]
JUDGED = [("desc", "number"), ("conv", "number"), ("vqa", "share"), ("vqa_exchanged", "share")]


def shown(figure: Any, form: str, bare: bool = False) -> str:
    """A figure and half the width of its interval (`bare`: without): share and points in per cent, or a number."""
    if figure is None:
        return ""
    ends = figure if isinstance(figure, dict) else {"value": figure, "low": None}
    if ends["value"] is None:
        return "none"
    times, spec = {"share": (100, ".1f"), "points": (100, "+.1f"), "number": (1, ".3f")}[form]
    value = format(times * ends["value"], spec)
    if bare or ends["low"] is None:
        return value
    return f"{value} ± {format(times * (ends['high'] - ends['low']) / 2, spec.lstrip('+'))}"
