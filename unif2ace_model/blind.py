"""Readers without the picture: what knowing the training split's questions and answers alone reaches.

Each gives the answer that was commonest among the training questions that it takes for the same: those about one
attribute of one kind, those of one form (what a true/false question asks, the set of options), those of one form in the
same words; or the commonest letter; or what all of these together expect. What it has never seen it guesses. The
baseline is the best of them, kind by kind, chosen with the result in hand: no reader that could have been named
beforehand does better.

Where questions are balanced over all splits at once, an answer that is common in one is rare in another. `rarest` gives
the answer that was rarest in training; far above chance it says that the splits tell of each other. No model that is
trained on likelihood can do so, so it is reported and no part of the baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

import numpy as np

from unif2ace_data.qa.counts import form_of
from unif2ace_data.taxonomy import load_taxonomy

PRIOR = 4.0  # our choice: a level counts as much as the one before it once it was seen so many times
READERS = ("chance", "letter", "attribute", "form", "wording", "together")
RAREST = "rarest"

Question = Mapping[str, Any]  # QA.model_dump()
Key = tuple[str, ...]


class BlindReader:
    """Fitted on the questions of one split, to be asked about another's."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self.seen: Counter[Key] = Counter()
        self.values: dict[str, set[str]] = {}
        for qa in questions:
            answer = qa["answer"].lower() if qa["options"] else qa["value"]
            self.seen.update((*level, answer) for level in levels_of(qa).values())
            if qa["options"]:
                self.seen["letter", str(len(qa["options"])), qa["letter"]] += 1
            else:
                self.values.setdefault(qa["attribute"], set()).add(answer)

    def right(self, qa: Question, reader: str) -> float:
        """1 where this reader's answer is the right one, 0 where not; of k that it holds equally likely each counts 1 / k."""
        if reader == "chance":
            return chance_of(qa)
        candidates = [option.lower() for option in qa["options"]] or sorted(self.values.get(qa["attribute"], ()))
        if not candidates:
            return 0.0
        keys = {name: [(*level, c) for c in candidates] for name, level in levels_of(qa).items()}
        if qa["options"]:
            keys = {
                "letter": [("letter", str(len(candidates)), letter) for letter in ascii_uppercase[: len(candidates)]]
            } | keys
        if reader == "together":
            weight = [1 / len(candidates)] * len(candidates)
            for level in keys.values():
                counts = [self.seen[key] for key in level]
                weight = [(n + PRIOR * w) / (sum(counts) + PRIOR) for n, w in zip(counts, weight, strict=True)]
        elif reader == RAREST:
            weight = [-float(self.seen[key]) for key in keys["wording"]]
        else:
            weight = [float(self.seen[key]) for key in keys.get(reader, [("",)] * len(candidates))]
        best = [i for i, w in enumerate(weight) if w > max(weight) - 1e-12]
        place = right_place(qa, candidates)
        return float(place in best) / len(best)


def right_place(qa: Question, candidates: Sequence[str]) -> int:
    """Place of the right answer among the candidates, -1 where it is not there."""
    if qa["options"]:
        return ascii_uppercase.index(qa["letter"])
    return candidates.index(qa["value"]) if qa["value"] in candidates else -1


def levels_of(qa: Question) -> dict[str, Key]:
    """By reader: what it takes for the same, from the general to the particular."""
    if not qa["options"]:
        attribute = qa["attribute"]
        return {"attribute": ("open", attribute), "wording": ("open wording", attribute, qa["question"])}
    form = form_of(qa)
    return {
        "attribute": ("attribute", qa["attribute"], qa["kind"]),
        "form": ("form", form),
        "wording": ("wording", form, qa["question"]),
    }


def chance_of(qa: Question) -> float:
    """What guessing reaches: one of the options, or of an open question one of its attribute's values."""
    if qa["options"]:
        return 1 / len(qa["options"])
    return 1 / len(load_taxonomy()[qa["attribute"]].values) if qa["attribute"] in load_taxonomy() else 0.0


def baseline(reader: BlindReader, questions: Sequence[Question]) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
    """(M,) how right the best reader of each kind is on each question; and by kind every reader's accuracy, the best named."""
    best_M = np.zeros(len(questions))
    by_kind: dict[str, dict[str, Any]] = {}
    for kind in sorted({qa["kind"] for qa in questions}):
        rows = [i for i, qa in enumerate(questions) if qa["kind"] == kind]
        scores = {name: [reader.right(questions[i], name) for i in rows] for name in (*READERS, RAREST)}
        best = max(READERS, key=lambda name: (sum(scores[name]), -READERS.index(name)))
        best_M[rows] = scores[best]
        by_kind[kind] = {"best": best} | {name: round(float(np.mean(found)), 5) for name, found in scores.items()}
    return best_M, by_kind
