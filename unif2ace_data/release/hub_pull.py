"""`pull`: a release from the Hub, into a folder that appears when every byte was checked, and not before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.release.annotations_index import AnnotationsIndex
from unif2ace_data.release.hub_client import TYPE, checked_repo, hub_client, look, patiently
from unif2ace_data.release.hub_plan import parts
from unif2ace_data.shards import ANNOTATIONS_KIND, INDEX, Index, root_hash
from unif2ace_data.storage import refuse_url
from unif2ace_data.verify import check_file

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CACHE = ".cache"  # where the client keeps what it needs to go on after an interruption


def pull(repo: str, out: Path, revision: str | None = None, quiet: bool = False) -> dict[str, Any]:
    """Download the dataset (or annotations) in `repo` at a tag, branch or commit (its main branch) to `out`.

    Files arrive in `.OUT.partial` beside `out`, are checked against index.json and its root hash there, and the folder
    is renamed when it is whole. Run again after an interruption: finished files are not fetched again. Returns what came.
    Raises UserError.
    """
    checked_repo(repo)
    refuse_url(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} is not empty: give --out a folder that does not exist yet", 2)
    api = hub_client(quiet)
    remote = patiently(repo, lambda: look(api, repo, revision), quiet)
    if INDEX not in remote.files:
        raise UserError(
            f"{repo} at {revision or 'main'} has no {INDEX}: no dataset of unif2ace-data, or one half published"
        )
    staging = out.absolute().with_name(f".{out.absolute().name}.partial")
    staging.mkdir(parents=True, exist_ok=True)
    patiently(repo, lambda: fetch(api, repo, remote.head, staging, [INDEX]), quiet)
    index = fetched_index(staging, repo)
    entries = parts(index, repo)
    missing = sorted(set(entries) - set(remote.files))
    if missing:
        raise UserError(
            f"{repo} at {revision or 'main'} lacks {missing[0]}, which its {INDEX} names: nothing was changed here"
        )
    patiently(repo, lambda: fetch(api, repo, remote.head, staging, sorted(entries)), quiet)
    check(staging, entries, repo)
    shutil.rmtree(staging / CACHE, ignore_errors=True)
    for path in sorted(staging.rglob("*"), reverse=True):  # of another release, whose pull was interrupted
        if path.is_file() and path.relative_to(staging).as_posix() not in {*entries, INDEX}:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    staging.replace(out)
    alone = index["kind"] == ANNOTATIONS_KIND
    return {
        "repo": repo,
        "revision": revision or "main",
        "commit": remote.head,
        "out": str(out),
        "files": len(entries) + 1,
        "kind": "annotations" if alone else "dataset",
        "samples": index["samples"] if alone else sum(shard["samples"] for shard in index["shards"]),
        "bytes": sum(entry["bytes"] for entry in entries.values()) + (out / INDEX).stat().st_size,
        "root_sha256": index["root_sha256"],
    }


def fetch(api: HfApi, repo: str, commit: str, folder: Path, names: list[str]) -> None:
    """The files of these names at a commit (names have no character that is special in a pattern)."""
    api.snapshot_download(repo, repo_type=TYPE, revision=commit, local_dir=folder, allow_patterns=names)


def fetched_index(folder: Path, repo: str) -> dict[str, Any]:
    """index.json as it came. Raises UserError, and forgets the file, where it is no index or its root hash is not its list's."""
    path = folder / INDEX
    try:
        index: dict[str, Any] = orjson.loads(path.read_bytes())
        alone = isinstance(index, dict) and index.get("kind") == ANNOTATIONS_KIND
        (AnnotationsIndex if alone else Index).model_validate(index)
    except ValueError as error:  # a pydantic ValidationError is one
        path.unlink()
        raise UserError(f"{INDEX} of {repo} is broken ({str(error).splitlines()[0]}): ask its publisher") from None
    entries = [
        *((s["name"], s["sha256"]) for s in index.get("shards", [])),
        *((n, e["sha256"]) for n, e in index["files"].items()),
    ]
    if index["root_sha256"] != root_hash(entries):
        path.unlink()
        raise UserError(f"{INDEX} of {repo}: root_sha256 is not the hash of the files it lists: ask its publisher")
    return index


def check(folder: Path, entries: dict[str, dict[str, Any]], repo: str) -> None:
    """Every file against its entry. Raises UserError that names the first that differs; what differs is not kept."""
    wrong: dict[str, str] = {}
    for name, entry in entries.items():
        problems: list[str] = []
        check_file(folder, name, entry, problems.append)
        if problems:
            wrong[name] = problems[0]
            (folder / name).unlink(missing_ok=True)
    if wrong:
        more = f" (and {len(wrong) - 1} more files)" if len(wrong) > 1 else ""
        raise UserError(
            f"{repo}: {next(iter(wrong.values()))}{more}. Run the command again to fetch it anew; should it differ again, "
            "the repo does not hold what its index says"
        )
