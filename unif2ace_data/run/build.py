"""`build`: list, analyse, decide, cut what is missing, pack, describe, index. Every stage resumes where it was."""

from __future__ import annotations

import contextlib
import functools
import tarfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data import __version__
from unif2ace_data.captions.text import text_config
from unif2ace_data.curate.removal import face_kind
from unif2ace_data.errors import UserError
from unif2ace_data.faces.analyse import analysis_config, config_hash, models_of
from unif2ace_data.faces.engine import find_pack
from unif2ace_data.recipe import Captions, Llm, Recipe, Release, SourceSpec
from unif2ace_data.release.fairness import warning_lines
from unif2ace_data.release.read import read_mapping
from unif2ace_data.run import pack as packing
from unif2ace_data.run.captioning import (
    ModelWork,
    caption_config,
    caption_engine,
    caption_missing,
    foreseen,
    told_captions,
)
from unif2ace_data.run.clock import Clock
from unif2ace_data.run.decide import RELEASE, Decision, Row, decide
from unif2ace_data.run.describe import describe, resolved_recipe
from unif2ace_data.run.erase import in_force
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.fairness import ANALYSIS
from unif2ace_data.run.private import work_folder
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.review import keep_reviews
from unif2ace_data.run.rewrite import ASKED, RECAPTION, finish, give_up, merged
from unif2ace_data.run.stages import analyse, cut_missing, recognise, write_missing_texts
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import InputRef
from unif2ace_data.shards import INDEX, dataset_shards, read_index
from unif2ace_data.sources.listing import list_inputs, notes, source_prefixes
from unif2ace_data.sources.manifest import Manifest, load_manifest

LOCAL = Executor()


@dataclass(slots=True)
class Summary:
    """What a build did, for the terminal and for --json."""

    out: Path
    work: Path
    inputs: int
    analysed: int
    cropped: int
    counts: dict[str, int]
    reasons: dict[str, int]
    splits: dict[str, int]
    shards: int
    seconds: float
    root_sha256: str = ""
    notes: list[str] = field(default_factory=list)
    asked: ModelWork = field(default_factory=ModelWork)
    stages: dict[str, float] = field(default_factory=dict)  # seconds by the clock


