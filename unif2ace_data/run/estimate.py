"""`--dry-run` of what a model is asked: requests, tokens and hours, before anything is paid for.

Every row's chain of requests is replayed from the journal; where the first answer is missing, the rest of the chain counts
as requests to come. Repairs and re-checks are foreseen as often as the journal has them. Nothing is asked.
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
NOT_CHAINED: dict[tuple[str, ...], list[str]] = {
    CAPTION_STAGES: ["repair", "recheck"],
    QA_STAGES: [],
}  # asked of some rows only

Means = dict[str, tuple[int, float, float, float]]  # by stage: answers, prompt tokens, completion tokens, seconds


class NobodyAnswers:
    """An engine that is told what it would be asked, and hands it on."""

    def __init__(self, engine: Engine, noted: Callable[[Request], None]) -> None:
        self.model, self.revision, self.most = engine.model, engine.revision, 1
        self.noted = noted

    async def open(self) -> None:
        return

    async def answer(self, request: Request) -> Answer:
        self.noted(request)
        raise Refused("dry run")

    async def close(self) -> None:
        return

    def servers(self) -> list[NobodyAnswers]:
        return [self]


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

    The `stages` behind the first missing one are counted with the size of a prompt like it. `not_foreseen` names what
    comes on top: requests that nothing in the journal tells of.
    """
    found: dict[str, dict[str, float]] = {}

    def note(request: Request) -> None:
        later = stages[stages.index(request.stage) + 1 :] if request.stage in stages else ()
        for place, stage in enumerate((request.stage, *later)):
            known = means.get(stage)
            add(
                found, stage, 1,
                known[1] if known else prompt_tokens(request, with_image=place == 0),
                known[2] if known else request.max_tokens * USED,
            )  # fmt: skip

    folder = tempfile.TemporaryDirectory()  # where there is no journal yet, a dry run makes none
    book = Journal(journal if journal.is_file() else Path(folder.name) / "journal.sqlite")
    try:
        means = book.means(keyed_model(engine.model))
        run_rows(EngineRoom(NobodyAnswers(engine, note), book, llm), items, work, lambda item, result: None)
    finally:
        book.close()
        folder.cleanup()
    add_repairs(found, means)
    rows = {
        stage: {name: round(value) for name, value in entry.items()}
        for stage, entry in sorted(found.items(), key=order(stages))
    }
    return summed(rows, rate) | {
        "not_foreseen": [s for s in NOT_CHAINED[stages] if s not in means] + ["repeated attempts"]
    }


def add(found: dict[str, dict[str, float]], stage: str, requests: float, prompt: float, completion: float) -> None:
    """`requests` more of `stage`, with so many tokens each."""
    entry = found.setdefault(stage, dict.fromkeys(SUMS, 0.0))
    for name, value in zip(SUMS, (requests, requests * prompt, requests * completion), strict=True):
        entry[name] += value


def add_repairs(found: dict[str, dict[str, float]], means: Means) -> None:
    """Repairs, the claims that are listed again after them, and re-checks: as often as with the captions in the journal."""
    rows = found.get("claims", {}).get("requests", 0.0)
    if not rows or "claims" not in means:
        return
    claims, repairs, rechecks = (means[s][0] if s in means else 0 for s in ("claims", "repair", "recheck"))
    again = rows * repairs / max(claims - repairs, 1)
    for stage, more in (("repair", again), ("claims", again), ("recheck", (rows + again) * rechecks / claims)):
        if more:
            add(found, stage, more, means[stage][1], means[stage][2])


def summed(stages: dict[str, dict[str, int]], rate: float) -> dict[str, Any]:
    total = {name: sum(row[name] for row in stages.values()) for name in SUMS}
    return {"stages": stages, **total, "rate": rate, "hours": round(total["requests"] / rate / 3600, 2)}


def scaled_plan(plan: dict[str, Any], times: float) -> dict[str, Any]:
    """The estimate for `times` as many rows, which need not be a whole number."""
    stages = {
        stage: {name: round(times * value) for name, value in row.items()} for stage, row in plan["stages"].items()
    }
    return summed(stages, plan["rate"]) | {"not_foreseen": plan["not_foreseen"]}


def ranged_plan(plan: dict[str, Any], times: tuple[float, float, float]) -> dict[str, Any]:
    """The estimate for (expected, least, most) times as many rows: its sums for the last two stand under `low`, `high`."""
    ends = [{name: scaled_plan(plan, end)[name] for name in (*SUMS, "hours")} for end in times[1:]]
    return scaled_plan(plan, times[0]) | {"low": ends[0], "high": ends[1]}


def order(stages: tuple[str, ...]) -> Callable[[tuple[str, Any]], int]:
    return lambda pair: stages.index(pair[0]) if pair[0] in stages else len(stages)


def prompt_tokens(request: Request, with_image: bool) -> float:
    tokens = (len(request.system) + len(request.user) + (0 if with_image else PROSE)) / CHARS_PER_TOKEN
    if with_image and request.image is not None:
        width, height = Image.open(io.BytesIO(request.image)).size
        tokens += (width / IMAGE_PATCH) * (height / IMAGE_PATCH)
    return tokens
