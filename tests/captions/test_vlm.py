"""A model's captions: what a step that fails costs, what a text over the limit becomes, what the provenance says was removed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "llm"))
from said import evidence
from scripted_server import Reply, ScriptedServer, completion

from unif2ace_data.captions.check import judged, without_contradicted
from unif2ace_data.captions.vlm import Stage, Subject, Written, within, write_caption
from unif2ace_data.llm import room as room_module
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.openai_server import OpenAIServer
from unif2ace_data.llm.prompts import load_prompts
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.recipe import Captions, Llm

KNOWN = [evidence("smile", "broad"), evidence("glasses", "none")]
CAPTION = "A person with a broad smile wears eyeglasses. Earrings catch the light."


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "PAUSE", 0.01)


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, Reply]], ScriptedServer]]:
    """A server that writes CAPTION, lists no claims, and answers some stages otherwise."""
    servers: list[ScriptedServer] = []

    def start(faults: dict[str, Reply]) -> ScriptedServer:
        def reply(body: dict[str, Any], number: int) -> Reply:
            stage = body["response_format"]["json_schema"]["name"]
            usual = {"claims": []} if stage == "claims" else {"caption": CAPTION}
            return faults.get(stage, completion(orjson.dumps(usual).decode()))

        servers.append(ScriptedServer(reply).start())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def caption(server: ScriptedServer, folder: Path, **settings: Any) -> Written | AnswerFailed:
    llm = Llm(model="tiny-vlm", base_url=server.base_url, attempts=2, wait_s=5)
    stage = Stage("openai", load_prompts(None), Captions(engine="openai", **settings), 0.0, 0)
    journal = Journal(folder / "journal.sqlite")
    results: list[Written | AnswerFailed] = []

    async def work(room: EngineRoom, subject: Subject) -> Written:
        return await write_caption(room, subject, stage)

    run_rows(
        EngineRoom(OpenAIServer(llm), journal, llm), [Subject("key", b"jpeg", KNOWN, [])], work,
        lambda subject, result: results.append(result),
    )  # fmt: skip
    journal.close()
    return results[0]


FAULTS: dict[str, Reply] = {"unusable": completion("nothing of use"), "technical": (500, {"error": "boom"}, {})}


@pytest.mark.parametrize("step", ["claims", "repair", "recheck"])
def test_a_step_that_the_model_cannot_do_is_left_out(serve: Any, tmp_path: Path, step: str) -> None:
    written = caption(serve({step: FAULTS["unusable"]}), tmp_path, recheck=True)
    assert isinstance(written, Written)
    assert "broad smile" in written.caption and "eyeglasses" not in written.caption
    assert "glasses=eyeglasses" in written.captioner.removed


@pytest.mark.parametrize("step", ["draft", "refine", "claims", "repair", "recheck"])
def test_a_step_that_fails_for_a_technical_reason_fails_the_row_which_is_asked_again(
    serve: Any, tmp_path: Path, step: str
) -> None:
    failed = caption(serve({step: FAULTS["technical"]}), tmp_path, recheck=True)
    assert isinstance(failed, AnswerFailed) and failed.stage == step and "500: boom (2 times)" in str(failed)
    yes = {"recheck": completion('{"answers": ["yes"]}')}
    assert isinstance(caption(serve(yes), tmp_path, recheck=True), Written)


def test_no_caption_is_longer_than_the_recipe_allows(serve: Any, tmp_path: Path) -> None:
    long = "A person with a broad smile looks up. " + "The light is soft and even on the face. " * 40
    server = serve({"draft": completion(long), "refine": completion(orjson.dumps({"caption": long}).decode())})
    written = caption(server, tmp_path, max_chars=120)
    assert isinstance(written, Written) and 80 < len(written.caption) <= 120 and written.caption.endswith("face.")


def test_a_text_over_the_limit_ends_with_a_whole_sentence_or_else_a_whole_word() -> None:
    assert within("One. Two is here. Three.", 20) == "One. Two is here."
    assert within("One. Two is here. Three.", 17) == "One. Two is here."
    assert within("A face, a brow and a chin without end", 16) == "A face, a brow."
    assert within("Short.", 80) == "Short."


def test_what_a_later_pass_of_the_scissors_cuts_is_named_too() -> None:
    text = "A person without eyeglasses or a broad smile."
    known = [KNOWN[0]]
    left, claims, cut = without_contradicted(text, judged(text, [], known), known)
    assert "smile!=broad" in cut and all(c.verdict != "contradicted" for c in claims) and "broad" not in left
