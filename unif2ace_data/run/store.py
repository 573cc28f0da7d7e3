"""The work store: what was listed, measured, cropped and packed. One SQLite file under `shards.work/`.

Every finished photo is committed when its result arrives, so a killed run loses what is in flight and nothing else.
The driver is the only writer; workers return results and never open it.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from unif2ace_data.curate.removal import REMOVED, SIGNS, WHY
from unif2ace_data.database import Database
from unif2ace_data.errors import UserError
from unif2ace_data.schema import Annotations, FaceRecord, InputRef, PhotoRecord

TABLES = """
create table if not exists inputs (      -- one row per input that some run has listed
  source_id text primary key, run integer not null, ref blob not null, stamp text not null,
  sha256 text, error_code text, error_message text);
create index if not exists inputs_by_hash on inputs (sha256);
create table if not exists analyses (    -- measurements, by bytes and by what decided them
  sha256 text, config text, record blob not null, embeddings blob not null, width integer not null,
  primary key (sha256, config));
create table if not exists briefs (      -- of each analysis what decisions read (brief_of): a fifth of its bytes
  sha256 text, config text, record blob not null, embeddings blob not null, primary key (sha256, config));
create table if not exists crops (       -- aligned JPEGs, by sample and by what decided them
  key text, config text, jpeg blob not null, side integer not null, padded real not null,
  primary key (key, config));
create table if not exists texts (       -- attributes, caption and claims, by sample and by what decided them
  key text, config text, notes text, json blob not null, facts text not null, primary key (key, config, notes));
create table if not exists qa (          -- questions, and the basis (qa/basis.py) on which they were asked
  key text primary key, basis text not null, json blob not null);
create table if not exists qa_next (     -- those of a run of qa-gen that is not finished
  key text primary key, basis text not null, json blob not null);
create table if not exists reviews (     -- what people answered (captions/people.py); root: of the dataset that they looked at
  key text, attribute text, value text, reviewer text, answer text not null, right_value text not null,
  root text not null, photo text not null, primary key (key, attribute, value, reviewer));
create index if not exists reviews_by_photo on reviews (photo);
create table if not exists reviews_next (  -- the same with the answers that are being taken in
  key text, attribute text, value text, reviewer text, answer text not null, right_value text not null,
  root text not null, photo text not null, primary key (key, attribute, value, reviewer));
create index if not exists reviews_next_by_photo on reviews_next (photo);
create table if not exists draws (       -- what was drawn for review, by the dataset's root hash (curate/review.py)
  root text primary key, json blob not null);
create table if not exists packed (      -- shards that were written, by what decides their bytes (run/pack.py)
  fingerprint text primary key, sha256 text not null, bytes integer not null, samples integer not null,
  ledger_sha256 text not null, base text not null, texts text not null);
create index if not exists packed_by_hash on packed (sha256);
create table if not exists looks (       -- what a photo looks like as a whole (curate/removal.py), by its bytes
  sha256 text primary key, signs blob not null);
create table if not exists settled (     -- splits that a removal must not change
  key text primary key, split text not null);
