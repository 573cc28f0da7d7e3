"""From kept rows to shards on disk: plan, write what is missing, move everything into place, the index last.

A shard is planned by its fingerprint (everything that decides its bytes). Finished tars wait under
`shards.work/staging/` by fingerprint, so a kill costs at most the shard being written; the folder that users see
changes only in `publish`, which deletes the index first and writes it last.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from unif2ace_data import __version__
from unif2ace_data.captions.text import notes_hash, text_of
from unif2ace_data.errors import UserError
from unif2ace_data.faces.align import into_crop
from unif2ace_data.filters import face_px
from unif2ace_data.qa.basis import still_resting
from unif2ace_data.recipe import Recipe
from unif2ace_data.run.decide import Row
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import (
    QA,
    SCHEMA_VERSION,
    SPLITS,
    Face,
    FaceRecord,
    Image,
    InputRef,
    PhotoRecord,
    Sample,
    Source,
    Split,
)
from unif2ace_data.shards import INDEX, ShardInfo, sha256_file, write_shard, writing

PACK_VERSION = 1  # raise it when the same measurements would give other bytes
SAMPLE_OVERHEAD = 16_000  # generous bytes for headers, JSON and text of one sample, to choose the prefix depth
SHARD_NAME = re.compile(r"(train|validation|test)-\d{6}\.tar")
TEXT_COLUMNS = {
    "captioner": pa.string(), "claims": pa.int32(), "unverified": pa.int32(), "removed": pa.string(),
}  # fmt: skip
ROW_GROUP = 50_000  # rows of a ledger
NAMES = "names"  # the fact that holds which shard has which prefix, since something was removed
PRIVATE_COLUMNS = ("reason", "value", "threshold", "detail", "status")  # nothing to say about a kept row


@dataclass(slots=True)
class Planned:
    """One shard to be: its name, which key prefix it holds, its rows in key order, and what decides its bytes.

    `base`: what decides all but captions and questions, which other commands than `build` may renew.
    """

    name: str
    split: str
    prefix: str
    rows: list[Row]
    fingerprint: str
    base: str = ""


def plan_shards(
    store: WorkStore, kept: list[Row], config: str, parts: list[str], texts: str, digits: int
) -> list[Planned]:
    """Group by split and the first `digits` hex digits of the key; number the groups of a split without gaps.

    After a removal the shards that are left keep their numbers, so that no other shard changes; there may be gaps then.
    `parts`: hashes of what decides the crops and the rest of a sample, `texts` of what decides the captions.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in kept:
        groups[row.split, row.key[:digits]].append(row)
    decided = orjson.dumps([PACK_VERSION, __version__, SCHEMA_VERSION, *parts])
    planned = []
    for split in SPLITS:
        prefixes = sorted(prefix for s, prefix in groups if s == split)
        for number, prefix in numbered(split, prefixes, settled_names(store, digits)):
            rows = sorted(groups[split, prefix], key=lambda r: (r.key[:32], r.face))
            digest = hashlib.sha256(decided)
            for row in rows:
                digest.update(fingerprint_of(store, row, config))
            base = digest.hexdigest()
            fingerprint = fingerprint_with(store, base, texts, [row.key for row in rows])
            planned.append(Planned(f"{split}-{number:06d}.tar", split, prefix, rows, fingerprint, base))
    return planned


def settled_names(store: WorkStore, digits: int) -> dict[str, str]:
    """`split/prefix` -> name of the shards that a removal has left, while the prefixes are as long as they were."""
    fact = store.fact(NAMES)
    settled: dict[str, Any] = orjson.loads(fact) if fact else {"digits": -1, "names": {}}
    names: dict[str, str] = settled["names"]
    return names if settled["digits"] == digits else {}


def numbered(split: Split, prefixes: list[str], names: dict[str, str]) -> list[tuple[int, str]]:
    """(number, prefix) by number: settled ones keep theirs, the others follow, without gaps where none is settled."""
    settled = {
        p: int(names[f"{split}/{p}"][len(split) + 1 : -len(".tar")]) for p in prefixes if f"{split}/{p}" in names
    }
    after = max(settled.values(), default=-1) + 1
    new = enumerate((p for p in prefixes if p not in settled), after)
    return sorted([(number, prefix) for prefix, number in settled.items()] + list(new))


