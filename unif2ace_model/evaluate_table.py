"""The evaluation in the terminal: one table a part, figures with half the width of their 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.text import Text

from unif2ace_data.release.stats import grid, plain


def render_report(report: dict[str, Any]) -> Group:
    """The report of `evaluate` as tables that rich prints."""
    checkpoint, dataset = report["checkpoint"], report["dataset"]
    lines = [
        f"{checkpoint['name']}, weights {checkpoint['sha256'][:12]}, on {dataset['split']} of {dataset['root_sha256'][:12]}: "
        f"{dataset['samples']:,} samples of {dataset['identities']:,} people"
    ]
    if not dataset["trained_on_it"]:
        lines.append("note: the model was trained on another dataset; people may be in both")
    parts: list[Any] = [Text(plain(line)) for line in lines]
    for name, rows in tables(report):
        parts += grid(name, rows, numbers=tuple(range(1, len(rows[0]))))
    return Group(*parts)


def tables(report: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    if "qa" in report:
        yield (
            "questions: per cent, nats a token; exchanged: the gain with another's picture",
            qa_rows(report["qa"]),
        )
    for part, title, fields in LINES:
        if part in report:
            yield title, [(label, shown(report[part][key], form)) for key, label, form in fields if key in report[part]]


def qa_rows(qa: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "n", "right", "majority", "gain", "exchanged", "NLL")]
    named = {"all": qa["all"], "with options": qa["with_options"]}
    for group in ("by_kind", "by_group", "by_attribute"):
        named |= qa[group]
    for name, row in named.items():
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


# part -> title, and (field, words, form) of its lines
LINES: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "captions",
        "captions",
        [
            ("nll", "NLL, nats a token", "number"),
            ("exchanged_nll", "with exchanged pictures", "number"),
            ("picture_tells", "what the picture tells", "number"),
        ],
    ),
    (
        "nelbo",
        "image codes, bits a token",
        [
            ("bits_per_token", "NELBO", "number"),
            ("without_caption", "without the caption", "number"),
            ("exchanged_caption", "with another's caption", "number"),
            ("unigram", "add-one unigram of the training codes", "number"),
            ("under_unigram", "NELBO under the unigram, per cent", "share"),
        ],
    ),
]


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