create table if not exists facts (name text primary key, value text not null);
"""
NOT_IN_BRIEF = ("emotion", "blendshapes", "geometry", "pixels")  # of a face; filters.py and decide.py see none of them
LAYOUT = 2  # of the tables; texts and packed are made anew from the rest when it changes


class WorkStore:
    """Opened by one process at a time; a second build on the same folder is refused with a clear error."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.folder = folder
        self.questions_table = "qa"
        self.reviews_table = "reviews"
        self._lock = lock_folder(folder)
        self.db = Database(folder / "work.sqlite", "build again, which measures everything anew", isolation_level=None)
        # secure_delete: what is removed is overwritten, not only unlinked.
        self.db.executescript(
            "pragma journal_mode=wal; pragma synchronous=normal; pragma cache_size=-65536; pragma secure_delete=on;"
        )
        if self.db.execute("pragma user_version").fetchone()[0] != LAYOUT:
            self.db.executescript(
                f"drop table if exists texts; drop table if exists packed; pragma user_version={LAYOUT};"
            )
        self.db.executescript(TABLES)

    def close(self) -> None:
        self.db.close()
        self._lock.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.db.execute("begin")
        try:
            yield
            self.db.execute("commit")
        except BaseException:
            if self.db.in_transaction:  # SQLite rolls some back itself, such as one that a full disk ends
                self.db.execute("rollback")
            raise

    # ---------------------------------------------------------------- inputs

    def list_inputs(self, refs: Iterable[InputRef]) -> int:
        """Make `refs` the inputs of this run; known ones keep their hash while their stamp is unchanged.

        So does an input that was removed keep being so: it is not read again.
        """
        run = self.run + 1
        count = 0
        still_removed = f"inputs.error_code='{REMOVED}' and inputs.stamp=excluded.stamp"
        upsert = (
            "insert into inputs (source_id, run, ref, stamp, error_code, error_message) values (?,?,?,?,?,?) "
            "on conflict (source_id) do update set run=excluded.run, ref=excluded.ref, "
            "sha256=case when inputs.stamp=excluded.stamp then inputs.sha256 end, stamp=excluded.stamp, "
            f"error_code=case when {still_removed} then inputs.error_code else excluded.error_code end, "
            f"error_message=case when {still_removed} then inputs.error_message else excluded.error_message end"
        )
        batch: list[tuple[object, ...]] = []
        for ref in refs:
            code, message = ref.problem or (None, None)
            batch.append((ref.source_id, run, orjson.dumps(packable(ref)), ref.stamp, code, message))
            count += 1
            if len(batch) >= 1000:
                self._write(upsert, batch)
        self._write(upsert, batch)
        self.set_fact("run", str(run))
        return count

    @property
    def run(self) -> int:
        """The number of the latest listing. Rows of earlier ones stay: an input that comes back is known."""
        return int(self.fact("run", "0"))

    def _write(self, statement: str, batch: list[tuple[object, ...]]) -> None:
        with self.transaction():
            self.db.executemany(statement, batch)
        batch.clear()

    def has_analyses(self, config: str) -> bool:
        return self.db.execute("select 1 from analyses where config=? limit 1", (config,)).fetchone() is not None

    def unhashed(self, config: str) -> list[str]:
        """Source ids of readable inputs whose bytes are not known, where some analysis exists that could serve them."""
        if not self.has_analyses(config):
            return []
        rows = self.db.execute(
            "select source_id from inputs where run=? and error_code is null and sha256 is null order by source_id",
            (self.run,),
        )
        return [row[0] for row in rows]

    def pending(self, config: str) -> list[str]:
        """Source ids of inputs that can be read and have no analysis under this config, in a fixed order."""
        rows = self.db.execute(
            "select source_id from inputs i where run=? and error_code is null and not exists "
            "(select 1 from analyses a where a.sha256 = i.sha256 and a.config = ?) order by source_id",
            (self.run, config),
        )
        return [row[0] for row in rows]

    def put_hash(self, source_id: str, sha256: str) -> None:
        self.db.execute("update inputs set sha256=? where source_id=?", (sha256, source_id))

    def refs(self, source_ids: list[str]) -> list[InputRef]:
        """The inputs as they were listed, with what people said of the faces in them."""
        marks = ",".join("?" * len(source_ids))
        rows = self.db.execute(f"select source_id, ref, sha256 from inputs where source_id in ({marks})", source_ids)
        found = {}
        for source_id, ref, sha256 in rows.fetchall():
            found[source_id] = unpacked(ref)
            found[source_id].annotations.people = self.people(sha256[:32]) if sha256 else []
        return [found[s] for s in source_ids]

    def put_failure(self, source_id: str, code: str, message: str) -> None:
        """A technical failure of this run; the next run tries again."""
        self.db.execute("update inputs set error_code=?, error_message=? where source_id=?", (code, message, source_id))

    # ---------------------------------------------------------------- analyses and crops

    def put_analysis(self, source_id: str, config: str, sha256: str, record: bytes, embeddings: np.ndarray) -> None:
        """`record`: a PhotoRecord as JSON (packed_record)."""
        self.put_hash(source_id, sha256)
        self.db.execute(
            "insert or replace into analyses values (?,?,?,?,?)",
            (sha256, config, record, embeddings.tobytes(), embeddings.shape[1]),
        )
        self.db.execute(
            "insert or replace into briefs values (?,?,?,?)", (sha256, config, brief_of(record), embeddings.tobytes())
        )

    def analysed(
        self, config: str
    ) -> Iterator[tuple[str, InputRef, PhotoRecord | None, np.ndarray, tuple[str, str] | None]]:
        """(source id, ref, record, embeddings (faces, D), read error) of every input, by hash, then by source id.

        The records lack NOT_IN_BRIEF. A million is read within a minute, where the whole ones would take two.
        """
        rows = self.db.execute(  # a store of before has no briefs of what it measured then
            "select i.source_id, i.ref, coalesce(b.record, a.record), coalesce(b.embeddings, a.embeddings), i.error_code, "
            "i.error_message from inputs i left join analyses a on a.sha256 = i.sha256 and a.config = ? "
            "left join briefs b on b.sha256 = a.sha256 and b.config = a.config "
            "where i.run = ? order by i.sha256, i.source_id",
            (config, self.run),
        )
        nobody = np.zeros((0, 0), np.float32)
        for source_id, ref, record, embeddings, code, message in rows:
            error = (code, message) if code is not None else None
            if record is None or error:
                yield source_id, unpacked(ref), None, nobody, error
            else:
                photo = photo_record(orjson.loads(record))
                vectors = np.frombuffer(embeddings, np.float32).reshape(len(photo.faces), -1) if embeddings else nobody
                yield source_id, unpacked(ref), photo, vectors, None

    def analysis(self, sha256: str, config: str) -> tuple[PhotoRecord, np.ndarray] | None:
        row = self.db.execute(
            "select record, embeddings, width from analyses where sha256=? and config=?", (sha256, config)
        ).fetchone()
        if row is None:
            return None
        vectors = np.frombuffer(row[1], np.float32).reshape(-1, row[2]) if row[2] else np.zeros((0, 0), np.float32)
        return photo_record(orjson.loads(row[0])), vectors

    def put_look(self, sha256: str, look: np.ndarray) -> None:
        self.db.execute("insert or replace into looks values (?,?)", (sha256, np.packbits(look).tobytes()))

    def look(self, sha256: str) -> np.ndarray | None:
        row = self.db.execute("select signs from looks where sha256=?", (sha256,)).fetchone()
        return np.unpackbits(np.frombuffer(row[0], np.uint8))[:SIGNS].astype(bool) if row else None

    def latest_record(self, source_id: str) -> PhotoRecord | None:
        """Any analysis of this input, under whatever config was used last."""
        row = self.db.execute(
            "select a.record from inputs i join analyses a on a.sha256 = i.sha256 where i.source_id=? "
            "order by a.rowid desc limit 1",
            (source_id,),
        ).fetchone()
        return photo_record(orjson.loads(row[0])) if row else None

    def put_crop(self, key: str, config: str, jpeg: bytes, side: int, padded: float) -> None:
        self.db.execute("insert or replace into crops values (?,?,?,?,?)", (key, config, jpeg, side, round(padded, 4)))

    def crop(self, key: str, config: str) -> tuple[bytes, int, float] | None:
        row = self.db.execute("select jpeg, side, padded from crops where key=? and config=?", (key, config)).fetchone()
        return (row[0], row[1], row[2]) if row else None

    def has_crop(self, key: str, config: str) -> bool:
        return self.db.execute("select 1 from crops where key=? and config=?", (key, config)).fetchone() is not None

    def put_text(self, key: str, config: str, notes: str, text: bytes) -> None:
        """`text`: JSON of attributes, caption, captioner, claims (captions/text.py)."""
        facts = orjson.dumps(text_facts(orjson.loads(text))).decode()
        self.db.execute("insert or replace into texts values (?,?,?,?,?)", (key, config, notes, text, facts))

    def text(self, key: str, config: str, notes: str, or_kept: bool = False) -> bytes | None:
        """`or_kept`: where there is none, the older one that `caption` left because the new one failed."""
        for under in (config, kept_under(config)) if or_kept else (config,):
            row = self.db.execute(
                "select json from texts where key=? and config=? and notes=?", (key, under, notes)
            ).fetchone()
            if row:
                return bytes(row[0])
        return None

    def only_kept(self, key: str, config: str) -> bool:
        """Whether the sample has an older caption in the place of one that failed."""
        found = {
            row[0]
            for row in self.db.execute(
                "select config from texts where key=? and config in (?,?)", (key, config, kept_under(config))
            )
        }
        return found == {kept_under(config)}

    def text_facts(self, key: str, config: str, notes: str) -> dict[str, Any] | None:
        """What the ledger tells of a text (captions/text.py), without reading the text."""
        row = self.db.execute(
            "select facts from texts where key=? and config in (?,?) and notes=? order by config=? desc",
            (key, config, kept_under(config), notes, config),
        ).fetchone()
        return dict(orjson.loads(row[0])) if row else None

    def begin_questions(self) -> None:
        """From here questions are written and read beside the present ones, until `take_questions`."""
        self.questions_table = "qa_next"
        self.db.execute("delete from qa_next")

    def take_questions(self) -> None:
        """The new questions take the place of the present ones. Call it inside a transaction."""
        self.db.execute("delete from qa")
        self.db.execute("insert into qa select * from qa_next")
        self.db.execute("delete from qa_next")
        self.questions_table = "qa"

    def put_qa(self, key: str, basis: str, questions: bytes) -> None:
        """`questions`: a JSON list of schema.QA."""
        self.db.execute(f"insert or replace into {self.questions_table} values (?,?,?)", (key, basis, questions))

    def qa(self, key: str) -> tuple[str, bytes] | None:
        """(basis, JSON list of questions) of a sample that has been asked about."""
        row = self.db.execute(f"select basis, json from {self.questions_table} where key=?", (key,)).fetchone()
        return (row[0], bytes(row[1])) if row else None

    # ---------------------------------------------------------------- removal

    def forget(self, sha256s: Iterable[str]) -> Counter[str]:
        """Delete everything that is kept of these photographs and mark their inputs; rows deleted, by table.

        Call it inside a transaction.
        """
        gone: Counter[str] = Counter()
        for sha256 in sha256s:
            for table in ("analyses", "looks"):
                gone[table] += self.db.execute(f"delete from {table} where sha256=?", (sha256,)).rowcount
            self.db.execute("delete from briefs where sha256=?", (sha256,))
            for table in ("crops", "texts", "qa", "qa_next", "settled", "reviews", "reviews_next"):
                whose = (sha256[:32], f"{sha256[:32]}-", f"{sha256[:32]}.")  # the key, or key-N: "." follows "-"
                gone[table] += self.db.execute(f"delete from {table} where key=? or (key>=? and key<?)", whose).rowcount
            gone["draws"] += self._undraw(sha256[:32])
            names = self.db.execute("select source_id from inputs where sha256=?", (sha256,)).fetchall()
            self.mark_removed(name for (name,) in names)
        return gone

    def _undraw(self, photo: str) -> int:
        """Take a photograph's items out of what was drawn for review: a key is the beginning of the file's hash."""
        found = 0
        for root, blob in self.db.execute("select root, json from draws").fetchall():
            draw = orjson.loads(blob)
            left = [item for item in draw["items"] if item[0][:32] != photo]
            if len(left) < len(draw["items"]):
                found += len(draw["items"]) - len(left)
                self.put_draw(root, orjson.dumps(draw | {"items": left}))
        return found

    def mark_removed(self, source_ids: Iterable[str]) -> None:
        """These inputs are dropped, unread, for as long as their files are the same."""
        for source_id in source_ids:
            self.db.execute(
                "update inputs set sha256=null, error_code=?, error_message=? where source_id=?",
                (REMOVED, WHY, source_id),
            )

    def removed(self) -> int:
        """How many inputs of this run are dropped as removed."""
        return int(
            self.db.execute("select count(*) from inputs where run=? and error_code=?", (self.run, REMOVED)).fetchone()[
                0
            ]
        )

    def settle(self, splits: dict[str, str]) -> None:
        """These samples stay in these splits (run/decide.py). Call it inside a transaction."""
        self.db.execute("delete from settled")
        self.db.executemany("insert into settled values (?,?)", splits.items())

    def settled(self) -> dict[str, str]:
        return dict(self.db.execute("select key, split from settled").fetchall())

    # ---------------------------------------------------------------- what people said

    def people(self, key: str) -> list[dict[str, str]]:
        """Answers that say something (captions/people.py) about the photo of this sample: each names its own sample."""
        rows = self.db.execute(
            f"select key, attribute, value, reviewer, answer, right_value from {self.reviews_table} "
            "where photo=? and answer in ('yes', 'no') order by key, attribute, value, reviewer",
            (key[:32],),
        )
        names = ("key", "attribute", "value", "reviewer", "answer", "right")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def put_review(self, answer: dict[str, str], root: str) -> None:
        """Keep one answer; the same reviewer's earlier one about the same value gives way to it."""
        self.db.execute(
            f"insert or replace into {self.reviews_table} values (?,?,?,?,?,?,?,?)",
            (
                answer["key"], answer["attribute"], answer["value"], answer["reviewer"], answer["answer"], answer["right"],
                root, answer["key"][:32],
            ),
        )  # fmt: skip

    def reviews(self, root: str | None = None) -> list[dict[str, str]]:
        """Every answer, "cannot_tell" among them; of those who looked at the dataset `root`, or of all."""
        rows = self.db.execute(
            f"select key, attribute, value, reviewer, answer, right_value from {self.reviews_table} "
            "where root=coalesce(?, root) order by key, attribute, value, reviewer",
            (root,),
        )
        names = ("key", "attribute", "value", "reviewer", "answer", "right")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def begin_reviews(self) -> None:
        """From here answers are written and read beside the present ones, until `take_reviews`."""
        self.db.execute("delete from reviews_next")
        self.db.execute("insert into reviews_next select * from reviews")
        self.reviews_table = "reviews_next"

    def take_reviews(self) -> None:
        """The new answers join the present ones. Call it inside a transaction."""
        self.db.execute("delete from reviews")
        self.db.execute("insert into reviews select * from reviews_next")
        self.db.execute("delete from reviews_next")
        self.reviews_table = "reviews"

    def put_draw(self, root: str, draw: bytes) -> None:
        """`draw`: JSON (curate/review.py)."""
        self.db.execute("insert or replace into draws values (?,?)", (root, draw))

    def draw(self, root: str) -> bytes | None:
        row = self.db.execute("select json from draws where root=?", (root,)).fetchone()
        return bytes(row[0]) if row else None

    # ---------------------------------------------------------------- facts

    def fact(self, name: str, default: str = "") -> str:
        row = self.db.execute("select value from facts where name=?", (name,)).fetchone()
        return row[0] if row else default

    def set_fact(self, name: str, value: str) -> None:
        self.db.execute("insert or replace into facts values (?,?)", (name, value))


