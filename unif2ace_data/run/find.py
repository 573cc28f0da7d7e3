"""Which photographs are meant: by key, by source id, by hash, or by a photo like them; and which copies go with them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from unif2ace_data.curate.removal import Tombstones, face_kind, likeness, look_of, look_of_jpeg, stone_of
from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.align import crop_jpeg
from unif2ace_data.faces.analyse import Analyser, analysis_config, config_hash, first_look
from unif2ace_data.faces.engine import Pack, find_pack
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.read import read_mapping
from unif2ace_data.run.embeddings import crop_vector
from unif2ace_data.run.erase import looks_in_store
from unif2ace_data.run.pack import ledger_part
from unif2ace_data.run.rewrite import Shard
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_samples
from unif2ace_data.sources.read import read_input

SURVIVOR = re.compile(r"survivor (\S+)")  # the ledger's detail of a duplicate (run/decide.py)


@dataclass(slots=True)
class Photograph:
    """One photograph of the dataset or of its private ledger. `sources`: source id -> dataset, of every copy of its bytes.

    `keys`: of its samples that are kept; `face_keys`: of all its faces; `survivors`: keys for which it was dropped as their
    duplicate; `photo`, `faces`: its looks (curate/removal.py), where they are known.
    """

    sha256: str
    sources: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    face_keys: list[str] = field(default_factory=list)
    split: str = ""
    survivors: set[str] = field(default_factory=set)
    photo: np.ndarray | None = None
    faces: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Match:
    """Why a photograph is meant; `score`: share of equal signs, or cosine of the faces (1.0: the same bytes)."""

    why: str
    score: float = 1.0


def photographs(store: WorkStore, out: Path, shards: list[Shard]) -> dict[str, Photograph]:
    """By SHA-256: those that are kept, and (where the private ledger is here) those that were dropped after measuring."""
    found: dict[str, Photograph] = {}
    columns = ["key", "source_id", "dataset", "sha256", "split"]
    full = store.folder / "ledger.parquet"
    paths = [ledger_part(out, shard.name) for shard in shards]
    for path in [*paths, *([full] if full.is_file() else [])]:
        more = ["status", "detail"] if path == full else []
        for row in pq.read_table(path, columns=columns + more).to_pylist():
            if not row["sha256"]:
                continue
            photo = found.setdefault(row["sha256"], Photograph(row["sha256"]))
            photo.sources[row["source_id"]] = row["dataset"]
            if row["key"] and row["key"] not in photo.face_keys:
                photo.face_keys.append(row["key"])
            if path != full:
                photo.keys.append(row["key"])
                photo.split = row["split"]
            elif row["status"] == "dropped" and (survivor := SURVIVOR.fullmatch(row["detail"])):
                photo.survivors.add(survivor[1])
    return found


# ------------------------------------------------------------------ selectors


def by_key(known: dict[str, Photograph], key: str) -> dict[str, Match]:
    """A key, or a beginning of keys that all belong to one photograph. Raises UserError."""
    keys = {name: photo.sha256 for photo in known.values() for name in photo.face_keys}
    if key in keys:
        return {keys[key]: Match("key")}
    begun = sorted(name for name in keys if key and name.startswith(key))
    if not begun:
        raise UserError(f"no sample {key!r}: unif2ace-data show, or the ledger, has the keys", 2)
    if len({keys[name] for name in begun}) > 1:
        raise UserError(f"{key!r} begins {len(begun)} keys: {', '.join(begun[:4])} …; give more of it", 2)
    return {keys[begun[0]]: Match("key")}


def by_source(known: dict[str, Photograph], source_id: str) -> dict[str, Match]:
    found = {photo.sha256: Match("source id") for photo in known.values() if source_id in photo.sources}
    if not found:
        example = next((s for photo in known.values() for s in photo.sources), "")
        raise UserError(
            f"no photograph has the source id {source_id!r} (they look like {example!r}; `show KEY` tells a sample's)",
            2,
        )
    return found


def by_sha256(known: dict[str, Photograph], sha256: str) -> dict[str, Match]:
    wanted = sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise UserError(f"--sha256 {sha256}: a SHA-256 has 64 hex digits (sha256sum photo.jpg)", 2)
    if wanted not in known:
        raise UserError(f"no photograph here has the SHA-256 {wanted}", 2)
    return {wanted: Match("SHA-256")}


def by_likeness(
    store: WorkStore, out: Path, shards: list[Shard], known: dict[str, Photograph], recipe: Recipe, path: Path
) -> tuple[dict[str, Match], list[str]]:
    """(photographs of the same bytes, with nearly the same picture, or of the same face; notes). Raises UserError.

    Of several faces in `path` the largest counts. Faces are compared through the pack that the dataset was built with, or
    not at all: embeddings of another say nothing.
    """
    if not path.is_file():
        raise UserError(f"--like {path}: there is no such file", 2)
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    found = {sha256: Match("same bytes")} if sha256 in known else {}
    try:
        photo = look_of_decoded(data)
    except InputError as error:
        raise UserError(f"--like {path}: {error.message}", 2) from None
    pack = pack_of(out, recipe)
    notes: list[str] = []
    face: np.ndarray | None = None
    vector: np.ndarray | None = None
    if pack is None:
        notes.append(
            f"faces were not compared: the face pack {recipe.faces.engine!r} of this dataset is not installed here"
        )
    else:
        analyser = Analyser(recipe.faces)
        analysis = analyser.analyse(data)
        if analysis.record.faces and analysis.record.faces[0].measured:
            quad = np.array(analysis.record.faces[0].quad)
            face = look_of_jpeg(crop_jpeg(data, quad, recipe.faces.align, analysis.decoded)[0])
            vector = analysis.embeddings[0]
        else:
            notes.append(f"no face was found in {path}: it was compared as a picture alone")
    for other in known.values():
        pairs = [(photo, other.photo)] if other.photo is not None else []
        pairs += [(face, mine) for mine in other.faces] if face is not None else []
        like = [likeness(a, b) for a, b in pairs]
        if other.sha256 not in found and any(same for same, _ in like):
            found[other.sha256] = Match("nearly the same picture", round(max(share for same, share in like if same), 4))
    if pack is not None and vector is not None:
        limit = recipe.identities.min_cosine or pack.identity_cosine
        for other_sha, cosine in cosines(store, out, shards, known, recipe, pack, analyser, vector):
            if other_sha not in found and cosine >= limit:
                found[other_sha] = Match("the same face", round(cosine, 4))
    if not found:
        raise UserError(f"--like {path}: nothing here is like it. {' '.join(notes)}".strip(), 2)
    return found, notes


def pack_of(out: Path, recipe: Recipe) -> Pack | None:
    """The face pack of the dataset at `out`; None where it is not here, or other files lie under its name."""
    try:
        pack = find_pack(recipe.faces.engine)
    except UserError:
        return None
    built_with = read_mapping(out / "recipe.yaml").get("resolved", {}).get("models", {})
    return pack if all(built_with.get(name) == sha256 for name, sha256 in pack.files.items()) else None


def cosines(
    store: WorkStore, out: Path, shards: list[Shard], known: dict[str, Photograph], recipe: Recipe, pack: Pack,
    analyser: Analyser, vector: np.ndarray,
) -> Iterator[tuple[str, float]]:  # fmt: skip
    """(SHA-256, the greatest cosine of its faces with `vector`): from the store, or from the crops where it is not here."""
    config = config_hash(analysis_config(recipe.faces, pack, recipe.filters.nsfw is not None))
    if store.has_analyses(config):
        for sha256 in known:
            analysis = store.analysis(sha256, config)
            if analysis is not None and len(analysis[1]) and analysis[1].shape[1] == len(vector):
                yield sha256, float((analysis[1] @ vector).max())
        return
    for shard in shards:
        for key, files in read_samples(out / shard.name):
            face = crop_vector(out / shard.name, key, files["jpg"], files["json"], analyser.engine)
            yield Sample.model_validate_json(files["json"]).source.sha256, float(face @ vector)


# ------------------------------------------------------------------ looks, and who goes along


def look_of_decoded(data: bytes) -> np.ndarray:
    return look_of(Image.fromarray(first_look(data).rgb))


def add_looks(store: WorkStore, out: Path, shards: list[Shard], known: dict[str, Photograph]) -> None:
    """Fill in what is known of how the photographs look: from the store, and from the crops in the shards."""
    for sha256, photo, faces in looks_in_store(store, store.fact("crops")):
        if sha256 in known:
            known[sha256].photo, known[sha256].faces = photo, faces
    if all(photo.faces for photo in known.values() if photo.keys):
        return
    for shard in shards:
        for _, files in read_samples(out / shard.name):
            photograph = known[Sample.model_validate_json(files["json"]).source.sha256]
            if len(photograph.faces) < len(photograph.keys):
                photograph.faces.append(look_of_jpeg(files["jpg"]))


def look_from_source(store: WorkStore, photograph: Photograph) -> None:
    """The look of the whole photo from its source, where the store has none and the source still has it."""
    for source_id in photograph.sources if photograph.photo is None else ():
        try:
            ref = store.refs([source_id])[0]
            data = read_input(ref)
            if ref.kind != "video" and hashlib.sha256(data).hexdigest() == photograph.sha256:
                photograph.photo = look_of_decoded(data)
                return
        except (InputError, KeyError):
            continue


def with_copies(
    store: WorkStore, known: dict[str, Photograph], found: dict[str, Match], stones: Tombstones, recipe: Recipe
) -> tuple[dict[str, Match], Tombstones]:
    """What goes along with `found`, and the tombstones with theirs.

    Duplicates that were dropped in favour of a removed photograph (they would take its place), and what its tombstone would
    keep out of the next build: so that nothing is left for that to change.
    """
    kind = face_kind(recipe.faces.align)
    meant = dict(found)
    new = list(found)
    while new:
        for sha256 in new:
            look_from_source(store, known[sha256])
        stones = stones.joined([stone(known[s], stones, kind) for s in new])
        gone = {key for sha256 in meant for key in known[sha256].face_keys}
        new = []
        for photo in known.values():
            if photo.sha256 in meant:
                continue
            if photo.survivors & gone:
                meant[photo.sha256] = Match("its duplicate")
                new.append(photo.sha256)
            elif stones.has_any(photo.photo, kind, photo.faces):
                meant[photo.sha256] = Match("nearly the same picture as one that goes")
                new.append(photo.sha256)
    return meant, stones


def stone(photo: Photograph, stones: Tombstones, kind: str) -> dict[str, Any]:
    return stone_of(stones.key, photo.sha256, photo.photo, kind, photo.faces)


def sorted_matches(found: Iterable[tuple[str, Match]]) -> list[tuple[str, Match]]:
    """The best first."""
    return sorted(found, key=lambda pair: (-pair[1].score, pair[0]))
