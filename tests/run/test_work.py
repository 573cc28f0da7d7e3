"""What a worker makes of a chunk of inputs: each has its own result, whatever happens to its neighbours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.analyse import models_of
from unif2ace_data.faces.engine import find_pack
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run import work
from unif2ace_data.run.work import Result, analyse_chunk
from unif2ace_data.schema import InputRef
from unif2ace_data.sources.listing import list_inputs
from unif2ace_data.sources.manifest import load_manifest

MODELS = models_of(find_pack("embedded"))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("embedded", ["subjects=adults"])


@pytest.fixture(scope="module")
def refs(photos: Path) -> list[InputRef]:
    source = SourceSpec(path=str(photos))
    return list(list_inputs(source, load_manifest(source.manifest)))[:5]


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, refs: list[InputRef], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    results = analyse_chunk(recipe, tmp_path_factory.mktemp("out"), MODELS, refs)
    assert [r.source_id for r in results] == [ref.source_id for ref in refs]
    assert all(len(r.texts) == len(r.crops) > 0 and r.error is None for r in results)
    return results


def plain(result: Result) -> dict[str, Any]:
    """With arrays as lists, to be compared."""
    found = dataclasses.asdict(result)
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


def test_how_many_wait_for_a_step_changes_nothing(
    recipe: Recipe, refs: list[InputRef], undisturbed: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [plain(result) for result in undisturbed]
    held: list[int] = []
    measure = work.measure
    monkeypatch.setattr(work, "measure", lambda job, *given: (held.append(job.held), measure(job, *given)))
    assert [plain(r) for r in analyse_chunk(recipe, tmp_path, MODELS, refs)] == expected
    assert min(held) > 10_000
    for most in (0, max(held) + 1):
        monkeypatch.setattr(work, "MOST_HELD", most)
        assert [plain(r) for r in analyse_chunk(recipe, tmp_path, MODELS, refs)] == expected
    assert analyse_chunk(recipe, tmp_path, MODELS, []) == []


@pytest.mark.parametrize("step", ["read_input", "look", "packed_record", "cut", "text_of"])
@pytest.mark.parametrize("error", [InputError("vanished", "is gone"), ValueError("odd")])
def test_an_error_is_its_own_input_s(
    recipe: Recipe, refs: list[InputRef], undisturbed: list[Result], tmp_path: Path, step: str, error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    inner, calls = getattr(work, step), 0

    def third_fails(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return inner(*given)

    monkeypatch.setattr(work, step, third_fails)
    results = analyse_chunk(recipe, tmp_path, MODELS, refs)
    told = ("vanished", "is gone") if isinstance(error, InputError) else ("engine_error", "ValueError: odd")
    assert plain(results[2]) == plain(Result(refs[2].source_id, error=told))
    assert [plain(r) for i, r in enumerate(results) if i != 2] == [
        plain(r) for i, r in enumerate(undisturbed) if i != 2
    ]


def test_what_no_input_can_cause_ends_the_run(
    recipe: Recipe, refs: list[InputRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> Any:
        raise UserError("no weights")

    monkeypatch.setattr(work, "text_of", fails)
    with pytest.raises(UserError, match="no weights"):
        analyse_chunk(recipe, tmp_path, MODELS, refs)
