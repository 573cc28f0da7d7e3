"""Questions: how many a model answers rightly, and how likely it finds the right answers.

    M questions

A question with options is answered by the option that the model finds likeliest: the sum of log p over its words and its
end, given picture and question (our choice: the options compete as answers, as the training has them; no letter is
asked for). An open one by what the model says: right where that states the value that the question is filed under, or is
the answer word for word. Beside each accuracy stands what a reader without the picture reaches (blind.py), and what the
same model reaches when every picture is exchanged for another person's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase, punctuation
from typing import Any

import numpy as np

from unif2ace_data.errors import UserError
from unif2ace_data.qa.llm import means
from unif2ace_data.taxonomy import load_taxonomy
from unif2ace_model.answering import Ask, answer_nll, spoken_answers
from unif2ace_model.blind import BlindReader, baseline, chance_of
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.data import Record
from unif2ace_model.pictures import Exchanged, Pictures
from unif2ace_model.trained import TrainedModel

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question (QA.model_dump()) about the picture of this number."""

    picture: int
    qa: Mapping[str, Any]

    @property
    def right(self) -> int:
        """Place of the right option, -1 for an open question."""
        return ascii_uppercase.index(self.qa["letter"]) if self.qa["options"] else -1


@dataclass(slots=True)
class Answered:
    """right (M,) 0 or 1; nll (M,) nats of the right answer and tokens (M,) of it; said: the option taken, or the words."""

    right: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray
    said: list[str]


def questions_of(records: Sequence[Record]) -> list[Asked]:
    """Every question of these samples. Raises UserError where there are none."""
    asked = [Asked(place, qa) for place, record in enumerate(records) for qa in record.qa]
    if not asked:
        raise UserError(
            "the split has no questions: run `unif2ace-data qa-gen` on the dataset first, "
            "or leave them out with --only captions,nelbo,generation"
        )
    return asked


# ------------------------------------------------------------------ answering


def answered(
    trained: TrainedModel, pictures: Pictures, asked: Sequence[Asked], tick: Tick = lambda n: None
) -> Answered:
    """The model's answers. `tick` is called with the number of sequences that are done, `sequences(asked)` in all."""
    asks: list[Ask] = []
    first: list[int] = []
    for one in asked:
        first.append(len(asks))
        texts = one.qa["options"] or [one.qa["answer"]]
        asks += [Ask(one.picture, one.qa["question"], text) for text in texts]
    nll, tokens = answer_nll(trained, pictures, asks, tick)
    openly = [i for i, one in enumerate(asked) if not one.qa["options"]]
    prompts = [Ask(asked[i].picture, asked[i].qa["question"]) for i in openly]
    words = dict(zip(openly, spoken_answers(trained, pictures, prompts, tick=tick), strict=True))
    found = Answered(np.zeros(len(asked)), np.zeros(len(asked)), np.zeros(len(asked), np.int64), [])
    for i, one in enumerate(asked):
        options = one.qa["options"]
        place = first[i] + max(0, one.right)
        found.nll[i], found.tokens[i] = nll[place], tokens[place]
        if options:
            taken = int(np.argmin(nll[first[i] : first[i] + len(options)]))
            found.said.append(options[taken])
            found.right[i] = taken == one.right
        else:
            found.said.append(words[i])
            found.right[i] = says(words[i], one.qa)
    return found


def sequences(asked: Sequence[Asked]) -> int:
    """How many sequences `answered` takes through the model."""
    return sum(len(one.qa["options"]) or 2 for one in asked)


def says(words: str, qa: Mapping[str, Any]) -> bool:
    """Whether the words give the answer of an open question: the value, however it is put, or the same words."""
    if normalised(words) == normalised(qa["answer"]):
        return True
    return qa["attribute"] in load_taxonomy() and bool(qa["value"]) and means(words, qa["attribute"]) == qa["value"]


