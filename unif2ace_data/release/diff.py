"""What `diff` found, in the terminal: sums, then tables of what differs most, cut short; `--json` has all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Group
from rich.table import Table
from rich.text import Text

from unif2ace_data.release.stats import grid, plain

if TYPE_CHECKING:
    from unif2ace_data.curate.shifts import Distribution
    from unif2ace_data.run.diff import Dataset, Diff
    from unif2ace_data.run.diff_samples import Found, Names

ROWS = 12  # our choice: rows of a table
DIGITS = 12  # of a key or hash
Rows = Sequence[tuple[str, ...]]


def render_diff(diff: Diff) -> Group:
    """The whole diff as compact tables that rich prints; parts without a difference are left out."""
    if diff.same:
        return Group(
            Text(
                plain(
                    f"{diff.a.path} and {diff.b.path}: no differences in {diff.a.samples:,} samples, recipe or losses"
                )
            )
        )
    samples = diff.samples
    aspects = [(a, f"{f.count:,}", keys_of(f)) for a, f in samples.aspects.items() if f.count]
    asked = {
        "added": samples.questions_added,
        "removed": samples.questions_removed,
        "answered otherwise": samples.answers_changed,
    }
    questions = [(f"questions {name}", f"{f.count:,}", keys_of(f)) for name, f in asked.items() if f.count]
    return Group(
        *(Text(plain(line)) for line in (side_line("A", diff.a), side_line("B", diff.b))),
        *table("samples", sample_rows(diff), (1,)),
        *table("changed in samples of both", [*aspects, *questions], (1,)),
        *table("moved between splits", counted(samples.moved), (1,)),
        *table("captions anew, by captioner", counted(samples.recaptioned), (1,)),
        *table("attributes of samples in both: added, removed, other value", names(samples.attributes), (1, 2, 3)),
        *table("claims in captions of both: added, removed, other", names(samples.claims), (1, 2, 3)),
        *table("recipe: A, B", [(s.key, told(s.a), told(s.b)) for s in diff.recipe], ()),
        *table("lost: reason, A, B", [(r.reason, f"{r.a:,}", f"{r.b:,}") for r in diff.lost], (1, 2)),
        *table("sizes and means: A, B, B / A", measure_rows(diff), (1, 2, 3)),
        *table(
            "distributions: share that lies elsewhere, greatest difference (95 % interval)", spread_rows(diff), (1,)
        ),
        *table("name these when models are compared", [(c.text,) for c in diff.confounders], ()),
        *(Text(plain(f"note: {note}")) for note in diff.notes),
    )


def side_line(name: str, side: Dataset) -> str:
    splits = ", ".join(f"{split} {count:,}" for split, count in side.splits.items())
    held = f"{side.samples:,} samples of {side.inputs:,} inputs ({splits})"
    return f"{name}  {side.path}, root {side.root_sha256[:DIGITS]}\n   {held}"


def table(title: str, rows: Rows, numbers: tuple[int, ...]) -> tuple[Text | Table, ...]:
    if not rows:
        return ()
    more = (Text(f"and {len(rows) - ROWS:,} more (--json has all)"),) if len(rows) > ROWS else ()
    return (*grid(title, tuple(rows[:ROWS]), numbers), *more)


def sample_rows(diff: Diff) -> list[tuple[str, ...]]:
    s = diff.samples
    rows: list[tuple[str, ...]] = [
        ("in both", f"{s.common:,}", f"{s.common - s.changed.count:,} the same, {s.changed.count:,} changed")
    ]
    for name, other, found, why in (("A", "B", s.only_a, s.missing_in_b), ("B", "A", s.only_b, s.missing_in_a)):
        rows.append((f"only in {name}", f"{found.count:,}", keys_of(found)))
        rows += [
            (f"  not in {other}: {reason}", f"{f.count:,}", keys_of(f)) for reason, f in sorted(why.items(), key=most)
        ]
    return rows + ([("under another key", f"{s.rekeyed.count:,}", keys_of(s.rekeyed))] if s.rekeyed.count else [])


def most(entry: tuple[str, Found]) -> tuple[int, str]:
    return -entry[1].count, entry[0]


def counted(found: dict[str, Found]) -> list[tuple[str, ...]]:
    return [(name, f"{f.count:,}", keys_of(f)) for name, f in sorted(found.items(), key=most)]


def names(found: dict[str, Names]) -> list[tuple[str, ...]]:
    rows = sorted(found.items(), key=lambda entry: (-entry[1].added - entry[1].removed - entry[1].changed, entry[0]))
    return [(name, f"{n.added:,}", f"{n.removed:,}", f"{n.changed:,}") for name, n in rows]


def keys_of(found: Found) -> str:
    """The first keys, each by its beginning (with the face's number)."""
    cut = [" -> ".join(k[:DIGITS] + k[32:] for k in key.split(" -> ")) for key in found.keys[:3]]
    return " ".join(cut) + (" …" if found.count > len(cut) else "")


def told(value: Any) -> str:
    """A setting on one line; long values are cut."""
    text = "-" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 40 else f"{text[:39]}…"


def measure_rows(diff: Diff) -> list[tuple[str, ...]]:
    return [
        (m.name, f"{m.a:,g}", f"{m.b:,g}", "" if m.ratio is None else f"{m.ratio:.2f}")
        for m in diff.measures
        if m.a != m.b
    ]


def spread_rows(diff: Diff) -> list[tuple[str, ...]]:
    return [
        (f"{d.group}: {d.name}", f"{d.total_variation:.1%}", greatest(d))
        for d in diff.distributions
        if d.total_variation
    ]


def greatest(d: Distribution) -> str:
    v = d.values[0]
    means = f"; mean {d.mean_a:g} and {d.mean_b:g}" if d.mean_a is not None else ""
    return (
        f"{v.value}: {v.share_a:.1%} and {v.share_b:.1%}, {v.points:+.1f} points ({v.low:+.1f} to {v.high:+.1f}){means}"
    )
