"""`qa-gen` with a model on the other side of a real HTTP connection: what stays, what goes, what fails, what is said."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "llm"))
from fluent_model import fluent
from scripted_server import HANG, Reply, ScriptedServer, completion

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.run.private import recipe_at
from unif2ace_data.run.qa_gen import qa_gen
from unif2ace_data.run.recaption import recaption
from unif2ace_data.schema import QA, Sample
from unif2ace_data.shards import read_index, read_samples
from unif2ace_data.verify import verify

DISTINCT = ["subjects=adults", "duplicates.perceptual=null", "duplicates.near_identical=false"]
MODEL = "openai:tiny-vlm"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(fluent).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def grounded(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs with grounded captions. Copy before changing."""
    folder = tmp_path_factory.mktemp("asked")
    few = folder / "raw"
    few.mkdir()
    for path in sorted(photos.iterdir())[:12]:
        shutil.copy(path, few)
    recipe = load_recipe("embedded", DISTINCT).model_copy(update={"sources": [SourceSpec(path=str(few))]})
    build(recipe, folder / "shards", quiet=True)
    return folder


@pytest.fixture
def dataset(grounded: Path, tmp_path: Path) -> Path:
    shutil.copytree(grounded, tmp_path, dirs_exist_ok=True)
    return tmp_path / "shards"


def asking(out: Path, server: ScriptedServer, *settings: str) -> Recipe:
    model = ["qa.engine=openai", "llm.model=tiny-vlm", f"llm.base_url={server.base_url}", "llm.wait_s=5"]
    return recipe_at(out, [*model, *settings])


def captioning(out: Path, server: ScriptedServer) -> Recipe:
    return asking(out, server, "captions.engine=openai", "captions.max_chars=400")


def samples(out: Path) -> dict[str, Sample]:
    return {
        key: Sample.model_validate_json(files["json"])
        for shard in read_index(out)["shards"]
        for key, files in read_samples(out / shard["name"])
    }


def questions_as_bytes(out: Path, by_model: bool) -> dict[str, list[bytes]]:
    """By sample the very bytes of its questions that a model wrote, or of those that the templates asked."""
    found = {}
    for shard in read_index(out)["shards"]:
        for key, files in read_samples(out / shard["name"]):
            listed = orjson.loads(files["json"])["qa"]
            found[key] = [orjson.dumps(q) for q in listed if (q["source"] == MODEL) == by_model]
            assert all(q in files["json"] for q in found[key])
    return found


