"""`--dry-run` of what a model is asked: requests, tokens and hours, before anything is paid for.

Every row's chain of requests is replayed from the journal; where the first answer is missing, the rest of the chain counts
as requests to come. Nothing is asked.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Answer, Engine, Refused, Request, keyed_model
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.room import EngineRoom
from unif2ace_data.recipe import Llm

Item = TypeVar("Item")

CHARS_PER_TOKEN = 4.0  # our choice: English and JSON under common tokenizers
IMAGE_PATCH = 28  # our choice: pixels a side of one image token, as Qwen2.5-VL has them
USED = 1 / 6  # our choice: share of max_tokens that an answer uses; the bounds are generous
PROSE = 500  # characters of a caption that is not written yet, as later prompts will hold it
SUMS = ("requests", "prompt_tokens", "completion_tokens")
CAPTION_STAGES = ("draft", "refine", "claims")
QA_STAGES = ("qa", "qa_derive", "qa_blind")


class NobodyAnswers:
    """An engine that notes what it would be asked."""

    def __init__(self, engine: Engine) -> None:
        self.model, self.revision, self.most = engine.model, engine.revision, 1
        self.requests: list[Request] = []

    async def open(self) -> None:
        return

    async def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        raise Refused("dry run")

    async def close(self) -> None:
        return


def estimate(
    journal: Path,
    engine: Engine,
    llm: Llm,
    items: Iterable[Item],
    work: Callable[[EngineRoom, Item], Awaitable[Any]],
    stages: tuple[str, ...],
    rate: float,
) -> dict[str, Any]:
    """Requests and tokens by stage that `work` on `items` still needs, and the hours at `rate` requests a second.

    The `stages` behind the first missing one are counted with the size of a prompt like it; repairs, re-checks and repeated
    attempts are not foreseen.
    """
    nobody = NobodyAnswers(engine)
    folder = tempfile.TemporaryDirectory()  # where there is no journal yet, a dry run makes none
    book = Journal(journal if journal.is_file() else Path(folder.name) / "journal.sqlite")
    try:
        means = book.means(keyed_model(engine.model))
        run_rows(EngineRoom(nobody, book, llm), items, work, lambda item, result: None)
    finally:
        book.close()
        folder.cleanup()
    found: dict[str, dict[str, Any]] = {}
    for request in nobody.requests:
        later = stages[stages.index(request.stage) + 1 :] if request.stage in stages else ()
        for place, stage in enumerate((request.stage, *later)):
            entry = found.setdefault(stage, {"requests": 0, "prompt_tokens": 0.0, "completion_tokens": 0.0})
            known = means.get(stage)
            entry["requests"] += 1
            entry["prompt_tokens"] += known[1] if known else prompt_tokens(request, with_image=place == 0)
            entry["completion_tokens"] += known[2] if known else request.max_tokens * USED
    rows = {
        stage: {name: round(value) for name, value in entry.items()}
        for stage, entry in sorted(found.items(), key=order(stages))
    }
    return summed(rows, rate)


def summed(stages: dict[str, dict[str, int]], rate: float) -> dict[str, Any]:
    total = {name: sum(row[name] for row in stages.values()) for name in SUMS}
    return {"stages": stages, **total, "rate": rate, "hours": round(total["requests"] / rate / 3600, 2)}


def scaled_plan(plan: dict[str, Any], times: int) -> dict[str, Any]:
    """The estimate for `times` as many rows."""
    stages = {stage: {name: times * value for name, value in row.items()} for stage, row in plan["stages"].items()}
    return summed(stages, plan["rate"])


def order(stages: tuple[str, ...]) -> Callable[[tuple[str, Any]], int]:
    return lambda pair: stages.index(pair[0]) if pair[0] in stages else len(stages)


def prompt_tokens(request: Request, with_image: bool) -> float:
    tokens = (len(request.system) + len(request.user) + (0 if with_image else PROSE)) / CHARS_PER_TOKEN
    if with_image and request.image is not None:
        width, height = Image.open(io.BytesIO(request.image)).size
        tokens += (width / IMAGE_PATCH) * (height / IMAGE_PATCH)
    return tokens
