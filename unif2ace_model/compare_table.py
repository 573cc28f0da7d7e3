"""A comparison in the terminal: the verdict, then what was declared, each with its interval and p; the page has more."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from unif2ace_data.release.stats import grid, plain
from unif2ace_model.compare_report import UNIT_TOLD, amount

HEADS = ("", "A", "B", "B less A [95 %]", "p", "better")


def render(report: dict[str, Any]) -> Group:
    """compare.json as text and tables that rich prints."""
    parts: list[Any] = [Text(plain(line)) for line in report["says"]]
    if report["confounders"]:
        parts.append(Text("What else differs, and would explain a difference as well:"))
        parts += [Text(plain(f"- {line}")) for line in report["confounders"]]
    parts.append(Text(plain(facts(report))))
    for family in ("primary", "secondary"):
        title, table = grid(family, [HEADS, *(row_of(row) for row in report[family])], numbers=(1, 2, 3, 4))
        for column in table.columns[1:]:
            column.no_wrap = True  # where it is too wide, the names give way
        parts += [title, table]
    more = len(report["exploratory"])
    parts.append(
        Text(
            f"\nintervals are over pairs; p is corrected for the rows of its table; {more} more measurements, exploratory, "
            "are on the page"
        )
    )
    return Group(*parts)


def facts(report: dict[str, Any]) -> str:
    a, b = (report["variants"][side]["samples"] for side in ("a", "b"))
    held = report["held_out"]
    people = "person" if held["identities"] == 1 else "people"
    return (
        f"{len(report['pairs'])} of {report['seeds']} pairs, {report['declared']['steps']} steps of A; A learns from {a:g} "
        f"samples, B from {b:g}; judged by {held['samples']} samples of {held['identities']} {people}"
    )


def row_of(row: dict[str, Any]) -> tuple[str, ...]:
    ends, unit = row["interval"], UNIT_TOLD.get(row["unit"], row["unit"])
    sure = f" [{amount(row, ends['low'], True)}, {amount(row, ends['high'], True)}]" if ends else ""
    return (
        f"{row['name'].replace(':', ': ')}, {unit}",
        amount(row, row["a"]),
        amount(row, row["b"]),
        amount(row, row["difference"], True) + sure,
        f"{row['p_corrected']:.3g}",
        (row["favours"] or "–").upper(),
    )