def build(
    recipe: Recipe,
    out: Path,
    on: Executor = LOCAL,
    limit: int | None = None,
    splits_from: Path | None = None,
    quiet: bool = False,
    captions_anew: bool = False,
    only: frozenset[str] | None = None,
) -> Summary:
    """Build or bring up to date the dataset at `out` (its private folder is `out.work`). `only`: of these inputs.

    Raises UserError: nothing to read, nothing kept, too many technical failures, an `out` that is not ours.
    """
    started, clock = time.monotonic(), Clock()
    manifests = [load_manifest(spec.manifest) for spec in recipe.sources]
    check_places(recipe, out)
    check_limit(out, limit)
    recipe = with_release(out, recipe)
    pack = find_pack(recipe.faces.engine)
    config = analysis_config(recipe.faces, pack, recipe.filters.nsfw is not None)
    config_id, crops_id = config_hash(config), config_hash([config, recipe.faces.align.model_dump()])
    evidence_id = text_config(recipe, config_id)
    store = WorkStore(work_folder(out))
    log = Log(store.folder / "log.jsonl")
    try:
        with contextlib.suppress(UserError, OSError):  # what cannot be finished is packed anew
            finish(store, out)
        give_up(store, out)
        in_force(store, out, face_kind(recipe.faces.align), crops_id)
        if not store.run and (out / INDEX).is_file():
            # a broken dataset is built anew
            with contextlib.suppress(UserError, OSError, ValueError, tarfile.TarError):
                keep_reviews(store, out)
        recipe, captions_note = with_recaption(store, recipe, captions_anew)
        engine = caption_engine(recipe)
        texts_id = caption_config(recipe, engine, evidence_id, crops_id)
        store.set_fact("evidence", evidence_id)
        store.set_fact("crops", crops_id)
        store.set_fact(ANALYSIS, config_id)
        store.set_fact("manifests", orjson.dumps([m.model_dump() for m in manifests]).decode())
        log.write(
            "build", version=__version__, recipe=recipe.model_dump(), out=str(out), workers=on.workers, executor=on.name
        )
        refs = listed(recipe, manifests, limit, splits_from)
        inputs = store.list_inputs(refs if only is None else (ref for ref in refs if ref.source_id in only))
        if not inputs:
            raise UserError(f"no inputs: nothing was found in {', '.join(s.path for s in recipe.sources)}")
        clock.lap("listing")
        recognise(store, config_id, on, quiet)
        clock.lap("hashing")
        models = models_of(pack, recipe.filters.nsfw is not None)
        analysed = analyse(store, recipe, config_id, models, crops_id, evidence_id, out, on, log, quiet)
        clock.lap("analysing")
        cropped, removed = 0, -1
        while removed != store.removed():  # a crop that is cut now may be a copy of what was removed
            removed = store.removed()
            decision = decide(store, config_id, recipe, pack)
            cropped += cut_missing(store, recipe, config_id, crops_id, out, decision, on, log, quiet)
        clock.lap("deciding")
        write_missing_texts(store, recipe, config_id, crops_id, evidence_id, decision, on, log, quiet)
        clock.lap("describing")
        asked = ModelWork()
        if engine is not None:
            asked = caption_missing(
                store, recipe, engine, decision.kept, crops_id, evidence_id, texts_id, on, log, quiet
            )
        clock.lap("captioning")
        packing.set_text_facts(store, decision.kept, texts_id)
        ledger = store.folder / "ledger.new.parquet"  # takes its name when the dataset that it tells of is published
        packing.write_ledger(ledger, decision.rows, public=False)
        alarm(recipe, decision, ledger)
        decision.notes += chain.from_iterable(notes(s, m) for s, m in zip(recipe.sources, manifests, strict=True))
        decision.notes += incomplete(manifests, decision.rows)
        licences = {m.name: m.licence.text for m in manifests}
        digits = packing.prefix_digits(store, decision.kept, recipe, crops_id)
        planned = packing.plan_shards(
            store, decision.kept, config_id, [crops_id, config_hash(licences)], texts_id, digits
        )
        progress = Progress("packing", len(decision.kept), quiet)
        samples = functools.partial(
            packing.samples_of,
            store,
            recipe=recipe,
            config=config_id,
            crops=crops_id,
            texts=texts_id,
            licences=licences,
        )
        finished = packing.write_missing(
            store, planned, samples, texts_id, out, recipe.shards.max_bytes, lambda n: progress.advance(n, [])
        )
        progress.close()
        packing.publish(store, planned, out)
        clock.lap("packing")
        ledger.replace(store.folder / "ledger.parquet")
        store.set_fact(RECAPTION, told_captions(recipe) if engine is not None else "")
        shards = [
            {
                "name": p.name, "split": p.split, "prefix": p.prefix, "samples": finished[p.fingerprint].shard.samples,
                "bytes": finished[p.fingerprint].shard.bytes, "sha256": finished[p.fingerprint].shard.sha256,
            }
            for p in planned
        ]  # fmt: skip
        resolved = resolved_recipe(recipe, engine, config, pack, manifests, digits)
        resolved = merged(resolved, orjson.loads(store.fact(ASKED, "{}")))
        root = describe(out, store, shards, decision, resolved, manifests, clock)
        clock.lap("card")
        said = decision.notes + captions_note + unasked(out) + warning_lines(read_mapping(out / "stats.json"))
        summary = Summary(
            out=out, work=store.folder, inputs=len({r.source_id for r in decision.rows}), analysed=analysed, cropped=cropped,
            counts=dict(decision.counts()), reasons=dict(decision.reasons()),
            splits={s: sum(r.split == s for r in decision.kept) for s in ("train", "validation", "test")},
            shards=len(shards), seconds=round(time.monotonic() - started, 1), root_sha256=root, notes=said, asked=asked,
            stages=clock.seconds,
        )  # fmt: skip
        log.write(
            "done", inputs=summary.inputs, counts=summary.counts, reasons=summary.reasons, root_sha256=root,
            stages=clock.seconds,
        )  # fmt: skip
        return summary
    finally:
        log.close()
        store.close()


def check_places(recipe: Recipe, out: Path) -> None:
    """Refuse what would end badly: missing sources, an output inside a source, an output folder of somebody else's."""
    if not recipe.sources:
        raise UserError("no source: give --src FOLDER (or --src MANIFEST=FOLDER), or `sources:` in the recipe", 2)
    for spec in recipe.sources:
        path = Path(spec.path)
        if not spec.path or not path.exists():
            raise UserError(f"--src {spec.path}: there is no such file or folder", 2)
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--out {out} lies inside --src {spec.path}: the next run would read its own output", 2)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file", 2)
    if out.is_dir() and any(out.iterdir()) and not (out / INDEX).is_file() and not work_folder(out).is_dir():
        raise UserError(
            f"--out {out} holds other files and no dataset of this toolkit: choose an empty or a new folder", 2
        )


def check_limit(out: Path, limit: int | None) -> None:
    """Refuse a `--limit` that would replace a finished dataset by one of fewer inputs.

    The index tells how many went into the dataset, also where `out.work` is gone; one that was built with the same or a
    smaller limit holds no more than `limit`, and so may be built again or grow.
    """
    if limit is None or not (out / INDEX).is_file():
        return
    there = int(read_index(out)["counts"]["inputs"])
    if limit < there:
        raise UserError(
            f"--limit {limit} would shrink the finished dataset at {out} from {there} inputs to {limit}: give a trial another "
            "--out, or leave --limit out",
            2,
        )


def listed(
    recipe: Recipe, manifests: list[Manifest], limit: int | None, splits_from: Path | None
) -> Iterator[InputRef]:
    prefixes = source_prefixes(recipe.sources, manifests)
    refs: Iterator[InputRef] = chain.from_iterable(
        vouched(list_inputs(spec, manifest, prefix), manifest)
        for spec, manifest, prefix in zip(recipe.sources, manifests, prefixes, strict=True)
    )
    if limit is not None:
        refs = islice(refs, limit)
    return chain(refs, released_tests(splits_from)) if splits_from else refs


