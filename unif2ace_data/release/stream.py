"""A dataset that is read where it is published: the index and what describes it come here, shards come one at a time.

    ~/.cache/unif2ace/ROOT/         index.json, recipe.yaml, stats.json, and origin.json: the URL, its revision pinned
    ~/.cache/unif2ace/ROOT.work/    what a model makes of each shard (unif2ace_model/data.py); private

ROOT begins the dataset's root hash. The folder stands in for the dataset: `read_index` and `recipe_at` read it as any
other, and `opened_shard` gives each shard for as long as it is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.release.hub_client import TYPE, checked_repo, hub_client, look, patiently
from unif2ace_data.release.hub_plan import parts
from unif2ace_data.release.hub_pull import fetched_index
from unif2ace_data.shards import ANNOTATIONS_KIND, INDEX
from unif2ace_data.storage import HUB, blocks, read_if_there, storage
from unif2ace_data.verify import check_file

ORIGIN = "origin.json"
DESCRIBING = ("recipe.yaml", "stats.json")  # what readers of a dataset ask for beside its shards
HUB_URL = re.compile(r"hf://datasets/([^@]+)(?:@(.+))?")


def stand_in(url: str, quiet: bool = False) -> Path:
    """A folder that stands in for the dataset at a URL: hf://datasets/user/name[@revision], s3://…, any of fsspec's.

    A revision of the Hub is pinned to its commit, so that a push in mid-run changes nothing. Raises UserError: no dataset
    there, annotations, no access, an index that does not hold.
    """
    pinned = pin(url, quiet)
    cache = cache_folder()
    with arriving(cache) as fresh:
        fetch(pinned, INDEX, fresh, quiet)
        index = fetched_index(fresh, pinned)
        entries = parts(index, pinned)
        if index["kind"] == ANNOTATIONS_KIND:
            raise UserError(
                f"{url} holds annotations without pictures: `unif2ace-data pull` and `join` make a dataset of them"
            )
        folder = cache / str(index["root_sha256"])[:24]
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in DESCRIBING:
            if name in entries and wrong(folder, name, entries[name]):
                fetch_whole(pinned, name, entries[name], fresh, quiet)
                (fresh / name).replace(folder / name)
        (fresh / ORIGIN).write_bytes(orjson.dumps({"url": pinned}) + b"\n")
        for name in (ORIGIN, INDEX):
            (fresh / name).replace(folder / name)
    if not quiet:
        print(
            f"streaming {pinned} (root {index['root_sha256'][:12]}); cache in {folder}.work",
            file=sys.stderr,
            flush=True,
        )
    return folder


def streamed(shards: Path) -> bool:
    """Whether the folder stands in for a dataset elsewhere."""
    return (shards / ORIGIN).is_file()


@contextlib.contextmanager
def opened_shard(shards: Path, entry: dict[str, Any], quiet: bool = False) -> Iterator[Path]:
    """A shard's file. Of a streamed dataset: fetched, checked against its entry, and removed afterwards.

    Raises UserError, with nothing kept: other bytes than the index names, no connection.
    """
    if not streamed(shards):
        yield shards / str(entry["name"])
        return
    url = str(orjson.loads((shards / ORIGIN).read_bytes())["url"])
    with arriving(shards) as folder:
        fetch_whole(url, str(entry["name"]), entry, folder, quiet)
        yield folder / str(entry["name"])


# ------------------------------------------------------------------ fetching


def pin(url: str, quiet: bool) -> str:
    """The URL by which the same bytes are found as long as they are there. Raises UserError."""
    if not url.startswith(HUB):
        if read_if_there(storage(url), INDEX, quiet) is None:
            raise UserError(
                f"no dataset at {url}: it has no {INDEX}, which is written last. Check the URL, and whether its upload has ended"
            )
        return url.rstrip("/")
    repo, revision = hub_place(url)
    api = hub_client(quiet)
    remote = patiently(repo, lambda: look(api, repo, revision or None), quiet)
    if INDEX not in remote.files:
        raise UserError(
            f"{repo} at {revision or 'main'} has no {INDEX}: no dataset of unif2ace-data, or one half published"
        )
    return f"{HUB}datasets/{repo}@{remote.head}"


def hub_place(url: str) -> tuple[str, str]:
    """(user/name, revision or "") of hf://datasets/user/name[@revision]. Raises UserError."""
    found = HUB_URL.fullmatch(url.rstrip("/"))
    if found is None:
        raise UserError(f"{url}: write hf://datasets/user/name, or hf://datasets/user/name@revision", 2)
    return checked_repo(found[1]), unquote(found[2] or "")


def fetch(url: str, name: str, folder: Path, quiet: bool) -> None:
    """A file of the dataset at a pinned URL, into `folder`. Raises UserError."""
    if url.startswith(HUB):
        repo, commit = hub_place(url)
        api = hub_client(quiet)
        patiently(
            repo,
            lambda: api.hf_hub_download(repo, name, repo_type=TYPE, revision=commit, local_dir=folder),
            quiet,
        )
        return
    place = storage(url)
    with (folder / name).open("wb") as file:
        for block in blocks(place, name, quiet):
            file.write(block)


def fetch_whole(url: str, name: str, entry: dict[str, Any], folder: Path, quiet: bool) -> None:
    """The same; raises UserError, too, where its bytes are not those of its index entry."""
    fetch(url, name, folder, quiet)
    if problem := wrong(folder, name, entry):
        raise UserError(
            f"{url}: {problem}. Run the command again to fetch it anew; should it differ again, what lies there is not what "
            f"its {INDEX} says"
        )


def wrong(folder: Path, name: str, entry: dict[str, Any]) -> str:
    """What is not right about a file here; "" where it is what its entry says."""
    problems: list[str] = []
    check_file(folder, name, entry, problems.append)
    return "; ".join(problems)


# ------------------------------------------------------------------ here


def cache_folder() -> Path:
    """`~/.cache/unif2ace` (XDG_CACHE_HOME names another), readable by its owner alone. Raises UserError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unif2ace"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the cache of streamed datasets cannot be made in {cache} ({error.strerror})") from None
    return cache


@contextlib.contextmanager
def arriving(folder: Path) -> Iterator[Path]:
    """A folder for what arrives, gone afterwards; those that killed processes left go, too."""
    host = socket.gethostname()  # others may share the folder, and their processes are not seen here
    for left in folder.glob(f".*@{host}.arriving"):
        if not alive(int(left.name[1:].partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(f"@{host}.arriving", f".{os.getpid()}-", folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