def tars(out: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.tar")}


def stage(body: dict[str, Any]) -> str:
    return str(body["response_format"]["json_schema"]["name"])


def failing(name: str, reply: Reply, times: int) -> Callable[[dict[str, Any], int], Reply]:
    """The fluent model, but the requests of one stage about the first `times` samples get this reply."""
    victims: list[str] = []

    def answer(body: dict[str, Any], number: int) -> Reply:
        text = body["messages"][1]["content"][-1]["text"]
        if stage(body) == name and (text in victims or len(victims) < times):
            victims.extend([] if text in victims else [text])
            return reply
        return fluent(body)

    return answer


# ------------------------------------------------------------------ what rests on what


def test_another_caption_takes_the_models_questions_and_leaves_the_templates_byte_for_byte(
    dataset: Path, server: ScriptedServer
) -> None:
    qa_gen(dataset, asking(dataset, server), quiet=True)
    evidence, models = questions_as_bytes(dataset, False), questions_as_bytes(dataset, True)
    whole = tars(dataset)
    lost = sum(map(len, models.values()))
    assert lost and all(evidence.values())
    report, _ = recaption(dataset, captioning(dataset, server), quiet=True)
    assert questions_as_bytes(dataset, False) == evidence
    assert not any(questions_as_bytes(dataset, True).values()) and verify(dataset).problems == []
    assert any(note.startswith(f"{lost} questions went with the captions") for note in report.notes)
    recaption(dataset, recipe_at(dataset, ["captions.engine=grounded"]), quiet=True)  # the old captions: all is back
    assert tars(dataset) == whole


def test_questions_from_evidence_do_not_know_the_caption(dataset: Path, server: ScriptedServer) -> None:
    qa_gen(dataset, recipe_at(dataset), quiet=True)
    before = questions_as_bytes(dataset, False)
    recaption(dataset, captioning(dataset, server), quiet=True)
    assert questions_as_bytes(dataset, False) == before
    qa_gen(dataset, recipe_at(dataset, ["qa.engine=templates"]), quiet=True)
    assert questions_as_bytes(dataset, False) == before


def test_asked_again_after_another_caption_every_sample_has_eight(dataset: Path, server: ScriptedServer) -> None:
    qa_gen(dataset, asking(dataset, server), quiet=True)
    recaption(dataset, captioning(dataset, server), quiet=True)
    qa_gen(dataset, asking(dataset, server), quiet=True)
    assert all(len(sample.qa) == 8 for sample in samples(dataset).values())


# ------------------------------------------------------------------ what fails


@pytest.mark.parametrize("name", ["qa", "qa_derive", "qa_blind"])
@pytest.mark.parametrize(
    ("reply", "why"), [(HANG, "no answer within"), ((500, {}, {}), "500"), ((400, {}, {}), "400")], ids=["hang", "500", "400"]
)  # fmt: skip
def test_a_technical_failure_is_a_failed_row_that_the_next_run_asks_again(
    dataset: Path, server: ScriptedServer, name: str, reply: Reply, why: str
) -> None:
    qa_gen(dataset, recipe_at(dataset), quiet=True)
    before = {key: sample.qa for key, sample in samples(dataset).items()}
    server.reply = failing(name, reply, 1)
    recipe = asking(dataset, server, "llm.timeout_s=0.5", "llm.attempts=2", "alarm.max_failed=0.9")
    done = qa_gen(dataset, recipe, quiet=True)
    failed = done.work.failed  # more than one where samples are asked the very same: then it is one request
    assert failed and all(said.startswith(f"{name}: ") and why in said for said in failed.values())
    assert any(f"{len(failed)} samples failed and keep the questions" in note for note in done.work.notes)
    assert all(samples(dataset)[key].qa == before[key] for key in failed) and verify(dataset).problems == []
    server.reply, asked = fluent, len(server.bodies)
    assert qa_gen(dataset, recipe, quiet=True).work.failed == {}
    assert stage(server.bodies[asked]) == name and len(server.bodies) - asked <= 3  # nothing else is asked again
    assert all(any(q.source == MODEL for q in samples(dataset)[key].qa) for key in failed)


def test_more_failures_than_the_alarm_allows_change_nothing(dataset: Path, server: ScriptedServer) -> None:
    before = tars(dataset)
    server.reply = failing("qa_blind", (500, {}, {}), 4)
    with pytest.raises(
        UserError, match=r"the questions of \d of 12 samples failed, more than alarm.max_failed"
    ) as caught:
        qa_gen(dataset, asking(dataset, server, "llm.attempts=1"), quiet=True)
    assert caught.value.exit_code == 1 and tars(dataset) == before


@pytest.mark.parametrize("name", ["qa", "qa_derive", "qa_blind"])
def test_answers_that_cannot_be_used_leave_the_sample_to_the_templates(
    dataset: Path, server: ScriptedServer, name: str
) -> None:
    server.reply = failing(name, completion("I would rather not."), 1)
    done = qa_gen(dataset, asking(dataset, server), quiet=True)
    assert done.work.failed == {} and done.unusable == (name == "qa")
    assert all(len(sample.qa) == 8 for sample in samples(dataset).values())
    without = [sample for sample in samples(dataset).values() if not any(q.source == MODEL for q in sample.qa)]
    assert without


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("No questions today.", "(unusable)"),
        (orjson.dumps({"questions": [{"kind": "open"}] * 3}).decode(), "(malformed)"),
        (orjson.dumps({"questions": [{"kind": "open", "states": "mouth=closed", "question": "How is the mouth held?", "options": [], "answer": "The hair is gray."}]}).decode(), "(value_stated)"),
    ],
)  # fmt: skip
def test_a_model_of_which_nothing_is_left_ends_the_run_with_the_reason(
    dataset: Path, server: ScriptedServer, answer: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tars(dataset)
    server.reply = lambda body, number: completion(answer)
    with pytest.raises(UserError, match="not one question by tiny-vlm can be published") as caught:
        qa_gen(dataset, asking(dataset, server), quiet=True)
    assert reason in caught.value.message and "--engine templates" in caught.value.message
    assert tars(dataset) == before
    done = qa_gen(dataset, asking(dataset, server, "alarm.max_failed=1"), quiet=True)  # who insists gets the templates'
    assert done.from_model == 0 and done.questions == 96
    assert "warning: not one question" in capsys.readouterr().err


# ------------------------------------------------------------------ the same bytes


def test_the_order_of_answers_changes_nothing(dataset: Path, server: ScriptedServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(dataset.parent / "shards", other / "shards")
    shutil.copytree(dataset.parent / "shards.work", other / "shards.work")
    qa_gen(dataset, asking(dataset, server, "llm.in_flight=1"), quiet=True)
    late = ScriptedServer(fluent).start()
    try:
        late.delay = 0.01
        qa_gen(other / "shards", asking(other / "shards", late, "llm.in_flight=12"), quiet=True)
    finally:
        late.close()
    assert tars(other / "shards") == tars(dataset)


def test_every_published_question_of_a_model_states_its_value(dataset: Path, server: ScriptedServer) -> None:
    qa_gen(dataset, asking(dataset, server), quiet=True)
    asked: list[QA] = [q for sample in samples(dataset).values() for q in sample.qa]
    assert {q.checks.value_stated for q in asked} == {"pass"} and {MODEL} < {q.source for q in asked}
