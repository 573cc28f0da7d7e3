"""Drop rates and balance by apparent group in words: what `stats`, the report and the datasheet show of them."""

from __future__ import annotations

from typing import Any

DIMENSION_TEXT = {
    "gender": "apparent gender",
    "age": "apparent age",
    "skin_tone": "skin tone as photographed",
    "pose": "pose",
}


def warning_lines(stats: dict[str, Any]) -> list[str]:
    return [warning["text"] for warning in (stats.get("fairness") or {}).get("warnings", [])]


def rate_rows(stats: dict[str, Any]) -> list[tuple[str, ...]]:
    """(filter, dimension, each group with its rate and 95 % interval) where a filter dropped faces of reported groups."""
    found: list[tuple[str, ...]] = []
    for entry in (stats.get("fairness") or {}).get("filters", []):
        for dimension, text in DIMENSION_TEXT.items():
            cells = entry[dimension]
            if any(cell["dropped"] for cell in cells):
                told = (
                    f"{c['group']} {100 * c['rate']:.1f} % ({100 * c['low']:.1f} to {100 * c['high']:.1f}, of {c['faces']:,})"
                    for c in cells
                )
                found.append((entry["reason"], text, "; ".join(told)))
    return found


def balance_rows(stats: dict[str, Any]) -> list[tuple[str, str, int, str, float, float]]:
    """(dimension, group, samples, share, attributes a sample, questions a sample)."""
    balance = (stats.get("fairness") or {}).get("balance", {})
    return [
        (
            text, cell["group"], cell["samples"], f"{100 * cell['share']:.1f} %",
            cell["attributes_per_sample"], cell["questions_per_sample"],
        )
        for dimension, text in DIMENSION_TEXT.items()
        for cell in balance.get(dimension, [])
    ]  # fmt: skip
