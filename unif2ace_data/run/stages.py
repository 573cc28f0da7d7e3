"""The stages of `build` that run in worker processes: hash, analyse, and make good what kept faces lack."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TypeVar

from unif2ace_data.captions.text import notes_hash
from unif2ace_data.curate.removal import REMOVED
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.run.decide import Decision, Row
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.store import WorkStore
from unif2ace_data.run.work import Result, TextJob, analyse_chunk, crop_chunk, hash_chunk, text_chunk
from unif2ace_data.schema import InputRef, PhotoRecord

HOPELESS_AFTER = 64  # results; if every one of them is an engine error, the run stops at once

Job = TypeVar("Job", bound=tuple[InputRef, PhotoRecord, list])  # type: ignore[type-arg]


def recognise(store: WorkStore, config: str, on: Executor, quiet: bool) -> None:
    """Hash inputs that are new by name, so that a photo that was only moved, renamed or touched is not measured again."""
    names = store.unhashed(config)
    progress = Progress("hashing", len(names), quiet)
    batches = (store.refs(names[i : i + 256]) for i in range(0, len(names), 256))
    crew = min(on.workers, max(1, len(names)))
    with closing(on.map_chunks(hash_chunk, chain.from_iterable(batches), crew, gave_up)) as results:
        for chunk in results:
            with store.transaction():
                for result in chunk:
                    if result.error:
                        store.put_failure(result.source_id, *result.error)
                    else:
                        store.put_hash(result.source_id, result.sha256)
            progress.advance(len(chunk), [r.error[0] for r in chunk if r.error])
    progress.close()


def analyse(
    store: WorkStore, recipe: Recipe, config: str, models: dict[str, str], crops: str, texts: str, out: Path, on: Executor,
    log: Log, quiet: bool,
) -> int:  # fmt: skip
    """Measure what is not measured yet; commits every chunk as it arrives. Returns how many photos were measured.

    `models`: the networks, file -> SHA-256; a worker that has others ends the run. Nothing is stored of a photo that
    matches a tombstone of the dataset at `out`.
    """
    pending = store.pending(config)
    log.write("analyse", pending=len(pending))
    progress = Progress("analysing", len(pending), quiet)
    notes_of: dict[str, str] = {}  # of the inputs in flight: a text depends on what the source says of the photo

    def inputs() -> Iterator[InputRef]:
        for start in range(0, len(pending), 256):
            for ref in store.refs(pending[start : start + 256]):
                notes_of[ref.source_id] = notes_hash(ref.annotations)
                yield ref

    crew = min(on.workers, max(1, len(pending)))
    results = on.map_chunks(functools.partial(analyse_chunk, recipe, out, models), inputs(), crew, gave_up)
    done, engine_errors, first_error = 0, 0, ""
    worked_before = store.has_analyses(config)  # then a photo that fails is that photo's trouble, not the engine's
    try:
        for chunk in results:
            reasons = []
            with store.transaction():
                for result in chunk:
                    done += 1
                    if result.error:
                        reasons.append(result.error[0])
                        if result.error[0] == REMOVED:
                            store.mark_removed([result.source_id])
                            continue
                        store.put_failure(result.source_id, *result.error)
                        engine_errors += result.error[0] == "engine_error"
                        first_error = first_error or result.error[1]
                    elif result.embeddings is not None:
                        store.put_analysis(result.source_id, config, result.sha256, result.record, result.embeddings)
                        if result.look is not None:
                            store.put_look(result.sha256, result.look)
                        for crop in result.crops:
                            store.put_crop(crop.key, crops, crop.jpeg, crop.side, crop.padded)
                        for key, text in result.texts:
                            store.put_text(key, texts, notes_of[result.source_id], text)
                        reasons += [result.reason] if result.reason else []
            for result in chunk:
                notes_of.pop(result.source_id, None)
            log.write("analysed", sources=[r.source_id for r in chunk])
            progress.advance(len(chunk), reasons)
            if engine_errors == done >= HOPELESS_AFTER and not worked_before:
                break
    finally:
        results.close()
        progress.close()
    if done and engine_errors == done and not worked_before:
        raise UserError(
            f"the face engine failed on all of the first {done} inputs, so the run was stopped; nothing was written. "
            f"First error: {first_error}. Check `unif2ace-data doctor` and the pack {recipe.faces.engine!r}; "
            "the next run tries again"
        )
    return done


def gave_up(ref: InputRef, why: str) -> Result:
    return Result(ref.source_id, error=("worker_died", why))


def cut_missing(
    store: WorkStore, recipe: Recipe, config: str, crops: str, out: Path, decision: Decision, on: Executor, log: Log,
    quiet: bool,
) -> int:  # fmt: skip
    """Cut the crops that kept rows lack (a threshold was changed). A crop that cannot be cut fails its row.

    A photo whose crop matches a tombstone is forgotten; `decision` does not know of it yet.
    """
    missing = by_photo(row for row in decision.kept if not store.has_crop(row.key, crops))

    def keep(result: Result) -> None:
        for crop in result.crops:
            store.put_crop(crop.key, crops, crop.jpeg, crop.side, crop.padded)

    jobs = (crop_job(store, config, rows) for rows in missing.values())
    return make_good("cropping", missing, jobs, functools.partial(crop_chunk, recipe, out), keep, store, on, log, quiet)


def write_missing_texts(
    store: WorkStore, recipe: Recipe, config: str, crops: str, texts: str, decision: Decision, on: Executor, log: Log,
    quiet: bool,
) -> int:  # fmt: skip
    """Describe the kept rows that lack a text (captions, an attribute model, or what the source says has changed)."""
    notes = {row.source_id: notes_hash(store.refs([row.source_id])[0].annotations) for row in decision.kept}
    missing = by_photo(row for row in decision.kept if store.text(row.key, texts, notes[row.source_id]) is None)

    def keep(result: Result) -> None:
        for key, text in result.texts:
            store.put_text(key, texts, notes[result.source_id], text)

    jobs = (text_job(store, config, crops, rows) for rows in missing.values())
    return make_good("describing", missing, jobs, functools.partial(text_chunk, recipe), keep, store, on, log, quiet)


def by_photo(rows: Iterable[Row]) -> dict[str, list[Row]]:
    photos: dict[str, list[Row]] = {}
    for row in rows:
        photos.setdefault(row.source_id, []).append(row)
    return photos


def make_good(
    what: str, missing: dict[str, list[Row]], jobs: Iterable[Job], chunk: Callable[[list[Job]], list[Result]],
    keep: Callable[[Result], None], store: WorkStore, on: Executor, log: Log, quiet: bool,
) -> int:  # fmt: skip
    """Run a job for each photo of which rows lack something, and keep what comes; an error fails the photo's rows."""
    progress = Progress(what, len(missing), quiet)
    giving_up = lambda job, why: Result(job[0].source_id, error=("worker_died", why))  # noqa: E731
    crew = min(on.workers, max(1, len(missing)))
    with closing(on.map_chunks(chunk, jobs, crew, giving_up)) as results:
        for done in results:
            with store.transaction():
                for result in done:
                    keep(result)
                    if result.error and result.error[0] == REMOVED:
                        store.forget({row.sha256 for row in missing[result.source_id]})
                    for row in missing[result.source_id] if result.error else []:
                        row.status, row.split = "failed", ""
                        row.reason, row.detail = result.error or ("", "")
            log.write(what, sources=[r.source_id for r in done])
            progress.advance(len(done), [r.error[0] for r in done if r.error])
    progress.close()
    return len(missing)


def crop_job(store: WorkStore, config: str, rows: list[Row]) -> tuple[InputRef, PhotoRecord, list[int]]:
    stored = store.analysis(rows[0].sha256, config)
    if stored is None:
        raise UserError(f"{store.folder} lost the measurements of {rows[0].source_id}: run the build again")
    return store.refs([rows[0].source_id])[0], stored[0], [row.face for row in rows]


def text_job(store: WorkStore, config: str, crops: str, rows: list[Row]) -> TextJob:
    ref, record, indices = crop_job(store, config, rows)
    faces = []
    for row, index in zip(rows, indices, strict=True):
        crop = store.crop(row.key, crops)
        if crop is None:
            raise UserError(f"{store.folder} lost the crop of {row.source_id}: run the build again")
        faces.append((index, row.key, crop[0]))
    return ref, record, faces