def fingerprint_with(store: WorkStore, base: str, texts: str, keys: list[str]) -> str:
    """What decides a shard's bytes: its base, its captions, and the questions that the store has for its samples."""
    digest = hashlib.sha256(f"{base} {texts}\n".encode())
    for key in keys:
        if store.only_kept(key, texts):
            digest.update(f"{key} keeps its caption\n".encode())
        asked = store.qa(key)
        if asked is not None:
            digest.update(key.encode() + asked[0].encode() + asked[1])
    return digest.hexdigest()


def fingerprint_of(store: WorkStore, row: Row, config: str) -> bytes:
    blob, ref = store.db.execute(
        "select a.record, i.ref from analyses a, inputs i where a.sha256=? and a.config=? and i.source_id=?",
        (row.sha256, config, row.source_id),
    ).fetchone()
    notes = orjson.dumps(orjson.loads(ref)["annotations"])
    if people := store.people(row.key):
        notes += orjson.dumps(people)
    return hashlib.sha256(orjson.dumps([row.key, row.source_id, row.split, row.vouched]) + blob + notes).digest()


def prefix_digits(store: WorkStore, kept: list[Row], recipe: Recipe, crops: str) -> int:
    """How many hex digits of the key name a shard: as the recipe says, or the fewest that keep shards small enough."""
    if recipe.shards.prefix_digits != "auto":
        return int(recipe.shards.prefix_digits)
    fact = store.fact(NAMES)
    least = int(orjson.loads(fact)["digits"]) if fact else 0  # with fewer after a removal, every shard would change
    sizes = {
        row.key: store.db.execute(
            "select length(jpeg) from crops where key=? and config=?", (row.key, crops)
        ).fetchone()[0]
        for row in kept
    }
    for digits in range(least, 5):
        groups: Counter[tuple[str, str]] = Counter()
        for row in kept:
            groups[row.split, row.key[:digits]] += sizes[row.key] + SAMPLE_OVERHEAD
        if max(groups.values(), default=0) <= recipe.shards.max_bytes:
            return digits
    raise UserError("one key prefix of 5 digits holds more than shards.max_bytes: raise shards.max_bytes")


# ------------------------------------------------------------------ samples


def sample_of(
    row: Row, ref: InputRef, record: PhotoRecord, side: int, padded: float, text: bytes, recipe: Recipe, licence: str
) -> Sample:
    """The whole sample of a kept row; `text` as captions.text.text_of gives it, `licence` where the photo's own is silent."""
    face, notes = record.faces[row.face], ref.annotations
    return Sample(
        uid=row.key,
        schema_version=SCHEMA_VERSION,
        split=split_name(row),
        source=Source(
            dataset=ref.dataset, id=ref.source_id, sha256=record.sha256,
            licence=notes.licence or licence, author=notes.author, url=notes.url, captions="\n".join(notes.captions),
        ),
        image=Image(
            width=side, height=side, align=recipe.faces.align.mode, quad=face.quad,
            source_width=record.width, source_height=record.height, padded=padded,
        ),
        face=face_in_crop(face, np.array(face.quad, np.float64), side),
        qa=[],
        **orjson.loads(text),
    )  # fmt: skip


def split_name(row: Row) -> Split:
    return next(split for split in SPLITS if split == row.split)


def face_in_crop(face: FaceRecord, quad: np.ndarray, side: int) -> Face:
    """The face's points in crop pixels; the box is the upright one around the turned corners."""
    x1, y1, x2, y2 = face.box
    corners = into_crop(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), quad, side)
    box = [*corners.min(0), *corners.max(0)]
    return Face(
        box=[round(float(v), 1) for v in box],
        landmarks=[[round(float(x), 1), round(float(y), 1)] for x, y in into_crop(np.array(face.landmarks), quad, side)],
        score=face.score, face_px=face_px(face), yaw=face.yaw, pitch=face.pitch, roll=face.roll,
        sharpness=face.quality["sharpness"], brightness=face.quality["brightness"],
    )  # fmt: skip


def samples_of(
    store: WorkStore, rows: list[Row], recipe: Recipe, config: str, crops: str, texts: str, licences: dict[str, str]
) -> Iterator[tuple[str, bytes, Sample]]:
    """(key, JPEG, sample) of kept rows, in order. A text that no worker has made (a threshold was changed) is made here."""
    for row in rows:
        stored, crop, ref = (
            store.analysis(row.sha256, config),
            store.crop(row.key, crops),
            store.refs([row.source_id])[0],
        )
        if stored is None or crop is None:
            raise UserError(f"{store.folder} lost the measurements of {row.source_id}: run the build again")
        record, (jpeg, side, padded) = stored[0], crop
        notes = notes_hash(ref.annotations)
        text = store.text(row.key, texts, notes, or_kept=True)
        if text is None:
            text = text_of(row.key, record.faces[row.face], ref.annotations, recipe, jpeg)
            store.put_text(row.key, texts, notes, text)
        sample = sample_of(row, ref, record, side, padded, text, recipe, licences.get(ref.dataset, ""))
        yield row.key, jpeg, with_questions(store, sample)


