"""Storage behind a URL (s3://, gs://, file://, whatever fsspec knows): files listed, read and sent, with patience.

Everything that fsspec or a package behind it raises is caught here; nothing else is.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unif2ace_data.errors import UserError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

URL = re.compile(r"\w[\w+.:-]+://")
ALMOST = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/?(?!/)")  # begins like a URL, without both slashes
AS_PATH = re.compile(r"(\w[\w+.-]+):/+(?=[^/])")  # what pathlib makes of one
HUB = "hf://"
BLOCK = 16 << 20  # bytes that are asked for at once
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds between tries; packages behind fsspec have tried some errors themselves before
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that lies there. `mark` changes when its bytes do (an ETag, a time), where the storage tells; else empty."""

    bytes: int
    mark: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A folder in some storage; `root`: its path as `fs` takes it."""

    url: str
    fs: AbstractFileSystem
    root: str


def is_url(place: str) -> bool:
    return URL.match(place) is not None


def meant_url(folder: str) -> str:
    """The URL that `s3:/bucket/faces` was meant to be, else "". A folder of such a name pyarrow takes for one, too."""
    found = None if is_url(folder) else ALMOST.match(folder)
    if found is None:
        return ""
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{folder[found.end() :]}"  # file: no host, so a path


def name_of(url: str) -> str:
    """The last part of a URL's path, as a folder here would be called. Raises UserError where it has none."""
    name = url.partition("://")[2].rstrip("/").rpartition("/")[2].partition("@")[0]
    if not name or name.startswith("."):
        raise UserError(f"{url} has no name at its end: write, for example, s3://bucket/faces", 2)
    return name


def refuse_url(path: Path) -> None:
    """Raises UserError where what a command takes for a folder was written as a URL: it says what to do instead."""
    if not AS_PATH.match(str(path)) or path.exists():
        return
    url = AS_PATH.sub(r"\1://", str(path), count=1)
    name = name_of(url)
    copy = (
        f"`unif2ace-data pull {url.removeprefix(f'{HUB}datasets/')} --out {name}`" if url.startswith(HUB) else "copy it"
    )
    raise UserError(
        f"{url}: this command works in a folder: {copy} first, then give the folder. (`build --out` and "
        "`unif2ace-model train --shards` take URLs.)",
        2,
    )


def storage(url: str) -> Storage:
    """Raises UserError: no such kind of storage, a package that is not installed, no credentials."""
    try:
        import fsspec
    except ImportError:
        raise UserError(f"{url} needs fsspec: pip install 'unif2ace[s3]'") from None
    protocol = url.partition("://")[0]
    options = {"auto_mkdir": True} if protocol in ("file", "local") else {}
    try:
        fs, root = fsspec.url_to_fs(url.rstrip("/"), **options)
    except ImportError as error:
        raise UserError(f"{url}: {error}") from None
    except ValueError as error:
        raise UserError(f"{url}: {error}", 2) from None
    except Exception as error:
        raise told(error, url) from None
    return Storage(url.rstrip("/"), fs, str(root).rstrip("/"))


# ------------------------------------------------------------------ files


def listed(place: Storage, quiet: bool = False) -> dict[str, Found]:
    """Every file below the folder, by its name in it; empty where there is no such folder."""

    def work() -> dict[str, Found]:
        place.fs.invalidate_cache()
        try:
            found = place.fs.find(place.root, detail=True)
        except FileNotFoundError:
            return {}
        names = {path: str(path).removeprefix(place.root).lstrip("/") for path in found}
        return {name: found_as(found[path]) for path, name in names.items() if name}

    return patiently(place.url, work, quiet)


def found_as(info: dict[str, Any]) -> Found:
    marks = (info.get(key) for key in ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified"))
    return Found(int(info.get("size") or 0), next((str(mark) for mark in marks if mark), ""))


def blocks(place: Storage, name: str, quiet: bool = False) -> Iterator[bytes]:
    """The bytes of a file. Where the line drops it is opened anew, where it was: a shard is not begun again."""
    path, at, failures = f"{place.root}/{name}", 0, 0
    while True:
        try:
            with place.fs.open(path, "rb", block_size=BLOCK) as file:
                if at:
                    file.seek(at)
                while block := file.read(BLOCK):
                    at += len(block)
                    failures = 0
                    yield block
            return
        except Exception as error:  # of the storage alone: what the reader of these bytes raises does not pass here
            if isinstance(error, FINAL) or lacks_credentials(error) or failures == len(WAITS):
                raise told(error, f"{place.url}/{name}") from None
            pause(error, WAITS[failures], quiet)
            failures += 1


def read_if_there(place: Storage, name: str, quiet: bool = False) -> bytes | None:
    """A small file's bytes; None where there is none."""

    def work() -> bytes | None:
        place.fs.invalidate_cache()
        try:
            return bytes(place.fs.cat_file(f"{place.root}/{name}"))
        except FileNotFoundError:
            return None

    return patiently(f"{place.url}/{name}", work, quiet)


def send(place: Storage, name: str, source: Path, quiet: bool = False) -> Found:
    """Put a file under a name; what lies there then. Raises UserError, also where it is not as long as what was sent."""
    path = f"{place.root}/{name}"

    def work() -> Found:
        place.fs.put_file(str(source), path)
        place.fs.invalidate_cache()
        return found_as(place.fs.info(path))

    found = patiently(f"{place.url}/{name}", work, quiet)
    if found.bytes != source.stat().st_size:
        raise UserError(
            f"{place.url}/{name} holds {found.bytes} bytes of {source.stat().st_size}: run the command again"
        )
    return found


def delete(place: Storage, name: str, quiet: bool = False) -> None:
    def work() -> None:
        try:
            place.fs.rm_file(f"{place.root}/{name}")
        except FileNotFoundError:  # a try whose answer was lost
            return

    patiently(f"{place.url}/{name}", work, quiet)


# ------------------------------------------------------------------ errors


def patiently(where: str, work: Callable[[], Result], quiet: bool) -> Result:
    """The result of `work`, which must be repeatable, tried again where the error may pass (WAITS); else UserError."""
    for wait in (*WAITS, None):
        try:
            return work()
        except Exception as error:
            if wait is None or isinstance(error, FINAL) or lacks_credentials(error):
                raise told(error, where) from None
            pause(error, wait, quiet)
    raise AssertionError("unreachable")


def pause(error: Exception, wait: float, quiet: bool) -> None:
    if not quiet:
        print(f"{briefly(error)}: trying again in {wait:.0f} s", file=sys.stderr, flush=True)
    time.sleep(wait)


def lacks_credentials(error: Exception) -> bool:
    """Each storage has an error of its own for it; by name, since its package may not be there."""
    return "credential" in type(error).__name__.lower()


def briefly(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def told(error: Exception, where: str) -> UserError:
    """One line for a person."""
    if lacks_credentials(error):
        return UserError(f"{where}: no credentials ({briefly(error)}): set them as the storage's own tools want them")
    if isinstance(error, FileNotFoundError):
        return UserError(f"{where} is not there: check the URL")
    if isinstance(error, PermissionError):
        return UserError(f"{where}: these credentials may not do that ({briefly(error)})")
    return UserError(f"{where}: {briefly(error)}. What is done is kept; run the command again")
