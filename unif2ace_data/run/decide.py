"""From measurements to decisions: one ledger row for every input, and who survives. No picture is touched here.

A pure function of what is stored and of the recipe, computed anew on every run: it is cheap, and so a changed
threshold needs nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from unif2ace_data.curate.identities import cluster_identities, crowded, uncrowded_cosine
from unif2ace_data.curate.removal import REMOVED
from unif2ace_data.curate.splits import assign_splits, join_by_photo
from unif2ace_data.dedup import Duplicate, face_duplicates, perceptual_duplicates, ranking
from unif2ace_data.faces.engine import Pack
from unif2ace_data.filters import Drop, adult, face_drop, face_px, open_gate_notes, photo_drop
from unif2ace_data.recipe import Recipe
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import SPLITS, Annotations, FaceRecord, InputRef, PhotoRecord, Split, Status, sample_key

RELEASE = "@release"  # dataset name of an earlier release's test samples: they guide the splits and are no inputs
SETTLED = "settled"  # the fact under which recipe the table `settled` holds
NAN = float("nan")
MANY = 2000  # our choice: with fewer faces the note about a crowded cluster does not name a threshold


@dataclass(slots=True)
class Row:
    """One row of the full ledger."""

    source_id: str
    dataset: str
    status: Status
    reason: str = ""
    value: float = NAN
    threshold: float = NAN
    detail: str = ""
    key: str = ""
    face: int = -1
    sha256: str = ""
    width: int = 0
    height: int = 0
    n_faces: int = 0
    score: float = NAN
    face_px: float = NAN
    yaw: float = NAN
    pitch: float = NAN
    roll: float = NAN
    sharpness: float = NAN
    brightness: float = NAN
    age: float = NAN
    p_female: float = NAN
    split: str = ""
    vouched: bool = False  # somebody says that the source holds adults only: the adult gate was not asked
    captioner: str = ""  # engine and model that wrote the caption
    claims: int = 0  # that the caption makes
    unverified: int = 0  # of them: nothing measured speaks for or against them
    removed: str = ""  # claims that the evidence contradicted, and that were rewritten or cut


@dataclass(slots=True)
class Standing:
    """A face that passed the filters; `photo` numbers the photo it comes from. `embedding`: (D,) float32, as bytes."""

    row: Row
    phash: int
    photo: int
    embedding: bytes


@dataclass(slots=True)
class Decision:
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> list[Row]:
        return [row for row in self.rows if row.status == "kept"]

    def counts(self) -> Counter[str]:
        """Rows by status and, for those that are not kept, by reason."""
        return Counter(row.status for row in self.rows)

    def reasons(self) -> Counter[str]:
        return Counter(row.reason for row in self.rows if row.status != "kept")


@dataclass(slots=True)
class Filtered:
    """What the filters leave, before faces are compared with each other.

    `released`: test faces of an earlier release; `lost_tests`: those of its test samples that could not be measured.
    """

    rows: list[Row]
    standing: list[Standing]
    released: list[np.ndarray]
    lost_tests: int


def decide(store: WorkStore, config: str, recipe: Recipe, pack: Pack) -> Decision:
    """The whole ledger, rows sorted by key (or hash) and source id; splits of the kept."""
    found = filtered(store, config, recipe)
    drop_duplicates(found.standing, recipe, pack)
    kept = [s for s in found.standing if s.row.status == "kept"]
    notes = set_splits(kept, found.released, recipe, pack, settled_splits(store, recipe))
    notes += gate_note(found.rows) + open_gate_notes(recipe)
    if found.lost_tests:
        notes.append(
            f"{found.lost_tests} test samples of the earlier release could not be read or show no face: their people may have "
            "gone to another split"
        )
    found.rows.sort(key=lambda row: (row.key or row.sha256[:32], row.face, row.source_id))
    return Decision(found.rows, notes)


def filtered(store: WorkStore, config: str, recipe: Recipe) -> Filtered:
    """A row for every input (several where each face is a sample), by what the filters say of each photo alone."""
    rows: list[Row] = []
    standing: list[Standing] = []
    released: list[np.ndarray] = []
    lost_tests, photo_number = 0, 0
    analysed: list[tuple[InputRef, PhotoRecord, np.ndarray]] = []  # copies of one photo, which come one after another

    def settle_copies() -> None:
        """The first copy survives; what any copy's source says of age, and whether any is vouched for, counts for all."""
        nonlocal photo_number
        if not analysed:
            return
        photo_number += 1
        first, record, embeddings = analysed[0]
        gate = gate_notes([ref for ref, _, _ in analysed])
        for row, face_index in face_rows(first, record, gate, recipe):
            row.vouched = recipe.subjects == "adults" or gate.adults
            rows.append(row)
            if row.status == "kept":
                standing.append(
                    Standing(row, int(record.phash or "0", 16), photo_number, embeddings[face_index].tobytes())
                )
        for ref, copy, _ in analysed[1:]:
            drop = Drop("exact_duplicate", 0, 0, f"same bytes as {first.source_id}")
            rows.append(photo_row(ref, copy, "dropped", drop))
        analysed.clear()

    for source_id, ref, record, embeddings, error in store.analysed(config):
        if ref.dataset == RELEASE:
            if record is not None and record.faces and record.faces[0].measured:
                released.append(embeddings[0])
            else:
                lost_tests += 1
            continue
        if record is None:
            code, message = error or ("not_analysed", "the run stopped before this input")
            status: Status = ref.problem_status if ref.problem else "dropped" if code == REMOVED else "failed"
            rows.append(Row(source_id, ref.dataset, status, code, detail=message))
            continue
        if analysed and analysed[0][1].sha256 != record.sha256:
            settle_copies()
        analysed.append((ref, record, embeddings))
    settle_copies()
    return Filtered(rows, standing, released, lost_tests)


