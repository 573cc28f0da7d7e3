"""The answer of a comparison: from the measurements of its runs, by sample, to a verdict.

    S pairs   I identities

Primary measurements decide. Secondary ones were declared as well, and are corrected for among themselves; everything else is
exploratory: it may raise a question, and answers none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unif2ace_data.errors import UserError
from unif2ace_data.run.diff import diff
from unif2ace_model.compare_metrics import Rows, lower_is_better, unit_of, value_of
from unif2ace_model.compare_plan import SIDES, Plan, encoded, with_shared
from unif2ace_model.compare_run import read_result, rows_in
from unif2ace_model.config import Preset
from unif2ace_model.paired import LEVEL, family_p, interval, over_people, sign_flip, smallest_found
from unif2ace_model.text import load_tokenizer

ALPHA = 1 - LEVEL
UNIT_TOLD = {"%": "points"}  # of differences
FAMILIES = ("primary", "secondary", "exploratory")


def report_of(
    out: Path, plan: Plan, seeds: int, failed: Sequence[dict[str, Any]], looks: Sequence[int]
) -> dict[str, Any]:
    """compare.json. Raises UserError where no pair has finished."""
    results = {(side, seed): read_result(out, plan, side, seed) for seed in range(seeds) for side in SIDES}
    pairs = [seed for seed in range(seeds) if all(results[side, seed] for side in SIDES)]
    if not pairs:
        why = "; ".join(f"{f['side']}-{f['seed']}: {f['why']}" for f in failed[:3])
        raise UserError(f"no pair of runs has finished ({why}): run the same command to try again")
    rows = {side: [rows_in(results[side, seed] or {}) for seed in pairs] for side in SIDES}
    people = np.unique(plan.people, return_inverse=True)[1]
    measured = {family: family_rows(names_of(family, plan, rows["a"]), rows, people) for family in FAMILIES}
    verdict = verdict_of(measured["primary"])
    report: dict[str, Any] = {
        "verdict": verdict,
        "says": [],
        "declared": plan.declared() | {"steps": plan.steps, "threads": plan.threads},
        "datasets": {"a": plan.a.path, "b": plan.b.path, "evaluation": plan.evaluation.path},
        "held_out": {"samples": len(plan.people), "identities": int(people.max()) + 1},
        "seeds": seeds,
        "pairs": pairs,
        "failed": list(failed),
        "looks": list(looks),
        "runs": [
            {"side": side, "seed": seed}
            | {name: result[name] for name in ("steps", "tokens", "cpu_seconds", "weights_sha256", "curve")}
            for (side, seed), result in results.items()
            if result
        ],
        "variants": {side: facts_of(Path(plan.side(side).path), with_shared(out, plan.preset)) for side in SIDES},
        **measured,
    }
    report["confounders"] = [found.text for found in diff(Path(plan.a.path), Path(plan.b.path)).confounders]
    report["says"] = sentences(report)
    return report


def names_of(family: str, plan: Plan, rows: Sequence[Rows]) -> list[str]:
    known = [name for name in rows[0] if all(value_of(one[name]) is not None for one in rows)]
    if family == "exploratory":
        return [name for name in known if name not in plan.primary and name not in plan.secondary]
    return [name for name in getattr(plan, family) if name in known]


def family_rows(names: Sequence[str], rows: dict[str, list[Rows]], people: np.ndarray) -> list[dict[str, Any]]:
    """One row a measurement: both variants, their difference (B less A), and how sure it is."""
    values = {side: np.array([[value_of(one[name]) or 0.0 for name in names] for one in rows[side]]) for side in SIDES}
    differences_SK = values["b"] - values["a"]
    corrected_K = family_p(differences_SK) if names else np.zeros(0)
    return [
        row_of(name, values["a"][:, k], values["b"][:, k], float(corrected_K[k]), by_person(name, rows, people))
        for k, name in enumerate(names)
    ]


By = tuple[np.ndarray, np.ndarray]


def row_of(name: str, a_S: np.ndarray, b_S: np.ndarray, corrected: float, people: tuple[By, By]) -> dict[str, Any]:
    differences_S = b_S - a_S
    near, far = interval(differences_S), over_people(*people)
    smallest = smallest_found(differences_S)
    mean = float(differences_S.mean())
    better = "a" if (mean > 0) == lower_is_better(name) else "b"
    return {
        "name": name,
        "unit": unit_of(name),
        "better": "lower" if lower_is_better(name) else "higher",
        "a": round(float(a_S.mean()), 6),
        "b": round(float(b_S.mean()), 6),
        "difference": round(mean, 6),
        "interval": near.as_json() if near else None,
        "interval_people": far.as_json() if far else None,
        "p": round(sign_flip(differences_S), 6),
        "p_corrected": round(corrected, 6),
        "smallest_found": None if smallest is None else round(smallest, 6),
        "favours": better if corrected < ALPHA else None,
        "pairs": [[round(float(a), 6), round(float(b), 6)] for a, b in zip(a_S, b_S, strict=True)],
    }


def by_person(name: str, rows: dict[str, list[Rows]], people: np.ndarray) -> tuple[By, By]:
    """((above (S, I), below (S, I)) of A, the same of B)."""
    count = int(people.max()) + 1

    def sums(one: Rows, part: int) -> np.ndarray:
        return np.bincount(people, one[name][part], count)

    a, b = (
        (np.stack([sums(one, 0) for one in rows[side]]), np.stack([sums(one, 1) for one in rows[side]]))
        for side in SIDES
    )
    return a, b


# ------------------------------------------------------------------ the verdict


def verdict_of(primary: Sequence[dict[str, Any]]) -> str:
    """`a` or `b`: better by a primary measurement and worse by none; `mixed`; `none`: no difference found."""
    sides = {row["favours"] for row in primary} - {None}
    return "mixed" if len(sides) > 1 else next(iter(sides), "none")


def sentences(report: dict[str, Any]) -> list[str]:
    """The answer in words, the verdict first."""
    primary, pairs = report["primary"], len(report["pairs"])
    said = []
    if report["verdict"] in SIDES:
        better = report["verdict"]
        held = [row for row in primary if row["favours"] == better]
        said.append(f"{better.upper()} is better: " + "; ".join(told(row) for row in held) + ".")
        if narrow := [row["name"] for row in held if not excludes(row["interval_people"])]:
            said.append(
                f"So it is on these held-out people. For other people it is open ({', '.join(narrow)}): more of them would tell."
            )
    elif report["verdict"] == "mixed":
        said.append("Each is better at something: " + "; ".join(told(row) for row in primary if row["favours"]) + ".")
    elif pairs < 6:
        said.append(f"No difference can be shown with {pairs} pairs: 6 are the fewest, 8 are usual (--seeds).")
    else:
        smallest = "; ".join(
            f"{row['name']} {amount(row, row['smallest_found'])}"
            for row in primary
            if row["smallest_found"] is not None
        )
        said.append(
            f"No difference found. The smallest that {pairs} pairs of this length find in four of five comparisons: {smallest}."
        )
    for crashed in report["failed"]:
        said.append(f"Run {crashed['side']}-{crashed['seed']} crashed and its pair is left out: {crashed['why']}")
    if len(report["looks"]) > 1:
        said.append(
            f"Looked at with {', '.join(map(str, report['looks']))} pairs: who stops at the look that pleases is right less "
            "often than p says."
        )
    return said


def told(row: dict[str, Any]) -> str:
    ends, unit = row["interval"], UNIT_TOLD.get(row["unit"], row["unit"])
    sure = f" [{amount(row, ends['low'], True)}, {amount(row, ends['high'], True)}]" if ends else ""
    return f"{row['name']} {amount(row, row['difference'], True)}{sure} {unit}, p = {row['p_corrected']:.3g}"


def amount(row: dict[str, Any], value: float, sign: bool = False) -> str:
    """A difference as a person reads it: shares in percentage points."""
    shown = 100 * value if row["unit"] == "%" else value
    places = 1 if row["unit"] == "%" else 4
    return f"{shown:+.{places}f}" if sign else f"{shown:.{places}f}"


def excludes(ends: dict[str, float] | None, zero: float = 0.0) -> bool:
    return ends is not None and not ends["low"] <= zero <= ends["high"]


# ------------------------------------------------------------------ what else differs


def facts_of(shards: Path, preset: Preset) -> dict[str, float]:
    """What a variant teaches with, in numbers."""
    records, text = encoded(shards, preset).of("train"), load_tokenizer(preset.text.tokenizer)
    return {
        "samples": len(records),
        "caption_tokens": round(float(np.mean([len(text.encode(record.caption)) for record in records])), 2),
        "questions": round(float(np.mean([len(record.qa) for record in records])), 2),
    }
