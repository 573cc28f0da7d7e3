"""What a repo lacks of a dataset, by hashes alone, and that a hundred thousand shards are no matter."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.release.hub_client import Remote, RemoteFile
from unif2ace_data.release.hub_plan import LocalFile, compare, parts
from unif2ace_data.shards import INDEX_KIND


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def remote(files: dict[str, RemoteFile]) -> Remote:
    return Remote(head="0" * 40, private=True, gated=False, files=files)


def test_new_changed_same_gone_and_what_others_put_there() -> None:
    here = {
        name: LocalFile(Path(name), 1, sha(name)) for name in ("train-000000.tar", "train-000001.tar", "stats.json")
    }
    there = {
        "train-000000.tar": RemoteFile(1, sha("train-000000.tar"), ""),
        "train-000001.tar": RemoteFile(1, sha("an older one"), ""),
        "train-000002.tar": RemoteFile(1, sha("x"), ""),
        "LICENSE": RemoteFile(1, sha("x"), ""),
    }
    plan = compare(here, remote(there))
    assert (plan.new, plan.changed, plan.same) == (["stats.json"], ["train-000001.tar"], ["train-000000.tar"])
    assert (plan.gone, plan.kept) == (["train-000002.tar"], ["LICENSE"])


@pytest.mark.slow
def test_a_hundred_thousand_shards_are_planned_in_seconds() -> None:
    """The whole of a plan but the network: names checked, 200,000 hashes compared. Under a minute is asked for."""
    names = [f"train-{i:06d}.tar" for i in range(100_000)]
    shards = [{"name": n, "split": "train", "prefix": "", "samples": 1, "bytes": 9, "sha256": sha(n)} for n in names]
    ledgers = {f"ledger/kept-train-{i:06d}.parquet": {"bytes": 9, "sha256": sha(f"l{i}")} for i in range(100_000)}
    started = time.process_time()
    entries = parts({"kind": INDEX_KIND, "shards": shards, "files": ledgers}, "a synthetic dataset")
    here = {name: LocalFile(Path(name), e["bytes"], e["sha256"]) for name, e in entries.items()}
    there = {n: RemoteFile(9, f.sha256 if i % 2 else sha("old"), "") for i, (n, f) in enumerate(here.items()) if i % 4}
    plan = compare(here, remote(there))
    assert time.process_time() - started < 20
    assert (len(plan.new), len(plan.changed), len(plan.same)) == (50_000, 50_000, 100_000)
    assert len(plan.send) == 100_000


def test_a_name_that_leads_out_of_the_dataset_is_refused() -> None:
    with pytest.raises(UserError, match="no part of a dataset"):
        parts({"kind": INDEX_KIND, "shards": [], "files": {"../secrets.json": {"bytes": 1, "sha256": sha("")}}}, "it")
