"""The questions of a dataset in words: what `stats` prints of them."""

from __future__ import annotations

from typing import Any


def question_lines(qa: dict[str, Any]) -> list[str]:
    """In a few lines how many there are, of what kinds and letters, and how well one answers without the picture."""
    total, lines = qa["total"], [f"questions: {qa['total']:,} ({qa['per_sample']} per sample)"]
    if not total:
        return lines
    blind = qa["blind"]
    letters = [
        f"of {size} options " + " ".join(f"{a} {n / (sum(found.values()) or 1):.1%}" for a, n in found.items())
        for size, found in qa["letters"].items()
    ]
    readers = ", ".join(f"by {name} {share:.1%}" for name, share in blind["readers"].items())
    return [
        *lines,
        "  kinds: " + ", ".join(f"{kind} {n / total:.1%}" for kind, n in qa["kinds"].items()),
        "  groups: " + ", ".join(f"{group} {n / total:.1%}" for group, n in qa["groups"].items()),
        "  right letters: " + "; ".join(letters),
        f"  answer that it cannot be seen: {qa['not_visible']:,} ({qa['not_visible'] / total:.1%})",
        f"  answered blindly with the commonest answer ({blind['questions']:,} with options): {readers}; "
        f"chance {blind['chance']:.1%}; at most {100 * blind['above_chance']:.1f} points above chance",
    ]


def question_tables(qa: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]], tuple[int, ...]]]:
    """(title, rows, columns of numbers) of tables of the questions by check and by attribute; none without questions."""
    if not qa["total"]:
        return []
    checks = [(name, *(f"{n:,}" for n in verdicts.values())) for name, verdicts in qa["checks"].items()]
    about = [(name, f"{n:,}", f"{n / qa['total']:.1%}") for name, n in qa["attributes"].items()]
    return [
        ("questions by check: pass, fail, unchecked", [*checks], (1, 2, 3)),
        ("questions by attribute", [*about], (1, 2)),
    ]
