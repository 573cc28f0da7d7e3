"""`build --out URL`: the dataset is built in a folder here and then stands at the URL as well, byte for byte.

What leaves is what index.json names, and index.json, last: where it is, all is. Before anything there is changed it goes.
In storage, what was sent is known by the index there, or, after an interruption, by `uploads.jsonl` in the private folder.
On the Hub it is `publish` that sends, with all that it checks (release/hub.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.release.hub import check_kind, may_write, publish
from unif2ace_data.release.hub_client import Remote, RemoteFile, hub_client, patiently
from unif2ace_data.release.hub_plan import Leaving, compare, dataset_leaving, kind_of
from unif2ace_data.release.stream import hub_place
from unif2ace_data.run.private import work_folder
from unif2ace_data.run.progress import Progress
from unif2ace_data.run.store import lock_folder
from unif2ace_data.shards import INDEX, Index
from unif2ace_data.storage import (
    HUB,
    Found,
    Storage,
    delete,
    is_url,
    listed,
    meant_url,
    name_of,
    read_if_there,
    send,
    storage,
)

UPLOADS = "uploads.jsonl"  # {url, name, sha256, bytes, mark} of every file that was sent
PROBE = ".writable"  # there for a moment
UNKNOWN = "unknown"  # a hash that no file has


def built_in(out: str, work: Path | None, limit: int | None, quiet: bool = False) -> tuple[Path, str]:
    """(the folder that a dataset is built in, the URL that it then goes to, or ""), from what `build` was told.

    Raises UserError: options that do not go together, and as `check_target` does.
    """
    wants = "a folder of this name wants its absolute path"
    if meant := meant_url(out):
        raise UserError(f"--out {out} begins as a URL does, and is none: did you mean {meant}? ({wants})", 2)
    if work is not None and meant_url(str(work)):
        raise UserError(f"--work {work}: give a folder of this machine ({wants})", 2)
    if not is_url(out):
        if work is not None:
            raise UserError("--work goes with a URL in --out: a folder is built in where it is", 2)
        return Path(out), ""
    if limit is not None:
        raise UserError("--limit is for trials, and they do not leave: give a folder in --out", 2)
    place = work or Path(name_of(out))
    check_target(place, out, quiet)
    if not quiet:
        print(
            f"building in {place} (private work in {place}.work), which then goes to {out}", file=sys.stderr, flush=True
        )
    return place, out


def check_target(out: Path, url: str, quiet: bool = False) -> None:
    """Before anything is built. Raises UserError: nobody may write there, something else lies there."""
    if url.startswith(HUB):
        repo = repo_of(url)
        api = hub_client(quiet, write=True)
        before = patiently(repo, lambda: may_write(api, repo), quiet)
        check_kind(Leaving("dataset", out, {}, ""), before, repo)
        return
    place = storage(url)
    check_place(place, files_there(place, quiet), work_folder(out) / UPLOADS, quiet)
    # who may list may yet not write, and hours lie between here and the first file
    with tempfile.NamedTemporaryFile() as empty:
        send(place, PROBE, Path(empty.name), quiet)
    delete(place, PROBE, quiet)


def check_place(place: Storage, there: dict[str, Found], uploads: Path, quiet: bool) -> None:
    """Raises UserError where files lie there that are no dataset of this toolkit, whole or half."""
    if not there or kind_of(there) == "dataset" or sent_before(place, uploads):
        return
    if index_of(read_if_there(place, INDEX, quiet)) is None:
        raise UserError(
            f"{place.url} holds other files and no dataset of this toolkit: choose an empty or a new place", 2
        )


def repo_of(url: str) -> str:
    """Raises UserError where the URL names a revision: what is built goes to the main branch."""
    repo, revision = hub_place(url)
    if revision:
        raise UserError(f"--out {url}: a dataset goes to the main branch; leave @{revision} out", 2)
    return repo


def mirror(out: Path, url: str, quiet: bool = False) -> dict[str, Any]:
    """Make the place at `url` hold exactly the dataset at `out`; returns what was done.

    A repo of the Hub that is made is private and stays so (`publish` opens it); one that is there keeps its visibility and
    gating. Raises UserError, also wherever `publish` does. Run again after an interruption: what was sent stays sent.
    """
    if url.startswith(HUB):
        done = publish(out, repo_of(url), private=None, quiet=quiet)
        sent = [*done["new"], *done["changed"]]
        return {
            "url": url, "root_sha256": done["root_sha256"], "sent": len(sent), "same": len(done["same"]),
            "gone": len(done["gone"]), "bytes_sent": done["bytes_to_send"], "commit": done["commit"],
            "visibility": done["visibility"],
        }  # fmt: skip
    with lock_folder(work_folder(out)):
        return mirror_in(storage(url), dataset_leaving(out), work_folder(out) / UPLOADS, quiet)


def mirror_in(place: Storage, release: Leaving, uploads: Path, quiet: bool) -> dict[str, Any]:
    there = files_there(place, quiet)
    check_place(place, there, uploads, quiet)
    remote = as_remote(there, hashes_there(place, there, uploads, quiet))
    plan = compare(release.files, remote)
    with uploads.open("ab") as kept:

        def remember(name: str, found: Found) -> None:
            sent = {"url": place.url, "name": name, "sha256": release.files[name].sha256}
            # the line's end first: half a line that a kill left then stands alone
            kept.write(b"\n" + orjson.dumps({**sent, "bytes": found.bytes, "mark": found.mark}))
            kept.flush()

        if not plan.done and INDEX in there:
            for name in plan.same:  # the index tells of them no longer
                remember(name, there[name])
            delete(place, INDEX, quiet)
            remote.files.pop(INDEX)
            plan = compare(release.files, remote)
        progress = Progress("uploading", len(plan.send), quiet, unit="file")
        for name in plan.send:
            if name == INDEX:
                for gone in plan.gone:
                    delete(place, gone, quiet)
            remember(name, send(place, name, release.files[name].path, quiet))
            progress.advance(1, [])
        progress.close()
    return {
        "url": place.url, "root_sha256": release.root_sha256, "sent": len(plan.send), "same": len(plan.same),
        "gone": len(plan.gone), "bytes_sent": sum(release.files[name].bytes for name in plan.send),
    }  # fmt: skip


# ------------------------------------------------------------------ what lies there


def files_there(place: Storage, quiet: bool) -> dict[str, Found]:
    return {name: found for name, found in listed(place, quiet).items() if name != PROBE}


def as_remote(there: dict[str, Found], hashes: dict[str, tuple[int, str]]) -> Remote:
    """What `compare` takes: a file whose length is not that of its hash is not what it was."""
    files = {}
    for name, found in there.items():
        size, sha256 = hashes.get(name, (0, UNKNOWN))
        files[name] = RemoteFile(found.bytes, sha256 if size == found.bytes else UNKNOWN, "")
    return Remote("", True, False, files)


def hashes_there(place: Storage, there: dict[str, Found], uploads: Path, quiet: bool) -> dict[str, tuple[int, str]]:
    """(bytes, SHA-256) by name, as far as they are known: of a whole dataset by its index, else by what was sent."""
    data = read_if_there(place, INDEX, quiet) if INDEX in there else None
    index = index_of(data)
    if index is not None and data is not None:
        entries = {shard.name: shard for shard in index.shards} | index.files
        known = {name: (entry.bytes, entry.sha256) for name, entry in entries.items()}
        return known | {INDEX: (len(data), hashlib.sha256(data).hexdigest())}
    sent = sent_before(place, uploads)
    return {
        name: (line["bytes"], line["sha256"])
        for name, line in sent.items()
        if there.get(name) == Found(line["bytes"], line["mark"])
    }


def index_of(data: bytes | None) -> Index | None:
    """None where it is no index of a dataset."""
    try:
        return Index.model_validate_json(data or b"")
    except ValueError:
        return None


def sent_before(place: Storage, uploads: Path) -> dict[str, dict[str, Any]]:
    """The last line of each file that was sent to this place."""
    sent: dict[str, dict[str, Any]] = {}
    for line in uploads.read_bytes().splitlines() if uploads.is_file() else []:
        with contextlib.suppress(ValueError):
            found = orjson.loads(line)
            if found["url"] == place.url:
                sent[found["name"]] = found
    return sent
