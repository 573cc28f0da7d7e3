"""The journal: every answer that ever arrived, by what decided it, so that nothing is asked (and paid for) twice.

One SQLite file in the private folder. Every answer is committed before anything else happens to it, so a killed process
loses what was in flight and nothing else. Keys are of the request alone: whatever else is re-configured, it is found again.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from unif2ace_data.database import Database
from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Answer

JOURNAL = "journal.sqlite"  # its name in the private folder
BUSY_S = 30.0  # seconds that another run's write is waited for
THEN = "run again, which asks anew what it answered"  # where it is damaged
TABLES = """
create table if not exists answers (
  key text primary key, stage text not null, model text not null, text text not null, finish text not null,
  prompt_tokens integer not null, completion_tokens integer not null, seconds real not null,
  about text not null default '');
create index if not exists answers_by_stage on answers (stage, model);
"""
ABOUT = "alter table answers add column about text not null default ''"  # journals of before have none


class Journal:
    """Used by one thread. Whatever is done with it raises UserError where the file is damaged or no journal."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        try:
            self.db = Database(path, THEN, isolation_level=None, timeout=BUSY_S)
            # WAL with synchronous=normal: a killed process loses nothing; a power cut may cost the last answers, never the file.
            # secure_delete: what is forgotten is overwritten, not only unlinked.
            self.db.executescript(
                "pragma journal_mode=wal; pragma synchronous=normal; pragma secure_delete=on;" + TABLES
            )
            if "about" not in [row[1] for row in self.db.execute("pragma table_info(answers)")]:
                self.db.execute(ABOUT)
            self.db.execute("create index if not exists answers_by_about on answers (about)")
        except sqlite3.OperationalError as error:
            raise UserError(
                f"{error}: end other runs on this dataset, see that the disk has room, and run again"
            ) from None

    def get(self, key: str) -> Answer | None:
        row = self.db.execute(
            "select text, finish, prompt_tokens, completion_tokens, seconds from answers where key=?", (key,)
        ).fetchone()
        return Answer(*row) if row else None

    def put(self, key: str, stage: str, model: str, answer: Answer, about: str = "") -> None:
        """Committed when this returns. The first answer to a request stays the answer. `about`: the sample's key."""
        self.db.execute(
            "insert or ignore into answers values (?,?,?,?,?,?,?,?,?)",
            (
                key, stage, model, answer.text, answer.finish,
                answer.prompt_tokens, answer.completion_tokens, round(answer.seconds, 3), about,
            ),
        )  # fmt: skip

    def forget(self, about: list[str]) -> int:
        """Delete the answers about these samples; returns how many there were."""
        return sum(self.db.execute("delete from answers where about=?", (key,)).rowcount for key in about)

    def of_nobody(self) -> int:
        """Answers of which the journal does not know which sample they are about: an older version put them here."""
        return int(self.db.execute("select count(*) from answers where about=''").fetchone()[0])

    def means(self, model: str) -> dict[str, tuple[int, float, float, float]]:
        """By stage: answers of this model, and their mean prompt tokens, completion tokens and seconds."""
        rows = self.db.execute(
            "select stage, count(*), avg(prompt_tokens), avg(completion_tokens), avg(seconds) from answers "
            "where model=? group by stage",
            (model,),
        )
        return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}

    def close(self) -> None:
        self.db.close()


def answers_in(path: Path) -> int:
    """How many answers the journal at `path` holds; 0 where there is none. Raises UserError where it is no journal."""
    if not path.is_file():
        return 0
    journal = Journal(path)
    try:
        return int(journal.db.execute("select count(*) from answers").fetchone()[0])
    finally:
        journal.close()
