"""Writing, reading, verifying and rewriting shards, each beside the plain tool that does the bare work.

    python benchmarks/io_rates.py --shards FOLDER [--times 20] [--rounds 5]

FOLDER holds a dataset that `qa-gen` has asked about. It is multiplied (new keys, same pictures and texts) into a temporary
folder, so that a round takes seconds. Both sides run in turn in one process (sha256sum in one of its own), on one thread,
from a warm page cache; the ratio is ours to theirs in work a second, of CPU time and of the wall clock, the middle of
`rounds`. Writing ends with an fsync on our side only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from PIL import Image

from unif2ace_data.faces.decode import decode
from unif2ace_data.qa.basis import basis_of_all
from unif2ace_data.release.read import sample_records
from unif2ace_data.run import pack
from unif2ace_data.run.describe import files_of
from unif2ace_data.run.pack import Planned, ledger_part
from unif2ace_data.run.qa_gen import change_of
from unif2ace_data.run.rewrite import Job, Shard, present_shards, stage
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_index, read_samples, write_index, write_shard
from unif2ace_data.verify import verify

Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """`ours` and `theirs` do the same work; wanted: ours to theirs, in work a second."""

    name: str
    ours: Work
    theirs: Work
    wanted: float | None = None


def multiplied(shards: Path, out: Path, times: int) -> list[tuple[str, bytes, Sample]]:
    """Write a dataset with every sample of that at `shards` `times` times, under new keys; its samples in shard order.

    A shard a split, as `build` makes them of so few bytes.
    """
    index = read_index(shards)
    (out / "ledger").mkdir(parents=True)
    groups: dict[str, list[tuple[str, bytes, Sample]]] = defaultdict(list)
    ledger = pa.concat_tables(
        [pq.read_table(shards / "ledger" / f"kept-{Path(s['name']).stem}.parquet") for s in index["shards"]]
    ).to_pylist()
    rows = {row["key"]: row for row in ledger}
    written: dict[str, dict[str, Any]] = {}
    for entry in index["shards"]:
        for key, files in read_samples(shards / entry["name"]):
            sample = Sample.model_validate_json(files["json"])
            for turn in range(times):
                sha256 = hashlib.sha256(f"{key} {turn}".encode()).hexdigest()
                source = sample.source.model_copy(update={"sha256": sha256})
                copy = sample.model_copy(update={"uid": sha256[:32], "source": source})
                groups[sample.split].append((copy.uid, files["jpg"], copy))
                written[copy.uid] = {**rows[key], "key": copy.uid, "sha256": sha256}
    entries, samples = [], []
    for split, group in sorted(groups.items()):
        group.sort(key=lambda row: row[0])
        name = f"{split}-000000.tar"
        info = write_shard(out / name, group)
        table = pa.Table.from_pylist([written[key] for key, _, _ in group])
        pq.write_table(table, pack.ledger_part(out, name), compression="zstd")
        entries.append({
            "name": name, "split": split, "prefix": "", "samples": info.samples, "bytes": info.bytes,
            "sha256": info.sha256,
        })  # fmt: skip
        samples += group
    kept = len(samples)
    counts = {
        "inputs": kept, "inputs_kept": kept, "inputs_dropped": 0, "inputs_failed": 0, "rows": kept, "kept": kept,
        "dropped": 0, "failed": 0, "reasons": {},
    }  # fmt: skip
    write_index(out, entries, files_of(out, [str(pack.ledger_part(Path(), e["name"])) for e in entries]), counts)
    return samples


# ------------------------------------------------------------------ ours, and what stands beside


def written_by_webdataset(folder: Path, samples: list[dict[str, Any]]) -> None:
    with webdataset.ShardWriter(str(folder / "theirs-%06d.tar"), maxsize=1e12, maxcount=10**9, verbose=0) as sink:
        for sample in samples:
            sink.write(sample)


def read_by_us(paths: list[Path]) -> int:
    """What training takes from the shards the first time: every record, every crop as pixels."""
    count = 0
    for path in paths:
        for _ in sample_records(path):
            pass
        for _, files in read_samples(path):
            count += decode(files["jpg"]).rgb.shape[2] // 3
    return count


def read_by_webdataset(paths: list[Path]) -> int:
    dataset = webdataset.WebDataset([str(path) for path in paths], shardshuffle=False, empty_check=False)
    return sum(sample["jpg"].shape[2] // 3 for sample in dataset.decode("rgb8"))


def decoded(crops: list[bytes]) -> None:
    for crop in crops:
        Image.open(io.BytesIO(crop)).load()


def verified(out: Path, hashes_only: bool) -> None:
    verdict = verify(out, hashes_only)
    assert verdict.holds, verdict.problems[:3]


def sha256sum(paths: list[Path]) -> None:
    subprocess.run(["sha256sum", *map(str, paths)], check=True, stdout=subprocess.DEVNULL)


def hashed_here(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def rewritten(store: WorkStore, out: Path, shards: list[Shard]) -> None:
    """What `qa-gen` does once every question stands: each shard staged with them, then put into place."""
    staging = store.folder / "staging"
    staging.mkdir(exist_ok=True)
    planned = []
    for shard in shards:
        fingerprint = pack.fingerprint_with(store, shard.base, shard.texts, shard.keys)
        job = Job(
            out / shard.name, ledger_part(out, shard.name), staging / f"{fingerprint}.tar", change_of(store, shard)
        )
        pack.remember(store, fingerprint, stage(job), shard.base, shard.texts)
        planned.append(Planned(shard.name, shard.entry["split"], shard.entry["prefix"], [], fingerprint))
    index = (out / "index.json").read_bytes()
    pack.publish(store, planned, out)
    (out / "index.json").write_bytes(index)


# ------------------------------------------------------------------ measuring


def seconds(work: Work) -> tuple[float, float]:
    """(CPU seconds of this process and of those that it started, wall seconds)."""

    def cpu() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before, start = cpu(), time.perf_counter()
    work()
    return cpu() - before, time.perf_counter() - start


def measured(pair: Pair, rounds: int) -> None:
    times = [(seconds(pair.ours), seconds(pair.theirs)) for _ in range(rounds)]
    ours, theirs = (statistics.median(t[side][0] for t in times) for side in (0, 1))
    cpu, wall = (statistics.median(t[1][clock] / t[0][clock] for t in times) for clock in (0, 1))
    wanted = f"{pair.wanted:.2f}" if pair.wanted else ""
    print(f"{pair.name:<66}{ours:8.2f}{theirs:9.2f}{cpu:8.2f}{wall:8.2f}{wanted:>8}", flush=True)


def pairs(work: Path, out: Path, store: WorkStore, samples: list[tuple[str, bytes, Sample]]) -> Iterator[Pair]:
    index = read_index(out)
    shards = [out / entry["name"] for entry in index["shards"]]
    files = [out / name for name in (*index["files"], *(entry["name"] for entry in index["shards"]))]
    records = [
        {"__key__": key, "jpg": jpeg, "json": sample.model_dump(), "txt": sample.caption}
        for key, jpeg, sample in samples
    ]
    yield Pair(
        "writing records / webdataset.ShardWriter",
        lambda: write_shard(work / "ours.tar", samples), lambda: written_by_webdataset(work, records), 1.0,
    )  # fmt: skip
    for path in work.glob("*.tar"):
        path.unlink()
    records.clear()
    yield Pair(
        "reading for training / webdataset, decode('rgb8')",
        lambda: read_by_us(shards), lambda: read_by_webdataset(shards), 1.0,
    )  # fmt: skip
    yield Pair(
        "verify --hashes / sha256sum", lambda: verified(out, True), lambda: sha256sum(files), 0.8
    )  # fmt: skip
    yield Pair("verify --hashes / hashlib (OpenSSL)", lambda: verified(out, True), lambda: hashed_here(files))
    crops = [jpeg for _, jpeg, _ in samples]
    yield Pair("verify / the bare JPEG decoder", lambda: verified(out, False), lambda: decoded(crops), 0.8)
    here = present_shards(store, out)
    yield Pair("qa rewrite / sha256sum", lambda: rewritten(store, out, here), lambda: sha256sum(shards), 0.5)
    yield Pair("qa rewrite / hashlib (OpenSSL)", lambda: rewritten(store, out, here), lambda: hashed_here(shards))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work, out = Path(name), Path(name) / "shards"
        samples = multiplied(args.shards, out, args.times)
        size = sum(path.stat().st_size for path in out.glob("*.tar"))
        print(f"{len(samples)} samples, {size / 1e6:.0f} MB\n{'':<66}{'CPU seconds':>17}{'ratio of rates':>16}")
        print(f"{'':<66}{'ours':>8}{'theirs':>9}{'CPU':>8}{'wall':>8}{'wanted':>8}")
        store = WorkStore(work / "shards.work")
        with store.transaction():
            for key, _, sample in samples:
                questions = orjson.dumps([qa.model_dump() for qa in sample.qa])
                store.put_qa(key, basis_of_all(sample, sample.qa), questions)
        for pair in pairs(work, out, store, samples):
            measured(pair, args.rounds)
        store.close()
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
