"""What is done with the private folder beside a dataset: the report that shows what was dropped, and its deletion."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.align import encode_jpeg
from unif2ace_data.faces.analyse import first_look
from unif2ace_data.filters import adult
from unif2ace_data.llm.journal import JOURNAL, answers_in
from unif2ace_data.recipe import Recipe, set_key, validated
from unif2ace_data.release.read import read_mapping
from unif2ace_data.release.report import write_report
from unif2ace_data.run.embeddings import kept_embeddings
from unif2ace_data.run.rewrite import UNDERWAY
from unif2ace_data.run.store import WorkStore
from unif2ace_data.shards import read_index
from unif2ace_data.sources.read import read_input
from unif2ace_data.sources.video import candidate_frames

THUMBNAIL = 160  # pixels


def work_folder(out: Path) -> Path:
    """`shards.work` beside `shards`."""
    whole = out if out.name not in ("", "..") else out.resolve()
    return whole.with_name(whole.name + ".work")


@contextlib.contextmanager
def working_store(out: Path) -> Iterator[WorkStore]:
    """The store of `out.work`. A folder that was made for a run which then is refused, or got no answer, does not stay.

    Whatever else ends a run (Ctrl-C, a full disk, a decided rewrite that cannot be completed) leaves the folder: answers
    are paid for, and staged shards are half of the dataset.
    """
    work = work_folder(out)
    made, useless = not work.exists(), False
    store = WorkStore(work)
    try:
        yield store
    except UserError:
        useless = made and not store.fact(UNDERWAY) and not answers_in(work / JOURNAL)
        raise
    finally:
        store.close()
        if useless:
            shutil.rmtree(work)


def clean(out: Path) -> dict[str, Any]:
    """Delete `out.work`: measurements, embeddings, crops, the full ledger, a model's answers. Returns the receipt."""
    work = work_folder(out)
    store = WorkStore(work)
    faces = store.db.execute("select sum(length(embeddings) / 4 / max(width, 1)) from analyses").fetchone()[0]
    reviews = len(store.reviews())
    store.close()
    answers = answers_in(work / JOURNAL)
    files = [p for p in work.rglob("*") if p.is_file()]
    receipt = {
        "deleted": str(work),
        "files": len(files),
        "bytes": sum(p.stat().st_size for p in files),
        "face_embeddings": int(faces or 0) + kept_embeddings(work),
        "model_answers": answers,
        "people_answers": reviews,
    }
    shutil.rmtree(work)
    return receipt


def private_report(out: Path, target: Path | None) -> Path:
    """The report with thumbnails of what was dropped, where `out.work` is at hand; else the public one, made anew."""
    read_index(out)
    work = work_folder(out)
    private, own = (work / "ledger.parquet").is_file(), out / "report.html"
    if not private and (target is None or target.resolve() == own.resolve()):
        return own  # it is part of the dataset, with its hash in the index
    if target is not None and target.resolve().is_relative_to(out.resolve()):
        raise UserError(
            f"--out {target} lies inside {out}, which travels and holds its own files alone: put it beside", 2
        )
    if not private and target is not None:
        write_report(target, out, None, None)
        return target
    target = target or work / "report.html"
    store = WorkStore(work)
    try:
        write_report(target, out, work, functools.partial(thumbnail, store, recipe_at(out)))
    finally:
        store.close()
    return target


def recipe_at(out: Path, changes: list[str] | None = None) -> Recipe:
    """The recipe that built the dataset at `out`, with `KEY=VALUE` changes. Raises UserError where there is none."""
    path = out / "recipe.yaml"
    if not path.is_file():
        raise UserError(f"{path} is missing: verify the dataset, or build it again")
    resolved = read_mapping(path)
    whole = {key: value for key, value in resolved.items() if key != "resolved"}
    recipe = validated(whole, str(path))
    if not changes:
        return recipe
    whole = recipe.model_dump()
    for change in changes:
        set_key(whole, change)
    return validated(whole, f"{path} with what you set")


def thumbnail(store: WorkStore, recipe: Recipe, source_id: str) -> bytes | None:
    """A small JPEG of an input, or None: it cannot be read, or shows a face that the adult gate would keep out."""
    try:
        ref = store.refs([source_id])[0]
        record = store.latest_record(source_id)
        if record and any(adult(face, record, ref.annotations, recipe) for face in record.faces):
            return None
        data = read_input(ref)
        rgb = candidate_frames(data, 1)[0][1] if ref.kind == "video" else first_look(data).rgb
    except (InputError, KeyError):
        return None
    shrink = min(1.0, THUMBNAIL / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * shrink)), max(1, round(rgb.shape[0] * shrink)))
    return encode_jpeg(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), 80)