def kept_under(config: str) -> str:
    """Under what the older caption of a sample is kept whose new one failed in `caption`."""
    return f"{config}-kept"


def text_facts(text: dict[str, Any]) -> dict[str, Any]:
    """What the ledger tells of a caption: who wrote it, how many claims it makes and leaves unverified, what was removed."""
    captioner, claims = text["captioner"], text["claims"]
    return {
        "captioner": " ".join(filter(None, (captioner["engine"], captioner["model"]))),
        "claims": len(claims),
        "unverified": sum(claim["verdict"] == "unverified" for claim in claims),
        "removed": captioner["removed"],
    }


def lock_folder(folder: Path) -> IO[str]:
    import fcntl

    handle = (folder / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise UserError(f"another command is running on {folder}: wait for it, or end it, then run again") from None
    return handle


def packable(ref: InputRef) -> dict[str, Any]:
    """A ref as JSON: paths and member names may hold surrogate escapes, so their bytes go as hex."""
    record: dict[str, Any] = {name: getattr(ref, name) for name in ref.__slots__}
    record |= {"path": os.fsencode(ref.path).hex(), "member": os.fsencode(ref.member).hex()}
    notes = ref.annotations
    # people have a table of their own
    record["annotations"] = {name: getattr(notes, name) for name in notes.__slots__ if name != "people"}
    return record


def unpacked(blob: bytes) -> InputRef:
    data = orjson.loads(blob)
    for name in ("path", "member"):
        data[name] = os.fsdecode(bytes.fromhex(data[name]))
    data["annotations"] = Annotations(**data["annotations"])
    data["problem"] = tuple(data["problem"]) if data["problem"] else None
    return InputRef(**data)


def packed_record(record: PhotoRecord) -> bytes:
    return orjson.dumps(record)


def brief_of(record: bytes) -> bytes:
    """A PhotoRecord (JSON) without what no decision reads."""
    data = orjson.loads(record)
    for face in data["faces"]:
        for name in NOT_IN_BRIEF:
            face.pop(name, None)
    return orjson.dumps(data)


def photo_record(data: dict[str, object]) -> PhotoRecord:
    data["faces"] = [FaceRecord(**face) for face in data["faces"]]  # type: ignore[attr-defined]
    data["error"] = tuple(data["error"]) if data["error"] else None  # type: ignore[arg-type]
    return PhotoRecord(**data)  # type: ignore[arg-type]