def with_questions(store: WorkStore, sample: Sample) -> Sample:
    """The sample with those of the questions asked about it that rest on what is still the same."""
    return with_these(store.qa(sample.uid), sample)


def with_these(asked: tuple[str, bytes] | None, sample: Sample) -> Sample:
    """The same, of what the store has (WorkStore.qa)."""
    if asked is None:
        return sample.model_copy(update={"qa": []})
    basis, questions = asked[0], [QA.model_validate(q) for q in orjson.loads(asked[1])]
    return sample.model_copy(update={"qa": still_resting(questions, basis, sample)})


def set_text_facts(store: WorkStore, kept: list[Row], texts: str) -> None:
    """Fill the columns that tell of captions, in place."""
    for row in kept:
        facts = store.text_facts(row.key, texts, notes_hash(store.refs([row.source_id])[0].annotations))
        if facts is not None:
            row.captioner, row.claims = facts["captioner"], facts["claims"]
            row.unverified, row.removed = facts["unverified"], facts["removed"]


# ------------------------------------------------------------------ writing and publishing


@dataclass(frozen=True, slots=True)
class Packed:
    """A finished shard and its ledger part."""

    shard: ShardInfo
    ledger_sha256: str


def write_missing(
    store: WorkStore,
    planned: list[Planned],
    samples: Callable[[list[Row]], Iterator[tuple[str, bytes, Sample]]],
    texts: str,
    out: Path,
    max_bytes: int,
    tick: Callable[[int], None],
) -> dict[str, Packed]:
    """Stage every shard (and its ledger part) that is neither in `out` nor staged; returns the facts by fingerprint."""
    staging = store.folder / "staging"
    staging.mkdir(exist_ok=True)
    for leftover in staging.glob(".*.partial"):
        leftover.unlink()
    there = set(shards_in_place(out).values())
    packed: dict[str, Packed] = {}
    for shard in planned:
        known = written(store, shard.fingerprint)
        staged = staging / f"{shard.fingerprint}.tar"
        ledger = staging / f"{shard.fingerprint}.parquet"
        if known is None or not (hashes_of(known) in there or (staged.is_file() and ledger.is_file())):
            info = write_shard(staged, samples(shard.rows))
            if info.bytes > max_bytes:
                staged.unlink()
                raise UserError(
                    f"shard {shard.name} would hold {info.bytes} bytes, more than shards.max_bytes = {max_bytes}: "
                    f"use --set shards.prefix_digits={len(shard.prefix) + 1}"
                )
            known = Packed(info, write_ledger(ledger, shard.rows, public=True))
            remember(store, shard.fingerprint, known, shard.base, texts)
        packed[shard.fingerprint] = known
        tick(len(shard.rows))
    return packed


def written(store: WorkStore, fingerprint: str) -> Packed | None:
    row = store.db.execute(
        "select sha256, bytes, samples, ledger_sha256 from packed where fingerprint=?", (fingerprint,)
    ).fetchone()
    return Packed(ShardInfo(row[0], row[1], row[2]), row[3]) if row else None


def remember(store: WorkStore, fingerprint: str, packed: Packed, base: str, texts: str) -> None:
    store.db.execute(
        "insert or replace into packed values (?,?,?,?,?,?,?)",
        (
            fingerprint, packed.shard.sha256, packed.shard.bytes, packed.shard.samples, packed.ledger_sha256, base, texts,
        ),
    )  # fmt: skip


def shards_in_place(out: Path) -> dict[str, tuple[str, str]]:
    """Name -> SHA-256 of each shard in `out` and of its ledger part ("": none)."""
    found = {}
    for path in sorted(out.glob("*.tar")) if out.is_dir() else []:
        part = ledger_part(out, path.name)
        found[path.name] = (sha256_file(path), sha256_file(part) if part.is_file() else "")
    return found