def gate_notes(copies: list[InputRef]) -> Annotations:
    """What the adult gate asks of the sources: every age that is stated for any copy, and whether any is vouched for."""
    ages = [a for ref in copies for a in ref.annotations.attributes if a["name"] == "source_age"]
    return Annotations(attributes=ages, adults=any(ref.annotations.adults for ref in copies))


def face_rows(ref: InputRef, record: PhotoRecord, gate: Annotations, recipe: Recipe) -> list[tuple[Row, int]]:
    """One row for the photo, or one a face where each face is its own sample. `gate`: what gate_notes gathered."""
    if record.error is not None:
        row = photo_row(ref, record, "failed", None)
        row.reason, row.detail = record.error
        return [(row, -1)]
    drop = photo_drop(record, recipe)
    if drop is not None:
        return [(photo_row(ref, record, "dropped", drop), -1)]
    single = recipe.faces.per_photo == "one"
    found = []
    for index, face in enumerate(record.faces):
        drop = face_drop(face, record, gate, recipe) or neighbour_drop(index, record, gate, recipe)
        row = photo_row(ref, record, "dropped" if drop else "kept", drop)
        row.key, row.face = sample_key(record.sha256, index, single), index
        fill_face(row, face)
        found.append((row, index))
    return found


def neighbour_drop(index: int, record: PhotoRecord, gate: Annotations, recipe: Recipe) -> Drop | None:
    """A crop reaches beyond its own face: nobody whom the adult gate keeps out may stand in somebody else's."""
    if len(record.faces) == 1:
        return None
    quad = np.array(record.faces[index].quad)
    for other, face in enumerate(record.faces):
        if other != index and (refused := adult(face, record, gate, recipe)) and touches(quad, face):
            return Drop(
                "adult", refused.value, refused.threshold, f"face {other} of the photo in this crop: {refused.detail}"
            )
    return None


def touches(quad: np.ndarray, face: FaceRecord) -> bool:
    """Whether a landmark or the middle of `face` lies in the square `quad` (4, 2)."""
    x1, y1, x2, y2 = face.box
    points = np.array([*face.landmarks, [(x1 + x2) / 2, (y1 + y2) / 2]]) - quad[0]
    along = [
        (points @ (quad[i] - quad[0])) / max(float((quad[i] - quad[0]) @ (quad[i] - quad[0])), 1e-9) for i in (1, 3)
    ]
    return bool(((along[0] >= 0) & (along[0] <= 1) & (along[1] >= 0) & (along[1] <= 1)).any())


def photo_row(ref: InputRef, record: PhotoRecord, status: Status, drop: Drop | None) -> Row:
    row = Row(
        ref.source_id, ref.dataset, status,
        sha256=record.sha256, width=record.width, height=record.height, n_faces=len(record.faces),
    )  # fmt: skip
    if drop is not None:
        row.reason, row.value, row.threshold, row.detail = drop.reason, drop.value, drop.threshold, drop.detail
    if len(record.faces) == 1:
        fill_face(row, record.faces[0])
    return row


def fill_face(row: Row, face: FaceRecord) -> None:
    row.score, row.face_px = face.score, face_px(face)
    if face.measured:
        row.yaw, row.pitch, row.roll = face.yaw, face.pitch, face.roll
        row.sharpness, row.brightness = face.quality["sharpness"], face.quality["brightness"]
        row.age, row.p_female = face.age.get("expected", NAN), face.p_female


