"""`audit`: does a person lie in two splits, or in this dataset and another? One private page with the nearest pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from unif2ace_data.curate.leaks import cross_pairs, hash_distance, near_copies
from unif2ace_data.errors import UserError
from unif2ace_data.faces.analyse import analysis_config, config_hash
from unif2ace_data.faces.engine import find_pack
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.audit_page import SHOWN, write_page
from unif2ace_data.run.against import FILES, file_faces, picture_faces
from unif2ace_data.run.embeddings import CACHE, Faces, Measurer, dataset_faces
from unif2ace_data.run.private import recipe_at, work_folder
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import SPLITS
from unif2ace_data.shards import INDEX, begun, read_index

LISTED = 1000  # our choice: pairs a list in the answer; the counts are of all


@dataclass(slots=True)
class Pair:
    """`a`, `b`: sample keys (or names in OTHER); `hash_distance`: bits, the picture as it is or mirrored, -1: no picture."""

    a: str
    b: str
    cosine: float
    hash_distance: int


@dataclass(slots=True)
class Side:
    """The nearest pairs between two sets, and how many of all reach the threshold."""

    a: str
    b: str
    over: int
    pairs: list[Pair]


@dataclass(slots=True)
class Audit:
    """`measured`: samples whose embedding was measured on the crop; `copies`: near-duplicates by perceptual hash."""

    holds: bool
    pack: str
    threshold: float
    samples: dict[str, int]
    measured: int
    splits: list[Side]
    copies: list[Side]
    against: Side | None = None
    notes: list[str] = field(default_factory=list)
    page: str = ""


def audit(
    out: Path,
    against: Path | None = None,
    threshold: float | None = None,
    page: Path | None = None,
    engine: str | None = None,
    quiet: bool = False,
) -> Audit:
    """Audit the dataset at `out`; the page goes to `page`, or to `OUT.work/audit.html`.

    threshold: cosine from which two faces are one person; None: the pack's own. engine: another pack than the dataset's.
    Raises UserError: no dataset, no such pack, a page that would lie in `out`, an `against` that cannot be used.
    """
    index = read_index(out)
    if page is not None and page.resolve().is_relative_to(out.resolve()):
        raise UserError(
            f"--out {page} lies inside {out}, which travels: the page shows who resembles whom, put it beside", 2
        )
    if against is not None and not against.exists():
        raise UserError(f"--against {against}: there is no such file or folder", 2)
    recipe = recipe_at(out)
    pack = find_pack(engine or recipe.faces.engine)
    limit = pack.identity_cosine if threshold is None else threshold
    measurer = Measurer(pack, recipe.faces.detector)
    work = work_folder(out)
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    with at_hand(work) as store:
        faces = dataset_faces(out, work / CACHE, measurer, store, config_of(recipe, measurer), quiet)
    other = read_other(against, work / CACHE / "against", measurer, faces, quiet) if against else None
    splits = [entry["split"] for entry in index["shards"]]
    rows: dict[str, np.ndarray] = {
        split: np.flatnonzero(np.isin(faces.groups, places(splits, split))) for split in SPLITS
    }
    found = Audit(
        True, pack.name, limit, {split: len(rows[split]) for split in SPLITS}, faces.measured, [], [],
        notes=[*faces.notes, *(other.notes if other else [])],
    )  # fmt: skip
    for a, b in itertools.combinations(SPLITS, 2):
        found.splits.append(side(a, b, faces, rows[a], faces, rows[b], limit))
    found.copies = copies_of(
        faces, rows, recipe.duplicates.perceptual if recipe.duplicates.perceptual is not None else 4
    )
    if other is not None:
        everything = np.arange(len(faces.ids))
        found.against = side("dataset", str(against), faces, everything, other, np.arange(len(other.ids)), limit)
    found.holds = not any(s.over for s in [*found.splits, *filter(None, [found.against])])
    found.notes += said(recipe, engine, limit, found)
    target = page or work / "audit.html"
    show_page(target, out, found, faces, other)
    found.page = str(target)
    return found


def places(splits: list[str], split: str) -> list[int]:
    return [place for place, name in enumerate(splits) if name == split]


def config_of(recipe: Recipe, measurer: Measurer) -> str:
    """Under which name a build keeps its measurements with this pack."""
    return config_hash(analysis_config(recipe.faces, measurer.pack, recipe.filters.nsfw is not None))


@contextmanager
def at_hand(work: Path) -> Iterator[WorkStore | None]:
    """The build's store, where there is one."""
    if not (work / "work.sqlite").is_file():
        yield None
        return
    store = WorkStore(work)
    try:
        yield store
    finally:
        store.close()


