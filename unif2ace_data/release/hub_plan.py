"""What of a dataset travels to the Hub and back, and what a repo lacks of it, by hashes alone."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unif2ace_data.errors import UserError
from unif2ace_data.release.annotations_index import ANNOTATIONS, PART, PART_LEDGER, annotations_at, is_part
from unif2ace_data.release.hub_client import Remote, RemoteFile
from unif2ace_data.release.sample_sheet import SAMPLES
from unif2ace_data.shards import ANNOTATIONS_KIND, INDEX, read_index
from unif2ace_data.verify import verify

# What a dataset is made of: nothing else leaves or is fetched, whatever an index says.
SHARD = re.compile(r"(train|validation|test)-\d+\.tar", re.ASCII)
LEDGER = re.compile(r"ledger/kept-[\w-]+\.parquet", re.ASCII)
PAGE = re.compile(r"\w[\w-]*\.(json|html|md|yaml)|samples\.jpg", re.ASCII)

Kind = Literal["dataset", "annotations"]
# What tells the two apart. Of an earlier release it would be read along, and so goes; a card or licence that somebody wrote
# there stays, but not the card's picture of faces that may have been removed.
READ_ALONG: dict[Kind, tuple[re.Pattern[str], ...]] = {"dataset": (SHARD, LEDGER), "annotations": (PART, PART_LEDGER)}


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """What leaves: files of `folder` by name, all under one root hash."""

    kind: Kind
    folder: Path
    files: dict[str, LocalFile]
    root_sha256: str


@dataclass(slots=True)
class Plan:
    """Names, sorted, by what is to be done with them; `kept`: files of the repo that no publish put there."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def send(self) -> list[str]:
        """In the order of sending: the card first, as the Hub may refuse it; the index last."""
        return sorted(self.new + self.changed, key=lambda n: (n == INDEX, n != "README.md", n))

    @property
    def done(self) -> bool:
        return not (self.new or self.changed or self.gone)


def check_whole(out: Path) -> None:
    """Raises UserError where the dataset at `out` does not hold, or its index names what is no part of a dataset."""
    verdict = verify(out, extras=False)
    if not verdict.holds:
        more = f" and {len(verdict.problems) - 1} more problems" if len(verdict.problems) > 1 else ""
        raise UserError(f"{out} does not hold: {verdict.problems[0]}{more}. See `unif2ace-data verify {out}`")
    parts(read_index(out), str(out))


def dataset_leaving(out: Path) -> Leaving:
    """What the index of the dataset at `out` names, and the index."""
    return listed("dataset", out, read_index(out))


def annotations_leaving(out: Path) -> Leaving:
    """The annotations of the dataset at `out`, written anew into its private folder."""
    from unif2ace_data.release.annotations import write_annotations  # and with it what draws pages

    whole = out if out.name not in ("", "..") else out.resolve()
    work = whole.with_name(f"{whole.name}.work")
    work.mkdir(mode=0o700, exist_ok=True)
    folder = work / ANNOTATIONS
    shutil.rmtree(folder, ignore_errors=True)
    write_annotations(out, folder)
    return listed("annotations", folder, annotations_at(folder) or {})


def listed(kind: Kind, folder: Path, index: dict[str, Any]) -> Leaving:
    data = (folder / INDEX).read_bytes()
    entries = parts(index, str(folder))
    files = {name: LocalFile(folder / name, e["bytes"], e["sha256"]) for name, e in entries.items()}
    files[INDEX] = LocalFile(folder / INDEX, len(data), hashlib.sha256(data).hexdigest())
    return Leaving(kind, folder, files, index["root_sha256"])


def parts(index: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """The index's entries by name, of a dataset or of annotations.

    Raises UserError at a name that neither has (a path that leads out of it, or a picture among annotations, say).
    """
    files = dict(index["files"])
    if index["kind"] == ANNOTATIONS_KIND:
        shards, strange = {}, [name for name in files if not is_part(name)]
    else:
        shards = {entry["name"]: entry for entry in index["shards"]}
        strange = [name for name in shards if not SHARD.fullmatch(name)]
        strange += [name for name in files if name == INDEX or not (LEDGER.fullmatch(name) or PAGE.fullmatch(name))]
    if strange:
        raise UserError(
            f"{INDEX} of {where} names {strange[0]!r}, which is no part of a dataset: nothing was sent or fetched"
        )
    return shards | files


def kind_of(names: Iterable[str]) -> Kind | None:
    """What a repo with files of these names holds, whole or half; None: neither."""
    there = list(names)
    kinds = (kind for kind, patterns in READ_ALONG.items() if any(p.fullmatch(n) for p in patterns for n in there))
    return next(kinds, None)


def compare(files: dict[str, LocalFile], remote: Remote | None) -> Plan:
    """What the repo lacks, by the hashes that it lists."""
    plan, there = Plan(), remote.files if remote else {}
    kind = kind_of(files)
    patterns = READ_ALONG[kind] if kind else ()
    for name, file in sorted(files.items()):
        if name not in there:
            plan.new.append(name)
        else:
            (plan.same if is_same(file, there[name]) else plan.changed).append(name)
    for name in sorted(set(there) - set(files)):
        old = any(p.fullmatch(name) for p in patterns) or (kind == "dataset" and name == SAMPLES)
        (plan.gone if old else plan.kept).append(name)
    return plan


def is_same(file: LocalFile, remote: RemoteFile) -> bool:
    if remote.sha256:
        return remote.sha256 == file.sha256
    if remote.bytes != file.bytes:
        return False
    data = file.path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == remote.git
