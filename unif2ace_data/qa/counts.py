"""What is counted of a dataset's questions, of whatever engine: kinds, answers, checks, and how well one answers blindly.

A blind reader knows the published questions and their answers, but sees no picture. To each question it gives the
answer that is commonest among those it takes for the same: those of one form (what a true/false question asks, or the
set of options); those of one form in the same words; those about one attribute with as many options. Or it always
says the same letter. What is alone of its form counts at chance, since nothing but itself tells its answer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unif2ace_data.qa.phrasings import asked
from unif2ace_data.qa.templates import LETTERS
from unif2ace_data.schema import NOT_VISIBLE, Checks

READERS = ("form", "wording", "attribute", "letter")
CHECKS = tuple(Checks.model_fields)


@dataclass(slots=True)
class QaCounts:
    """Sums over questions; `seen` counts (reader, what it takes for the same, options, answer) by hash."""

    kinds: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    letters: Counter[tuple[int, str]] = field(default_factory=Counter)  # (options, letter)
    not_visible: int = 0
    seen: Counter[tuple[str, int, int, int]] = field(default_factory=Counter)
    samples: Counter[int] = field(default_factory=Counter)  # samples by number of questions

    def add(self, questions: list[Mapping[str, Any]]) -> None:
        """Count the questions of one sample, as its record has them."""
        self.samples[len(questions)] += 1
        for qa in questions:
            self.kinds[qa["kind"]] += 1
            self.groups[qa["category"]] += 1
            self.attributes[qa["attribute"]] += 1
            self.verdicts[qa["verdict"]] += 1
            self.sources[qa["source"]] += 1
            self.checks.update((name, qa["checks"].get(name, "unchecked")) for name in CHECKS)
            self.not_visible += qa["value"] == NOT_VISIBLE
            if options := len(qa["options"]):
                self.letters[options, qa["letter"]] += 1
                answer = number(qa["answer"].lower())
                for reader, same in taken_for(qa).items():
                    self.seen[reader, same, options, answer] += 1
                self.seen["letter", 0, options, number(qa["letter"])] += 1

    @property
    def total(self) -> int:
        return self.kinds.total()

    def blind(self) -> dict[str, Any]:
        """Share of the questions with options that each blind reader gets right, and that chance does; 0 to 1."""
        sums: Counter[tuple[str, int, int]] = Counter()
        best: dict[tuple[str, int, int], int] = {}
        for (reader, same, options, _), count in self.seen.items():
            sums[reader, same, options] += count
            best[reader, same, options] = max(count, best.get((reader, same, options), 0))
        asked_ = self.letters.total()
        chance = sum(n / options for (options, _), n in self.letters.items())
        right = dict.fromkeys(READERS, 0.0)
        for (reader, same, options), count in sums.items():
            right[reader] += best[reader, same, options] if count > 1 else 1 / options
        return {
            "questions": asked_,
            "chance": round(chance / (asked_ or 1), 4),
            "readers": {reader: round(n / (asked_ or 1), 4) for reader, n in right.items()},
            "above_chance": round((max(right.values()) - chance) / (asked_ or 1), 4),
        }

    def as_stats(self, samples: int) -> dict[str, Any]:
        """What stats.json says of the questions of a dataset of so many samples (docs/report.md lists the fields)."""
        sizes = sorted({options for options, _ in self.letters})
        return {
            "total": self.total,
            "per_sample": round(self.total / max(samples, 1), 2),
            "samples_by_questions": {str(n): count for n, count in sorted(self.samples.items())},
            "kinds": dict(sorted(self.kinds.items())),
            "groups": dict(sorted(self.groups.items())),
            "attributes": dict(sorted(self.attributes.items())),
            "sources": dict(sorted(self.sources.items())),
            "verdicts": {v: self.verdicts[v] for v in ("supported", "contradicted", "unverified")},
            "checks": {name: {v: self.checks[name, v] for v in ("pass", "fail", "unchecked")} for name in CHECKS},
            "letters": {str(size): {a: self.letters[size, a] for a in LETTERS[:size]} for size in sizes},
            "not_visible": self.not_visible,
            "blind": self.blind(),
        }


def taken_for(qa: Mapping[str, Any]) -> dict[str, int]:
    """By blind reader: a number that two questions share if it takes them for the same."""
    form = form_of(qa)
    return {
        "form": number(form),
        "wording": number(form, qa["question"]),
        "attribute": number(qa["attribute"], qa["kind"]),
    }


def form_of(qa: Mapping[str, Any]) -> str:
    """What a reader without the picture can take for the same question."""
    if qa["kind"] == "true_false":
        fact = asked(qa["question"], qa["attribute"])
        return "=".join(fact) if fact else qa["question"].lower()
    return "|".join(sorted(option.lower() for option in qa["options"]))


def number(*words: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest(), "big")