def vouched(refs: Iterable[InputRef], manifest: Manifest) -> Iterator[InputRef]:
    for ref in refs:
        ref.annotations.adults = manifest.subjects == "adults"
        yield ref


def released_tests(release: Path) -> Iterator[InputRef]:
    """The test samples of an earlier release, as inputs that only guide the splits."""
    manifest = load_manifest("folder")
    for shard in dataset_shards(release):
        if shard.name.startswith("test-"):
            for ref in list_inputs(SourceSpec(path=str(shard)), manifest):
                ref.source_id, ref.dataset = f"{RELEASE}/{ref.source_id}", RELEASE
                yield ref


def dry_run(recipe: Recipe, limit: int | None, rate: float) -> dict[str, Any]:
    """What a build would read: inputs by kind, and those that cannot be used as listed. Reads no image, writes nothing.

    With a model as captioner also what it would be asked if every input were kept (run/estimate.py).
    """
    if not recipe.sources:
        raise UserError("no source: give --src FOLDER (or --src MANIFEST=FOLDER), or `sources:` in the recipe", 2)
    for spec in recipe.sources:
        if not spec.path or not Path(spec.path).exists():
            raise UserError(f"--src {spec.path}: there is no such file or folder", 2)
    manifests = [load_manifest(spec.manifest) for spec in recipe.sources]
    counts: Counter[str] = Counter()
    for ref in listed(recipe, manifests, limit, None):
        counts["inputs"] += 1
        counts[f"{ref.problem_status}: {ref.problem[0]}" if ref.problem else f"kind: {ref.kind}"] += 1
    inputs = counts.pop("inputs", 0)
    engine = caption_engine(recipe)
    asked = {"model": foreseen(recipe, engine, inputs, rate)} if engine is not None else {}
    return {"inputs": inputs, **dict(sorted(counts.items())), **asked}


def incomplete(manifests: list[Manifest], rows: list[Row]) -> list[str]:
    """A note for each known dataset of which another number of photos or clips is here than a complete copy holds."""
    found = Counter(
        dataset for dataset, _ in {(row.dataset, row.source_id) for row in rows if row.reason != "not_media"}
    )
    wanted = {m.name: m.expected.photos or m.expected.clips for m in manifests}
    return [
        f"{name}: {found[name]} of the {count} photos or clips that a complete copy holds are here"
        for name, count in sorted(wanted.items())
        if count and found[name] != count
    ]


def with_recaption(store: WorkStore, recipe: Recipe, captions_anew: bool) -> tuple[Recipe, list[str]]:
    """The recipe with the captions that `caption` or an earlier build was told to write, and a note that says so.

    A recipe that asks for captions of its own decides, and so does `captions_anew`.
    """
    told = store.fact(RECAPTION)
    if not told or captions_anew or recipe.captions.engine != "grounded" or recipe.llm.model:
        return recipe, []
    chosen = orjson.loads(told)
    captions, llm = Captions.model_validate(chosen["captions"]), Llm.model_validate(chosen["llm"])
    note = f"captions stay those of {captions.engine} {llm.model}, as asked for before; --captioner grounded goes back"
    return recipe.model_copy(update={"captions": captions, "llm": llm}), [note]


def with_release(out: Path, recipe: Recipe) -> Recipe:
    """The recipe with what `card --set release.…` stated of the dataset at `out`, where it states nothing of its own."""
    there = read_mapping(out / "recipe.yaml").get("release")
    if recipe.release != Release() or not there:
        return recipe
    return recipe.model_copy(update={"release": Release.model_validate(there)})


def unasked(out: Path) -> list[str]:
    """A note where some samples have questions and others, new ones or such with another caption, have none."""
    qa = read_mapping(out / "stats.json")["qa"]
    without = qa["samples_by_questions"].get("0", 0)
    if not qa["total"] or not without:
        return []
    return [f"{without} samples have no questions, being new or captioned anew since: run unif2ace-data qa-gen again"]


def commonest(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(4))


def alarm(recipe: Recipe, decision: Decision, ledger: Path) -> None:
    """Stop before anything is published where a run keeps nothing or fails on far more inputs than it should."""
    inputs = {row.source_id for row in decision.rows}
    failed = {row.source_id: row.reason for row in decision.rows if row.status == "failed"}
    where = f"the output was not touched. Every input's reason is in {ledger}"
    if not decision.kept:
        advice = next((n for n in decision.notes if "--subjects adults" in n), "")
        raise UserError(
            f"nothing was kept of {len(inputs)} inputs ({commonest(decision.reasons())}); {where}. {advice}".strip()
        )
    if len(failed) > recipe.alarm.max_failed * len(inputs):
        raise UserError(
            f"{len(failed)} of {len(inputs)} inputs failed technically ({commonest(Counter(failed.values()))}), more than "
            f"alarm.max_failed = {recipe.alarm.max_failed}; {where}. Mend the source and run again (only failures are tried "
            "again), or accept them with --set alarm.max_failed=1"
        )
