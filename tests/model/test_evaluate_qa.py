"""Questions scored: an oracle gets all, a model without eyes gains nothing, and what counts as an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_blind import choice, openly, tf

from unif2ace_data.errors import UserError
from unif2ace_model.blind import BlindReader
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.data import Record
from unif2ace_model.evaluate_qa import Answered, Asked, mean_of, normalised, qa_report, questions_of, says
from unif2ace_model.pictures import EXCHANGES, EncodedPictures, Exchanged, exchanges, others

QUESTIONS = [
    tf("yes"), tf("no"), choice(["open", "closed"], 1), choice(["a", "b", "c", "d"], 2), openly("closed"), tf("no"),
]  # fmt: skip
ASKED = [Asked(picture, qa) for picture, qa in enumerate(QUESTIONS)]


def given(right: list[int], nll: float = 2.0) -> Answered:
    said = [one.qa["answer"] for one in ASKED]
    return Answered(np.array(right, float), np.full(len(right), nll), np.full(len(right), 4), said)


def report(real: list[int], exchanged: list[int] | None) -> dict[str, Any]:
    blind = BlindReader(QUESTIONS)
    other = given(exchanged, 3.0) if exchanged else None
    return qa_report(ASKED, given(real), other, blind, Bootstrap(list(range(6))))


def test_an_oracle_gets_all_of_it_and_gains_what_the_baseline_leaves() -> None:
    found = report([1] * 6, [0] * 6)
    assert found["all"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    majority = found["all"]["majority"]["value"]
    assert found["all"]["gain"]["value"] == pytest.approx(1 - majority, abs=1e-4)
    assert found["all"]["exchanged"]["value"] == 0
    assert found["all"]["exchanged_gain"]["value"] == pytest.approx(-majority, abs=1e-4)
    assert found["all"]["nll"]["value"] == 0.5  # 2 nats for 4 tokens
    assert found["all"]["exchanged_nll"]["value"] == 0.75


def test_figures_by_kind_group_and_attribute_are_of_those_questions() -> None:
    found = report([1, 0, 1, 0, 0, 1], None)
    assert found["by_kind"]["true_false"]["accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["by_kind"]["true_false"]["questions"] == 3
    assert found["by_kind"]["open"]["accuracy"]["value"] == 0
    assert found["by_group"]["action"]["questions"] == 3
    assert found["by_attribute"]["glasses"]["chance"] == 0.5
    assert found["with_options"]["questions"] == 5
    assert found["with_options"]["accuracy"]["value"] == 0.6
    assert "exchanged" not in found["all"]
    assert found["letters"] == {"B": 1, "C": 1}  # of the choices alone


def test_an_open_answer_counts_by_the_value_that_it_states() -> None:
    qa = openly("closed")
    assert says("The mouth is closed.", qa)
    assert says("Closed", qa)
    assert says("The lips are shut: the mouth is closed", qa)
    assert not says("The mouth is open.", qa)
    assert not says("", qa)
    assert not says("closed or open", qa)
    hidden = openly("not_visible") | {"answer": "This cannot be seen: the mouth is covered."}
    assert says("This cannot be seen.", hidden)
    unknown = qa | {"attribute": "earlobe", "value": "attached", "answer": "The earlobe is attached."}
    assert says("the earlobe is attached", unknown)
    assert not says("attached", unknown)
    assert normalised("The  Mouth, is a closed one!") == "mouth is closed one"


def test_a_split_without_questions_names_the_command() -> None:
    record = Record("k", "test", "A caption.", [], {}, 0, 0)
    with pytest.raises(UserError, match="qa-gen"):
        questions_of([record])


def test_exchanged_pictures_are_another_person_s_and_each_is_taken_once() -> None:
    people = [0, 0, 0, 1, 2, 2, 3, 4]
    instead = others(people)
    assert sorted(instead) == list(range(8))
    assert all(people[a] != people[b] for a, b in enumerate(instead))
    assert others(people) == instead
    pictures = EncodedPictures(np.arange(16).reshape(8, 2), {"face": np.arange(8, dtype=np.float32)[:, None]})
    exchanged = Exchanged(pictures, instead)
    assert exchanged.codes(3).tolist() == pictures.codes(instead[3]).tolist()
    face = exchanged.features("face", [3, 0])
    assert face is not None and face[:, 0].tolist() == [instead[3], instead[0]]
    assert exchanged.features("clip", [3]) is None


def test_several_exchanges_differ_and_their_figures_are_averaged() -> None:
    people = list(range(20))
    found = exchanges(people)
    assert len(found) == EXCHANGES and len({tuple(instead) for instead in found}) == EXCHANGES
    assert exchanges([7, 7]) == []
    mean = mean_of([given([1, 0, 0, 1, 0, 0], 2.0), given([1, 1, 0, 0, 0, 0], 4.0)])
    assert mean.right.tolist() == [1, 0.5, 0, 0.5, 0, 0] and mean.nll.tolist() == [3.0] * 6
