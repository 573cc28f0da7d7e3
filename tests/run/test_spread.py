"""`caption` and `qa-gen` on other workers: the same bytes as in one process, whatever order their work comes back in."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.run import captioning
from unif2ace_data.run import qa_gen as questions
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.private import recipe_at
from unif2ace_data.run.recaption import recaption


def backwards(
    function: Callable[[list[Any]], list[Any]],
    items: Iterable[Any],
    workers: int,
    gave_up: Callable[[Any, str], Any],
    size: int = 4,
) -> Generator[list[Any], None, None]:
    """What another process would do with copies of function and chunks, the last chunk first."""
    source, chunks = iter(items), list[bytes]()
    while chunk := list(islice(source, size)):
        chunks.append(pickle.dumps((function, chunk)))
    for copy in reversed(chunks):
        work, chunk = pickle.loads(copy)
        yield pickle.loads(pickle.dumps(work(chunk)))


ELSEWHERE = Executor(2, backwards, "elsewhere")


def tree(out: Path) -> dict[str, str]:
    files = (p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_questions_and_captions_do_not_depend_on_the_workers(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "SAMPLES", 4)
    for name in ("one", "two"):
        shutil.copytree(built, tmp_path / name / "shards")
        shutil.copytree(built.with_name("shards.work"), tmp_path / name / "shards.work")
    one, two = tmp_path / "one" / "shards", tmp_path / "two" / "shards"
    alone = questions.qa_gen(one, recipe_at(one), quiet=True)
    together = questions.qa_gen(two, recipe_at(two), quiet=True, on=ELSEWHERE)
    assert tree(one) == tree(two) and questions.as_json(alone) == questions.as_json(together)
    recaption(one, recipe_at(one, ["captions.complexion=true"]), True)
    recaption(two, recipe_at(two, ["captions.complexion=true"]), True, ELSEWHERE)
    assert tree(one) == tree(two)


def test_crops_are_scaled_by_workers_and_come_with_what_they_belong_to(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioning, "CROPS", 4)
    crops = [(path.name, path.read_bytes()) for path in sorted(photos.iterdir())[:10]]
    recipe = Recipe.model_validate({"llm": {"image_side": 64}})
    scaled = dict(captioning.scaled_all(iter(crops), len(crops), recipe, ELSEWHERE, str))
    assert scaled == {name: captioning.scaled(jpeg, 64) for name, jpeg in crops}


def test_little_work_starts_no_workers() -> None:
    here = os.getpid()
    assert {pid for chunk in Executor(2).for_work(0.1).spread(process, range(8), 8, 2, str) for pid in chunk} == {here}
    assert {pid for chunk in Executor(2).spread(process, range(8), 8, 8, str) for pid in chunk} == {here}
    assert Executor(2).for_work(60).workers == 2 and Executor(2, name="ray").for_work(0.1).name == "ray"


def process(chunk: list[int]) -> list[int]:
    return [os.getpid() for _ in chunk]


def test_an_item_that_kills_its_worker_is_named() -> None:
    def dying(function: Any, items: Any, workers: int, gave_up: Any, size: int = 4) -> Generator[list[Any], None, None]:
        yield [gave_up(item, "the worker process died on this input, twice") for item in items]

    with pytest.raises(UserError, match=r"^item 3: the worker process died on this input, twice"):
        list(Executor(2, dying).spread(process, [3], 8, 2, lambda item: f"item {item}"))