def normalised(text: str) -> str:
    """Without case, articles, punctuation and repeated blanks, as question answering is usually scored."""
    bare = "".join(c for c in text.lower() if c not in punctuation)
    return " ".join(ARTICLES.sub(" ", bare).split())


# ------------------------------------------------------------------ the report


def qa_report(
    asked: Sequence[Asked],
    real: Answered,
    exchanged: Answered | None,
    blind: BlindReader | None,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Accuracies with intervals, in all and by kind, group and attribute (docs/evaluation.md lists the fields)."""
    who = np.array([one.picture for one in asked])
    guessed, readers = baseline(blind, [one.qa for one in asked]) if blind else (None, {})
    chance = np.array([chance_of(one.qa) for one in asked])

    def row(rows: np.ndarray) -> dict[str, Any]:
        mine = who[rows]
        found: dict[str, Any] = {
            "questions": len(rows),
            "accuracy": bootstrap.ratio(mine, real.right[rows]).as_json(),
            "chance": round(float(chance[rows].mean()), 5),
            "nll": bootstrap.ratio(mine, real.nll[rows], real.tokens[rows]).as_json(),
        }
        if guessed is not None:
            found["majority"] = bootstrap.ratio(mine, guessed[rows]).as_json()
            found["gain"] = bootstrap.ratio(mine, (real.right - guessed)[rows]).as_json()
        if exchanged is not None:
            found["exchanged"] = bootstrap.ratio(mine, exchanged.right[rows]).as_json()
            found["exchanged_nll"] = bootstrap.ratio(mine, exchanged.nll[rows], exchanged.tokens[rows]).as_json()
            if guessed is not None:
                found["exchanged_gain"] = bootstrap.ratio(mine, (exchanged.right - guessed)[rows]).as_json()
        return found

    def split_by(names: Iterable[str]) -> dict[str, Any]:
        places: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(name, []).append(place)
        return {name: row(np.array(places[name])) for name in sorted(places)}

    with_options = np.array([i for i, one in enumerate(asked) if one.qa["options"]], np.int64)
    return {
        "scoring": "options by likelihood of their words; open questions by the value stated",
        "all": row(np.arange(len(asked))),
        "with_options": row(with_options) if len(with_options) else None,
        "by_kind": split_by(one.qa["kind"] for one in asked),
        "by_group": split_by(one.qa["category"] for one in asked),
        "by_attribute": split_by(one.qa["attribute"] for one in asked),
        "readers": readers,
        "letters": dict(sorted(Counter(taken_letters(asked, real)).items())),
    }


def taken_letters(asked: Sequence[Asked], found: Answered) -> list[str]:
    """The letters of the options that were taken in choices: a model that looks takes each about equally often."""
    return [
        ascii_uppercase[one.qa["options"].index(said)]
        for one, said in zip(asked, found.said, strict=True)
        if one.qa["kind"].startswith("choice")
    ]


def evaluate_qa(
    trained: TrainedModel,
    pictures: Pictures,
    asked: Sequence[Asked],
    blind: BlindReader | None,
    bootstrap: Bootstrap,
    controls: Sequence[list[int]],
    tick: Tick = lambda n: None,
) -> tuple[dict[str, Any], Answered]:
    """The report and the answers. `controls`: whose picture each sample gets, in so many exchanges; what they
    reach is averaged, since one alone depends on whom each meets. None: no control."""
    real = answered(trained, pictures, asked, tick)
    exchanged = [answered(trained, Exchanged(pictures, instead), asked, tick) for instead in controls]
    return qa_report(asked, real, mean_of(exchanged) if exchanged else None, blind, bootstrap), real


def mean_of(found: Sequence[Answered]) -> Answered:
    """What several exchanges reach on average; the words are those of the first."""
    right, nll = (np.mean([getattr(one, name) for one in found], axis=0) for name in ("right", "nll"))
    return Answered(right, nll, found[0].tokens, found[0].said)