def read_other(against: Path, cache: Path, measurer: Measurer, faces: Faces, quiet: bool) -> Faces:
    """A dataset, embeddings in a file, or pictures."""
    if against.is_dir() and ((against / INDEX).is_file() or begun(against)):
        with at_hand(work_folder(against)) as store:
            return dataset_faces(against, cache, measurer, store, config_of(recipe_at(against), measurer), quiet)
    if against.suffix in FILES and against.is_file():
        return file_faces(against, faces.vectors.shape[1])
    return picture_faces(against, cache, measurer, quiet)


def side(a: str, b: str, first: Faces, rows_a: np.ndarray, second: Faces, rows_b: np.ndarray, limit: float) -> Side:
    pairs = cross_pairs(first.vectors[rows_a], second.vectors[rows_b], limit, LISTED)
    one, two = rows_a[pairs.first], rows_b[pairs.second]
    pictured = len(first.hashes) and len(second.hashes)
    bits = hash_distance(first.hashes[one], second.hashes[two]) if pictured else np.full(len(one), -1)
    return Side(
        a, b, pairs.over,
        [
            Pair(first.ids[i], second.ids[j], round(float(c), 4), int(d))
            for i, j, c, d in zip(one, two, pairs.cosines, bits, strict=True)
        ],
    )  # fmt: skip


def copies_of(faces: Faces, rows: dict[str, np.ndarray], distance: int) -> list[Side]:
    """Near-duplicates across splits by perceptual hash, whatever the embeddings say."""
    split_of = np.zeros(len(faces.ids), np.int64)
    for place, split in enumerate(SPLITS):
        split_of[rows[split]] = place
    sides = {pair: Side(*pair, 0, []) for pair in itertools.combinations(SPLITS, 2)}
    for one, two, bits in near_copies(faces.hashes, split_of, distance):
        first, second = sorted((one, two), key=lambda i: split_of[i])
        here = sides[SPLITS[split_of[first]], SPLITS[split_of[second]]]
        here.over += 1
        if len(here.pairs) < LISTED:
            cosine = round(float(faces.vectors[first] @ faces.vectors[second]), 4)
            here.pairs.append(Pair(faces.ids[first], faces.ids[second], cosine, bits))
    return list(sides.values())


def said(recipe: Recipe, engine: str | None, limit: float, found: Audit) -> list[str]:
    notes = []
    built = recipe.identities.min_cosine
    if built is not None and engine is None and built != limit:
        notes.append(f"the splits were made at identities.min_cosine={built:g}, the audit is at {limit:g}")
    if found.measured:
        notes.append(
            f"{found.measured} embeddings were measured on the crops: they differ a little from those that a build measures "
            "on the photographs, so a pair close to the threshold may fall on the other side"
        )
    return notes


def show_page(target: Path, out: Path, found: Audit, faces: Faces, other: Faces | None) -> None:
    """The page with thumbnails of the pairs that it shows."""
    place = {key: row for row, key in enumerate(faces.ids)}
    shown = [pair for s in [*found.splits, *found.copies] for pair in s.pairs[:SHOWN]]
    ours = {place[key] for pair in shown for key in (pair.a, pair.b)}
    pictures: dict[str, tuple[str, bytes]] = {}
    theirs: dict[str, tuple[str, bytes]] = {}
    if found.against and other:
        listed = found.against.pairs[:SHOWN]
        ours |= {place[pair.a] for pair in listed}
        other_place = {key: row for row, key in enumerate(other.ids)}
        for row, face in other.show(sorted({other_place[pair.b] for pair in listed})).items():
            theirs[other.ids[row]] = (face.source, face.jpeg)
    for row, face in faces.show(sorted(ours)).items():
        pictures[faces.ids[row]] = (face.source, face.jpeg)
    write_page(target, str(out.resolve().name), asdict(found), pictures, theirs)
