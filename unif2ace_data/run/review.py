"""`review`: draw what people shall look at, and take their answers back as evidence of the highest rank.

Answers stay in the private store, so that later builds, captions and questions keep to them, and travel as evidence in the
samples. Shards whose samples nobody said anything new about are not opened.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.attributes.measure import PEOPLE
from unif2ace_data.captions.grounded import caption_of, captioner
from unif2ace_data.captions.people import caption_after, said_of, with_people
from unif2ace_data.captions.text import notes_hash
from unif2ace_data.curate.precision import precision_report
from unif2ace_data.curate.review import (
    Answers,
    Draw,
    answered_draw,
    check_asked,
    draw_items,
    packed_draw,
    read_answers,
    unpacked_draw,
)
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.read import read_mapping
from unif2ace_data.release.review_form import write_forms
from unif2ace_data.run.pack import fingerprint_with, with_questions
from unif2ace_data.run.private import recipe_at, work_folder, working_store
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.recaption import keep_questions, notes_of, shards_there
from unif2ace_data.run.rewrite import Shard, finish, present_shards, rewrite
from unif2ace_data.run.splice import whole
from unif2ace_data.run.store import WorkStore, kept_under
from unif2ace_data.schema import Attribute, Captioner, Claim, Sample
from unif2ace_data.shards import dataset_shards, read_index, read_samples, write_bytes

FOLDER, PRECISION = "review", "precision.json"


@dataclass(slots=True)
class Exported:
    """What was drawn: items over samples and strata, of how many statements in all, and the files."""

    root_sha256: str
    items: int
    samples: int
    strata: int
    strata_drawn: int
    statements: int
    files: list[str]


@dataclass(slots=True)
class Taken:
    """What an import did. `disputed`: attributes of samples about which reviewers disagree, so that they are not stated."""

    answers: int
    new: int
    samples_changed: int
    gone: int
    disputed: int
    precision: dict[str, Any]
    root_sha256: str
    precision_file: str
    notes: list[str] = field(default_factory=list)


def as_json(done: Exported | Taken) -> dict[str, Any]:
    return asdict(done)


# ------------------------------------------------------------------ out


def export(out: Path, count: int, folder: Path | None = None) -> Exported:
    """Draw `count` items of the dataset at `out` and write the form and Label Studio's tasks.

    folder: where they go, by default `out.work/review`. Raises UserError: no dataset, or a folder inside of it.
    """
    shards_there(out)
    folder = folder or work_folder(out) / FOLDER
    if folder.resolve().is_relative_to(out.resolve()):
        raise UserError(
            f"--out {folder} lies inside {out}, which travels and holds its own files alone: put it beside", 2
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file: give a folder", 2)
    with working_store(out) as store:
        finish(store, out)
        root = str(read_index(out)["root_sha256"])
        draw = draw_items(root, samples_in(out), count)
        if not draw.items:
            raise UserError(f"{out} states nothing that could be asked")
        known = store.draw(root)
        if known is None or len(unpacked_draw(root, known).items) < len(draw.items):
            store.put_draw(root, packed_draw(draw))
    wanted = {item.key for item in draw.items}
    pictures = {
        key: files["jpg"] for shard in dataset_shards(out) for key, files in read_samples(shard) if key in wanted
    }
    name = str(read_mapping(out / "recipe.yaml").get("name", "dataset"))
    files = write_forms(folder, root, name, draw.items, pictures)
    return Exported(
        root, len(draw.items), len(wanted), len(draw.sizes), len({i.stratum for i in draw.items}),
        sum(draw.sizes.values()), [str(f) for f in files],
    )  # fmt: skip


def samples_in(out: Path) -> Iterator[Sample]:
    for shard in dataset_shards(out):
        for _, files in read_samples(shard):
            yield Sample.model_validate_json(files["json"])


# ------------------------------------------------------------------ back


def take_in(out: Path, path: Path, quiet: bool = False) -> Taken:
    """Take the answers in the file at `path` into the dataset at `out`, and measure its precision by them.

    Raises UserError, with nothing changed: a file that is none of ours, answers about another dataset or about something
    that was not asked (exit code 2).
    """
    found = read_answers(path)
    shards_there(out)
    with working_store(out) as store, closing(Log(store.folder / "log.jsonl")) as log:
        finish(store, out)
        shards = present_shards(store, out)
        draw = draw_of(store, out, path, found)
        check_asked(path, found, draw)
        recipe = recipe_at(out)
        keep_reviews(store, out)
        keep_questions(store, out, shards)
        asked = questions_in(out)
        before = {a.key[:32]: store.people(a.key) for _, a in found.answers}
        known = {tuple(r.values()) for r in store.reviews(draw.root)}
        store.put_draw(draw.root, packed_draw(draw))
        store.begin_reviews()
        rows = [{**a.model_dump(), "reviewer": reviewer} for reviewer, a in found.answers]
        for row in rows:
            store.put_review(row, draw.root)
        new = sum(tuple(r.values()) not in known for r in store.reviews(draw.root))
        spoken = {photo for photo, said in before.items() if store.people(photo) != said}
        touched = {key: shard.texts for shard in shards for key in shard.keys if key[:32] in spoken}
        shards = [anew(store, shard, touched) for shard in shards]
        log.write("review", file=path.name, answers=len(rows), new=new, samples=len(touched))
        progress = Progress("packing", sum(len(shard.keys) for shard in shards), quiet)
        root = rewrite(
            store,
            out,
            {s.name: (fingerprint_with(store, s.base, s.texts, s.keys), s.texts) for s in shards},
            shards,
            lambda shard: functools.partial(whole, functools.partial(reviewed, store, recipe, touched)),
            {},
            lambda n: progress.advance(n, []),
            store.take_reviews,
        )
        progress.close()
        precision = precision_report(draw, store.reviews(draw.root))
        (store.folder / FOLDER).mkdir(exist_ok=True)
        target = store.folder / FOLDER / PRECISION
        write_bytes(target, orjson.dumps(precision, option=orjson.OPT_INDENT_2) + b"\n")
        gone = len({row["key"] for row in rows} - {key for shard in shards for key in shard.keys})
        done = Taken(len(rows), new, len(touched), gone, disputed(store), precision, root, str(target))
        lost = asked - questions_in(out)
        if lost > 0:
            done.notes.append(f"{lost} questions went with what they rested on: run unif2ace-data qa-gen again")
        if gone:
            done.notes.append(
                f"{gone} samples in {path.name} are no longer in {out}: their answers are kept all the same"
            )
        return done


def disputed(store: WorkStore) -> int:
    """About how many attributes of samples people disagree, over all that was ever taken in."""
    by_key: dict[str, list[dict[str, str]]] = defaultdict(list)
    for answer in store.reviews():
        by_key[answer["key"]].append(answer)
    return sum(said.disputed for key, answers in by_key.items() for said in said_of(key, answers))


def questions_in(out: Path) -> int:
    return int(read_mapping(out / "stats.json").get("qa", {}).get("total", 0))


def draw_of(store: WorkStore, out: Path, path: Path, found: Answers) -> Draw:
    """The draw that the answers belong to: made here, or from another copy of the same dataset. Raises UserError."""
    blob = store.draw(found.root)
    draw = unpacked_draw(found.root, blob) if blob else None
    asked = {(a.key, a.attribute, a.value) for _, a in found.answers}
    if draw is not None and asked <= {item.asked for item in draw.items}:
        return draw
    if found.root == read_index(out)["root_sha256"]:
        earlier = {item.asked for item in draw.items} if draw else set()
        return answered_draw(found.root, samples_in(out), asked | earlier)
    if draw is not None:
        return draw
    raise UserError(
        f"--import {path} is about dataset {found.root[:12]}, and {out} is {str(read_index(out)['root_sha256'])[:12]}, from "
        "which no such review was drawn: give the dataset that it was exported from",
        2,
    )


def anew(store: WorkStore, shard: Shard, touched: dict[str, str]) -> Shard:
    """The shard, under another base where people have said something new of its samples."""
    said = {key: store.people(key) for key in shard.keys if key in touched}
    if not said:
        return shard
    base = hashlib.sha256(shard.base.encode() + orjson.dumps(said)).hexdigest()
    return replace(shard, base=base)


def reviewed(store: WorkStore, recipe: Recipe, touched: dict[str, str], sample: Sample) -> Sample:
    """The sample with what people say of it, and with those of its questions that still rest on what they rested on."""
    if sample.uid not in touched:
        return with_questions(store, sample)
    said = said_of(sample.uid, store.people(sample.uid))
    attributes = with_people(measured_of(store, sample), said)  # also what a build makes of them
    complexion = recipe.captions.complexion
    texts, notes = touched[sample.uid], notes_of(store, sample)
    under = kept_under(texts) if store.only_kept(sample.uid, texts) else texts
    stored = store.text(sample.uid, under, notes) if texts else None
    if stored is not None:
        text = orjson.loads(stored)
        attributes = [Attribute.model_validate(a) for a in text["attributes"]]
        caption, wrote = text["caption"], Captioner.model_validate(text["captioner"])
        claims = [Claim.model_validate(c) for c in text["claims"]]
    elif sample.captioner.engine == captioner().engine:
        wrote = captioner()
        caption, claims = caption_of(sample.uid, attributes, complexion=complexion)
    else:
        caption, claims, wrote = caption_after(
            sample.uid, sample.caption, sample.claims, sample.captioner, attributes, said, complexion=complexion
        )
    changed = sample.model_copy(
        update={"attributes": attributes, "caption": caption, "claims": claims, "captioner": wrote}
    )
    if texts and stored is None and texts != store.fact("evidence"):  # grounded texts are composed again by `build`
        record = changed.model_dump(include={"attributes", "caption", "captioner", "claims"})
        store.put_text(sample.uid, under, notes, orjson.dumps(record))
    return with_questions(store, changed)


def measured_of(store: WorkStore, sample: Sample) -> list[Attribute]:
    """The sample's attributes before people spoke: as the build kept them, or what the sample still holds of them."""
    evidence = store.fact("evidence")
    if evidence and store.db.execute("select 1 from inputs where source_id=?", (sample.source.id,)).fetchone():
        notes = store.refs([sample.source.id])[0].annotations
        notes.people = []
        text = store.text(sample.uid, evidence, notes_hash(notes))
        if text is not None:
            return [Attribute.model_validate(a) for a in orjson.loads(text)["attributes"]]
    return sample.attributes


def keep_reviews(store: WorkStore, out: Path) -> None:
    """Take over what people said from the shards of a dataset whose private folder is new: downloaded, or cleaned.

    What they denied or disagreed about left no record, and is not known then.
    """
    if store.run or store.db.execute("select 1 from reviews limit 1").fetchone():
        return
    for sample in samples_in(out):
        for record in sample.attributes:
            if record.evidence.by.startswith(PEOPLE):
                for reviewer in record.evidence.by.removeprefix(PEOPLE).split("+"):
                    answer = {
                        "key": sample.uid, "attribute": record.name, "value": record.value, "reviewer": reviewer,
                        "answer": "yes", "right": "",
                    }  # fmt: skip
                    store.put_review(answer, "")
