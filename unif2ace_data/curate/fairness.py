"""Does a filter remove one group more than the others? Drop rates by apparent group, with intervals and warnings.

Groups are of what the measurements make of a picture: apparent gender, apparent age, skin tone as photographed, pose.
They are for counting only. A rate is of those that came as far as the filter (none before it dropped them). What leaves
here are sums over at least MIN_COUNT faces; nothing tells of one of them.

A warning (our choice) needs both: the group is dropped markedly more than all others (`marked`), and a one-sided exact
test (Fisher's) says so at 5 % over all tests made at once (Holm's correction). Where a filter asks for the very thing
that makes the group (BY_DESIGN), nothing is tested.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from unif2ace_data.curate.intervals import wilson
from unif2ace_data.filters import REASONS

MIN_COUNT = 10  # our choice: fewer faces than this are not reported
LEVEL = 0.05
POINTS = 0.05  # our choice of "markedly": five points more than the others,
TIMES, LEAST_POINTS = 2.0, 0.01  # or twice as often and one point more
BY_DESIGN = {("yaw", "pose"), ("pitch", "pose"), ("adult", "age")}
# ITA in degrees, its usual classes from light to dark (Chardon et al. 1991), two by two; of photographs, not of skin.
TONES = ((41.0, "light"), (10.0, "medium"), (-math.inf, "dark"))
AGES = ((30, "under 30"), (45, "30 to 44"), (60, "45 to 59"), (math.inf, "60 and over"))
YAWS = ((15, "frontal"), (30, "turned"), (math.inf, "far turned"))
FEMALE, MALE = 0.8, 0.2  # our choice: probabilities of apparent female from and up to which a gender counts
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "gender": ("female", "male", "unclear"),
    "age": tuple(name for _, name in AGES),
    "skin_tone": tuple(name for _, name in TONES),
    "pose": tuple(name for _, name in YAWS),
}
Groups = dict[str, str]  # dimension -> group; a dimension that was not measured is missing


def groups_of(face: Mapping[str, Any]) -> Groups:
    """The groups of one measured face (a FaceRecord as stored)."""
    found: Groups = {}
    if not face["measured"]:
        return found
    female = face["p_female"]
    if female >= 0:
        found["gender"] = "female" if female >= FEMALE else "male" if female <= MALE else "unclear"
    if "expected" in face["age"]:
        found["age"] = next(name for limit, name in AGES if face["age"]["expected"] < limit)
    if "skin_ita" in face["pixels"]:
        found["skin_tone"] = next(name for limit, name in TONES if face["pixels"]["skin_ita"] > limit)
    found["pose"] = next(name for limit, name in YAWS if abs(face["yaw"]) < limit)
    return found


def fairness(rows: Iterable[tuple[Groups, str]], samples: Iterable[tuple[Groups, Mapping[str, Any]]]) -> dict[str, Any]:
    """The section `fairness` of stats.json.

    rows: of every face that a filter saw, its groups and the reason it was dropped for ("": kept);
    samples: of every sample, its groups and its record ({key}.json).
    """
    dropped: Counter[tuple[str, str, str]] = Counter()  # (reason, dimension, group)
    for groups, reason in rows:
        for dimension, group in groups.items():
            dropped[reason, dimension, group] += 1
    filters = filters_of(dropped)
    return {
        "min_count": MIN_COUNT,
        "filters": filters,
        "balance": balance_of(samples),
        "warnings": warnings_of(filters),
    }


# ------------------------------------------------------------------ filters


def filters_of(dropped: Counter[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """By filter (in the order of the funnel) and dimension: each group's faces, drops, rate and 95 % interval."""
    order = [reason for reason in REASONS if any(r == reason for r, _, _ in dropped)]
    found = []
    for place, reason in enumerate(order):
        entry: dict[str, Any] = {"reason": reason}
        for dimension, names in DIMENSIONS.items():
            cells = []
            for group in names:
                count = dropped[reason, dimension, group]
                reached = count + sum(dropped[later, dimension, group] for later in [*order[place + 1 :], ""])
                if reached >= MIN_COUNT:
                    low, high = wilson(count, reached)
                    cells.append(
                        {
                            "group": group, "faces": reached, "dropped": count, "rate": round(count / reached, 4),
                            "low": round(low, 4), "high": round(high, 4),
                        }
                    )  # fmt: skip
            entry[dimension] = cells
        found.append(entry)
    return found