def drop_duplicates(standing: list[Standing], recipe: Recipe, pack: Pack) -> None:
    """Perceptual duplicates first, then near-identical faces; the losers' rows name the survivor's key."""
    settings = recipe.duplicates
    if settings.perceptual is not None:
        left = [s for s in standing if s.row.status == "kept"]
        hashes = np.array([s.phash for s in left], np.uint64)
        same_face = recipe.identities.min_cosine or pack.identity_cosine
        found = perceptual_duplicates(
            hashes, photos_of(left), vectors_of(left), rank_of(left), settings.perceptual, same_face
        )
        mark(left, found, "perceptual_duplicate", settings.perceptual)
    if settings.near_identical:
        left = [s for s in standing if s.row.status == "kept"]
        limit = settings.min_cosine or pack.duplicate_cosine
        mark(left, face_duplicates(vectors_of(left), photos_of(left), rank_of(left), limit), "face_duplicate", limit)


def rank_of(standing: list[Standing]) -> np.ndarray:
    sizes, sharp = (np.array([getattr(s.row, name) for s in standing]) for name in ("face_px", "sharpness"))
    return ranking(sizes, sharp, [s.row.key for s in standing])


def photos_of(standing: list[Standing]) -> np.ndarray:
    return np.array([s.photo for s in standing], np.int64)


def vectors_of(standing: list[Standing]) -> np.ndarray:
    """(N, D) float32. One copy beside the faces' own: a million of them are half a gigabyte."""
    if not standing:
        return np.zeros((0, 1), np.float32)
    vectors = np.empty((len(standing), len(standing[0].embedding) // 4), np.float32)
    for place, one in enumerate(standing):
        vectors[place] = np.frombuffer(one.embedding, np.float32)
    return vectors


def mark(standing: list[Standing], found: list[Duplicate], reason: str, threshold: float) -> None:
    for duplicate in found:
        row = standing[duplicate.index].row
        row.status, row.reason, row.value, row.threshold = "dropped", reason, duplicate.value, threshold
        row.detail = f"survivor {standing[duplicate.survivor].row.key}"


def settled_splits(store: WorkStore, recipe: Recipe) -> dict[str, Split]:
    """The splits that a removal has settled, while the recipe deals them out in the same way.

    Without them the photos that are left could change places: who is removed no longer holds a person's photos together,
    or had the smallest key.
    """
    if store.fact(SETTLED) != dealt(recipe):
        return {}
    return {key: split for key, name in store.settled().items() for split in SPLITS if split == name}


def dealt(recipe: Recipe) -> str:
    """What of the recipe decides splits (the fact SETTLED)."""
    return recipe.splits.model_dump_json() + recipe.identities.model_dump_json()


def set_splits(
    kept: list[Standing], released: list[np.ndarray], recipe: Recipe, pack: Pack, settled: dict[str, Split]
) -> list[str]:
    """Identity-disjoint splits of the kept rows, in place; returns notes. `released`: test faces of an earlier release."""
    if not kept:
        return []
    vectors = vectors_of(kept)
    if released:
        vectors = np.concatenate([vectors, *(r[None] for r in released)])
    clusters = cluster_identities(vectors, recipe.identities.min_cosine or pack.identity_cosine)
    held_out = {int(c) for c in clusters[len(kept) :]}
    own = [int(c) for c in clusters[: len(kept)]]
    groups = join_by_photo(own, [s.photo for s in kept])
    held_out |= {group for group, cluster in zip(groups, own, strict=True) if cluster in held_out}
    splits, notes = assign_splits([s.row.key for s in kept], groups, recipe.splits, held_out, settled)
    if notes and len(set(groups)) < len(set(own)):
        notes.append(
            f"people who share a photograph stay in one split: {len(set(own))} identities form {len(set(groups))} groups"
        )
    for standing, split in zip(kept, splits, strict=True):
        standing.row.split = split
    largest = crowded(np.array(own, np.int64))
    if largest:
        notes.append(
            f"one identity cluster holds {largest} of {len(own)} samples: people may have been joined by mistake; "
            "raise identities.min_cosine, or use a stronger face pack" + advice(vectors, recipe, pack)
        )
    if released:
        notes.append(f"people of {len(released)} test samples of the earlier release stay in test")
    return notes


def advice(vectors: np.ndarray, recipe: Recipe, pack: Pack) -> str:
    """Where many faces were clustered: from which cosine on no cluster would be crowded."""
    if len(vectors) < MANY:
        return ""
    cosine = uncrowded_cosine(vectors, recipe.identities.min_cosine or pack.identity_cosine)
    return f" (from {cosine:g} on no cluster would be so large)" if cosine else ""


def gate_note(rows: list[Row]) -> list[str]:
    """Tell the user what the adult gate cost, and how to vouch, where it cost much."""
    lost = sum(row.reason == "adult" for row in rows)
    through = sum(row.status == "kept" for row in rows)
    if not lost or lost < 0.2 * (lost + through):
        return []
    return [
        f"the adult gate kept {lost} of {lost + through} faces out that passed every other filter (it fails closed and cannot "
        "tell young adults from minors). If you know that this source holds adults only, say so: --subjects adults, or "
        "`subjects: adults` in its manifest; the ledger and the datasheet record it"
    ]
