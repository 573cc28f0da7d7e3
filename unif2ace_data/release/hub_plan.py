"""What of a dataset travels to the Hub and back, and what a repo lacks of it, by hashes alone."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unif2ace_data.release.hub_client import Remote, RemoteFile
from unif2ace_data.schema import UserError
from unif2ace_data.shards import INDEX, read_index
from unif2ace_data.verify import verify

# What a dataset is made of: nothing else leaves or is fetched, whatever an index says.
SHARD = re.compile(r"(train|validation|test)-\d+\.tar", re.ASCII)
LEDGER = re.compile(r"ledger/kept-[\w-]+\.parquet", re.ASCII)
PAGE = re.compile(r"\w[\w-]*\.(json|html|md|yaml)", re.ASCII)


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path
    bytes: int
    sha256: str


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


def leaving(out: Path) -> dict[str, LocalFile]:
    """The files that leave, by name, after the dataset was verified. Raises UserError where it does not hold."""
    verdict = verify(out, extras=False)
    if not verdict.holds:
        more = f" and {len(verdict.problems) - 1} more problems" if len(verdict.problems) > 1 else ""
        raise UserError(f"{out} does not hold: {verdict.problems[0]}{more}. See `unif2ace-data verify {out}`")
    data = (out / INDEX).read_bytes()
    entries = parts(read_index(out), str(out))
    files = {name: LocalFile(out / name, e["bytes"], e["sha256"]) for name, e in entries.items()}
    return {**files, INDEX: LocalFile(out / INDEX, len(data), hashlib.sha256(data).hexdigest())}


def parts(index: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """The index's entries by name. Raises UserError at a name that no dataset has (a path that leads out of it, say)."""
    shards = {entry["name"]: entry for entry in index["shards"]}
    files = dict(index["files"])
    strange = [name for name in shards if not SHARD.fullmatch(name)]
    strange += [name for name in files if name == INDEX or not (LEDGER.fullmatch(name) or PAGE.fullmatch(name))]
    if strange:
        raise UserError(
            f"{INDEX} of {where} names {strange[0]!r}, which is no part of a dataset: nothing was sent or fetched"
        )
    return shards | files


def compare(files: dict[str, LocalFile], remote: Remote | None) -> Plan:
    """What the repo lacks, by the hashes that it lists."""
    plan, there = Plan(), remote.files if remote else {}
    for name, file in sorted(files.items()):
        if name not in there:
            plan.new.append(name)
        else:
            (plan.same if is_same(file, there[name]) else plan.changed).append(name)
    for name in sorted(set(there) - set(files)):
        # A shard of an earlier release would be read along, so it goes; a card or licence that was written there stays.
        (plan.gone if SHARD.fullmatch(name) or LEDGER.fullmatch(name) else plan.kept).append(name)
    return plan


def is_same(file: LocalFile, remote: RemoteFile) -> bool:
    if remote.sha256:
        return remote.sha256 == file.sha256
    if remote.bytes != file.bytes:
        return False
    data = file.path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == remote.git