def hashes_of(packed: Packed | None) -> tuple[str, str] | None:
    return (packed.shard.sha256, packed.ledger_sha256) if packed else None


def publish(store: WorkStore, planned: list[Planned], out: Path) -> None:
    """Move shards and ledger parts to their names; remove what is no longer part of the dataset. Resumable anywhere.

    Only files that this toolkit names are touched: `{split}-NNNNNN.tar` and their ledger parts. What is in place is told
    by its bytes: two fingerprints may give the same. Raises UserError, with nothing removed, where a shard is missing.
    """
    staging = store.folder / "staging"
    (out / "ledger").mkdir(parents=True, exist_ok=True)
    there = shards_in_place(out)
    wanted = {shard.name: shard.fingerprint for shard in planned}
    hashes = {name: hashes_of(written(store, fingerprint)) for name, fingerprint in wanted.items()}
    right = {name for name in wanted if there.get(name) is not None and there[name] == hashes[name]}
    if right == set(wanted) == set(names_in(out)):
        remove_leftovers(staging)
        remove_strays(out, wanted)  # a kill may have fallen between a shard that goes and its ledger part
        return
    elsewhere = {there[name]: name for name in there if name not in right}
    for name in set(wanted) - right:
        staged, part = staging / f"{wanted[name]}.tar", ledger_part(out, name)
        has_ledger = staged.with_suffix(".parquet").is_file() or part.is_file()  # a kill may fall between the two
        if not (staged.is_file() and has_ledger) and hashes[name] not in elsewhere:
            raise UserError(
                f"{name} is neither in {out} nor staged: run `unif2ace-data build` again; nothing was removed"
            )
    (out / INDEX).unlink(missing_ok=True)
    for name in sorted(set(wanted) - right):  # a shard under another number keeps its bytes
        present = elsewhere.get(hashes[name] or ("", ""))
        staged = staging / f"{wanted[name]}.tar"
        if present is not None and (out / present).is_file() and not staged.is_file():
            ledger_part(out, present).replace(staged.with_suffix(".parquet"))
            (out / present).replace(staged)
    for name in set(names_in(out)) - right:
        (out / name).unlink(missing_ok=True)
        ledger_part(out, name).unlink(missing_ok=True)
    for name in sorted(set(wanted) - right):
        staged = staging / f"{wanted[name]}.tar"
        if staged.with_suffix(".parquet").is_file():
            staged.with_suffix(".parquet").replace(ledger_part(out, name))
        staged.replace(out / name)
    remove_strays(out, wanted)
    remove_leftovers(staging)


def remove_strays(out: Path, wanted: Iterable[str]) -> None:
    """Ledger parts of shards that are gone."""
    parts = {ledger_part(out, name) for name in wanted}
    for part in (out / "ledger").glob("kept-*.parquet"):
        if part not in parts:
            part.unlink()


def remove_leftovers(staging: Path) -> None:
    """What a run staged that was killed and not taken up again: with the dataset in place, nobody asks for it."""
    for path in staging.glob("*") if staging.is_dir() else []:
        path.unlink()


def names_in(out: Path) -> list[str]:
    return sorted(p.name for p in out.glob("*.tar") if SHARD_NAME.fullmatch(p.name))


def ledger_part(out: Path, shard: str) -> Path:
    return out / "ledger" / f"kept-{shard.removesuffix('.tar')}.parquet"


def write_ledger(path: Path, rows: list[Row], public: bool) -> str:
    """Write rows as parquet, in the order given; returns the file's SHA-256. `public`: a kept row's columns only."""
    columns = {f.name: ARROW_TYPES[str(f.type)] for f in fields(Row) if not (public and f.name in PRIVATE_COLUMNS)}
    with writing(path) as file, pq.ParquetWriter(file, pa.schema(columns), compression="zstd") as writer:
        for start in range(0, max(1, len(rows)), ROW_GROUP):  # never all of a million rows beside the rows themselves
            some = rows[start : start + ROW_GROUP]
            arrays = [pa.array([getattr(row, name) for row in some], kind) for name, kind in columns.items()]
            writer.write_table(pa.table(arrays, names=list(columns)), ROW_GROUP)
    return sha256_file(path)


def write_table(path: Path, table: pa.Table) -> str:
    """Write a ledger; returns the file's SHA-256."""
    with writing(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
    return sha256_file(path)


ARROW_TYPES = {"str": pa.string(), "Status": pa.string(), "float": pa.float64(), "int": pa.int32(), "bool": pa.bool_()}
