"""A SQLite file whose errors say which file they are about: "database or disk is full" alone helps nobody."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unif2ace_data.errors import UserError

NO_TEXT = "Could not decode to UTF-8"  # what Python says of damage within a text, of which SQLite knows nothing


class Database(sqlite3.Connection):
    """Raises sqlite3.OperationalError with the file's path, and UserError where the file is damaged or no database.

    `then`: what the user runs once a damaged file is moved away, and what that costs.
    """

    def __init__(self, path: Path, then: str, **options: Any) -> None:
        self.path, self.then = path, then
        with self.told():
            super().__init__(path, **options)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if str(error).startswith(NO_TEXT):  # its words repeat the whole text
                raise self.damaged("a text in it is not UTF-8") from None
            raise sqlite3.OperationalError(f"{self.path}: {error}") from None
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # a constraint that does not hold: a bug of ours
                raise
            raise self.damaged(str(error)) from None

    def damaged(self, how: str) -> UserError:
        return UserError(f"{self.path} is damaged ({how}): move it away and {self.then}")

    def execute(self, *arguments: Any) -> Rows:
        with self.told():
            return Rows(self).execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        with self.told():
            return super().executemany(*arguments)

    def executescript(self, script: str) -> sqlite3.Cursor:
        with self.told():
            return super().executescript(script)


class Rows(sqlite3.Cursor):
    """What a statement finds. `execute` reads the first row only: a damaged page may come up at any later one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.told = database.told

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # __next__ would cost each of a million rows more
        with self.told():
            yield from iter(super().fetchone, None)

    def fetchone(self) -> Any:
        with self.told():
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        with self.told():
            return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        with self.told():
            return super().fetchall()