def warnings_of(filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups that a filter removes markedly and surely more than all other groups of the dimension together."""
    tests = []
    for entry in filters:
        for dimension in DIMENSIONS:
            cells = entry[dimension]
            if (entry["reason"], dimension) in BY_DESIGN or not any(cell["dropped"] for cell in cells):
                continue
            faces, drops = sum(c["faces"] for c in cells), sum(c["dropped"] for c in cells)
            for cell in cells if len(cells) > 1 else ():
                others = (drops - cell["dropped"]) / (faces - cell["faces"])
                chance = fisher(cell["dropped"], cell["faces"], drops, faces)
                tests.append((chance, entry["reason"], dimension, cell, others))
    tests.sort(key=lambda test: (test[0], test[1], test[2], test[3]["group"]))
    found = []
    for place, (chance, reason, dimension, cell, others) in enumerate(tests):
        if chance * (len(tests) - place) > LEVEL:  # Holm: from here on nothing is sure
            break
        if marked(cell["dropped"] / cell["faces"], others):
            found.append(
                {
                    "reason": reason, "dimension": dimension, "group": cell["group"], "rate": cell["rate"],
                    "others": round(others, 4),
                    "text": f"{reason} drops {percent(cell['rate'])} of the faces that look {said(dimension, cell['group'])}, "
                    f"and {percent(others)} of the others",
                }
            )  # fmt: skip
    order = {reason: i for i, reason in enumerate(REASONS)}
    return sorted(found, key=lambda w: (order[w["reason"]], w["dimension"], w["group"]))


def marked(rate: float, others: float) -> bool:
    return rate - others >= POINTS or (rate - others >= LEAST_POINTS and rate >= TIMES * others)


def said(dimension: str, group: str) -> str:
    return {"skin_tone": f"{group} in skin tone", "age": f"{group} years old", "gender": f"{group} in gender"}.get(
        dimension, group
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# ------------------------------------------------------------------ what is left


def balance_of(samples: Iterable[tuple[Groups, Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """By dimension and group: samples, attributes and questions a sample, and the share that has each attribute."""
    count: Counter[tuple[str, str]] = Counter()
    questions: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    having: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for groups, record in samples:
        names = {attribute["name"] for attribute in record["attributes"]}
        asked = Counter(question["category"] for question in record["qa"])
        for place in groups.items():
            count[place] += 1
            having[place].update(names)
            questions[place].update(asked)
    found: dict[str, list[dict[str, Any]]] = {}
    for dimension, names_of in DIMENSIONS.items():
        shown = [(group, n) for group in names_of if (n := count[dimension, group]) >= MIN_COUNT]
        whole = sum(n for _, n in shown)
        found[dimension] = [
            {
                "group": group, "samples": n, "share": round(n / whole, 4),
                "attributes_per_sample": round(having[dimension, group].total() / n, 2),
                "questions_per_sample": round(questions[dimension, group].total() / n, 2),
                "questions": {k: round(v / n, 2) for k, v in sorted(questions[dimension, group].items())},
                "attributes": {k: round(v / n, 4) for k, v in sorted(having[dimension, group].items()) if v >= MIN_COUNT},
            }
            for group, n in shown
        ]  # fmt: skip
    return found


# ------------------------------------------------------------------ closed forms


def fisher(hits: int, count: int, all_hits: int, all_count: int) -> float:
    """Chance that at least `hits` of `count` drawn from `all_count`, of which `all_hits` count, are such (exact)."""
    most = min(count, all_hits)
    mean = count * all_hits / all_count
    if hits <= max(0, count + all_hits - all_count):
        return 1.0
    if hits <= mean:  # the lower tail is the shorter sum
        return max(0.0, 1.0 - tail(hits - 1, max(0, count + all_hits - all_count), -1, count, all_hits, all_count))
    return min(1.0, tail(hits, most, 1, count, all_hits, all_count))


def tail(start: int, end: int, step: int, count: int, all_hits: int, all_count: int) -> float:
    """Sum of hypergeometric chances from `start` towards `end`, away from the mean, until a term no longer counts."""
    term = math.exp(
        log_choose(all_hits, start) + log_choose(all_count - all_hits, count - start) - log_choose(all_count, count)
    )
    total, k = term, start
    while k != end and term > 1e-17 * total:
        if step > 0:
            term *= (all_hits - k) * (count - k) / ((k + 1) * (all_count - all_hits - count + k + 1))
        else:
            term *= k * (all_count - all_hits - count + k) / ((all_hits - k + 1) * (count - k + 1))
        k += step
        total += term
    return total


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
