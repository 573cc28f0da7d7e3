"""Questions from evidence alone, weighed: number, letters, agreement with the evidence, repeats, and blind readers.

    unif2ace-data build --src PHOTOS --out shards/ --subjects adults
    python benchmarks/qa_portraits.py --shards shards/

Samples that have questions are weighed as they are, others get theirs from the template engine here; nothing is written.
Beside the baseline that `stats` prints (the commonest answer of a form, counted on the very questions it answers), two
readers learn from nine tenths of the samples and answer the last: one by form, one by how often each option was right
where it stood. Exit code 1 where one of the bounds does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from unif2ace_data.qa.checks import same_as, words
from unif2ace_data.qa.counts import QaCounts, form_of
from unif2ace_data.qa.generate import generate
from unif2ace_data.qa.phrasings import asked, stated
from unif2ace_data.recipe import Qa
from unif2ace_data.release.questions import question_lines, question_tables
from unif2ace_data.release.read import parse_sample, sample_records, shard_paths
from unif2ace_data.schema import NOT_VISIBLE, QA, Sample
from unif2ace_data.taxonomy import load_taxonomy

FOLDS = 10
POINTS = 10.0  # issue: points above chance that a blind baseline may reach
LETTER_POINTS = 2.0  # issue: points between a letter's share and an even one


def questions(out: Path, settings: Qa) -> Iterator[tuple[Sample, list[QA]]]:
    samples = {
        record["uid"]: parse_sample(shard, record["uid"], orjson.dumps(record))
        for shard in shard_paths(out)
        for record in sample_records(shard)
    }
    made = {} if any(sample.qa for sample in samples.values()) else dict(generate(out, settings))
    for key, sample in samples.items():
        yield sample, made.get(key, sample.qa)


def wrong(sample: Sample, qa: QA) -> bool:
    """Whether the answer or an option is not what the validated records say, by plain comparison of values."""
    truth = {a.name: a.value for a in sample.attributes if a.validated}
    taxonomy = load_taxonomy()
    hides = any(truth.get(name) in values for name, values in taxonomy[qa.attribute].hidden_by.items())
    if qa.kind == "true_false":
        fact = asked(qa.question, qa.attribute)
        return fact is None or (truth[fact[0]] == fact[1]) != (qa.answer == "yes")
    if qa.kind == "open":
        return not hides if qa.value == NOT_VISIBLE else truth[qa.attribute] != qa.value
    for option in qa.options:
        holds = all(hides if v == NOT_VISIBLE else truth[n] == v for n, v in stated(option, qa.attribute))
        if holds != (option == qa.answer):
            return True
    return qa.options["ABCD".index(qa.letter)] != qa.answer


def repeats(asked_: list[QA]) -> int:
    """Pairs of questions of one sample that ask the same, or of which one has the other's words and options."""
    pairs = itertools.combinations(asked_, 2)
    return sum(
        same_as(a) == same_as(b) or (words(a.question) == words(b.question) and sorted(a.options) == sorted(b.options))
        for a, b in pairs
    )


def learned(found: list[tuple[Sample, list[QA]]], keys: Callable[[QA], list[str]]) -> float:
    """Share right of a reader that scores each option by the answers seen under `keys` in the other folds."""
    fold = {sample.uid: int(sample.uid[:8], 16) % FOLDS for sample, _ in found}
    hits, asked_ = 0.0, 0
    for held in range(FOLDS):
        right: Counter[tuple[str, str]] = Counter()
        shown: Counter[tuple[str, str]] = Counter()
        for qa in (q for s, own in found for q in own if q.options and fold[s.uid] != held):
            for key, option in itertools.product(keys(qa), qa.options):
                shown[key, option] += 1
                right[key, option] += option == qa.answer
        for qa in (q for s, own in found for q in own if q.options and fold[s.uid] == held):
            scores = [
                sum((right[key, option] + 0.5) / (shown[key, option] + 1) for key in keys(qa)) for option in qa.options
            ]
            best = [option for option, score in zip(qa.options, scores, strict=True) if score >= max(scores) - 1e-9]
            hits += (qa.answer in best) / len(best)
            asked_ += 1
    return hits / (asked_ or 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    out = parser.parse_args().shards
    settings = Qa()
    found = list(questions(out, settings))
    counts = QaCounts()
    for _, own in found:
        counts.add([qa.model_dump() for qa in own])
    stats = counts.as_stats(len(found))
    print("\n".join(question_lines(stats)))
    for title, rows, _ in question_tables(stats):
        print(title, *("  " + "  ".join(row) for row in rows), sep="\n")
    print("samples by questions:", stats["samples_by_questions"])
    offered = sum("cannot be seen" in qa.options for _, own in found for qa in own)
    print(f"'cannot be seen' offered {offered} times, the answer {stats['not_visible']} times")
    chance = stats["blind"]["chance"]
    by_form = learned(found, lambda qa: [form_of(qa.model_dump())])
    by_option = learned(found, lambda qa: [qa.kind])
    print(f"learned on other samples: by form {by_form:.1%}, by option {by_option:.1%} (chance {chance:.1%})")
    far = max(
        abs(100 * n / sum(letters.values()) - 100 / len(letters))
        for letters in stats["letters"].values()
        for n in letters.values()
    )
    above = 100 * max(stats["blind"]["above_chance"], by_form - chance, by_option - chance)
    disagree = sum(wrong(sample, qa) for sample, own in found for qa in own)
    failed = sum(n["fail"] for n in stats["checks"].values())
    bounds = {
        f"{settings.per_sample} questions in every sample": all(len(own) == settings.per_sample for _, own in found),
        f"answers or options that disagree with the evidence: {disagree}": disagree == 0,
        f"repeats within a sample: {(again := sum(repeats(own) for _, own in found))}": again == 0,
        f"published checks that fail: {failed}": failed == 0,
        f"letters: at most {far:.1f} points from even": far <= LETTER_POINTS,
        f"the best blind reader: {above:.1f} points above chance": above <= POINTS,
    }
    for line, holds in bounds.items():
        print("holds " if holds else "BROKEN", line)
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
