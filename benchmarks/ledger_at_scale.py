"""A ledger of a million rows: its statistics, a change of filters, and its splits, each in time and memory.

    python benchmarks/ledger_at_scale.py [--rows 1000000] [--folder DIR]

The private folder of a dataset is made up as a build leaves it: the work store with inputs, measurements and embeddings
(records of the faces of examples/raw, with other numbers), the full ledger, and the ledgers of the kept, a shard's rows a
file. Then, each in a process of its own:

- stats: both ledgers counted, as `build` counts them, and shown.
- filters: every measurement read and judged by other thresholds, and the full ledger written anew.
- splits: people whole to train, validation or test. Who is who is found before that (identities_at_scale.py measures it).

Wanted, each: under 60 s and under 2 GiB at most. `--folder` keeps what was made up, and uses it if it is there.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
from rich.console import Console

from unif2ace_data.curate.splits import assign_splits, join_by_photo
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.faces.runtime import single_threaded
from unif2ace_data.recipe import Splits, load_recipe
from unif2ace_data.release.stats import STATUSES, count_rows, distributions_of, sums_of
from unif2ace_data.run.decide import filtered
from unif2ace_data.run.pack import write_ledger
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import InputRef

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "raw"
CONFIG = "made-up"  # under which the store keeps the measurements
WIDTH = 128  # of an embedding, as of the embedded pack
BLOCK = 10_000
SHARD = 25_000  # rows a shard: about a gigabyte
PER_PERSON = 4
SECONDS, BYTES = 60.0, 2 << 30  # wanted
PARTS = ("stats", "filters", "splits")


# ------------------------------------------------------------------ a dataset that is made up


def source_id(number: int) -> str:
    return f"folder/{number // 1000:04d}/{number:07d}.jpg"


def sha256_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def inputs(rows: int) -> Iterator[InputRef]:
    """One in a hundred cannot be read."""
    for number in range(rows):
        problem = ("dangling_link", "a link to nothing") if number % 100 == 50 else None
        name = source_id(number)
        yield InputRef(name, "folder", "file", f"/data/raw/{name}", f"81920-{number}", size=81920, problem=problem)


def records(rows: int) -> Iterator[tuple[str, str, bytes, np.ndarray]]:
    """(source id, hash, record, embeddings) of each input that can be read; one in a hundred shows no face."""
    single_threaded()
    measure = Analyser(load_recipe("embedded", []).faces)
    found = [measure.analyse(path.read_bytes()).record for path in sorted(EXAMPLES.iterdir()) if path.suffix != ".md"]
    templates = [
        orjson.loads(orjson.dumps(record)) for record in found if record.error is None and len(record.faces) == 1
    ]
    rng = np.random.default_rng(0)
    for start in range(0, rows, BLOCK):
        vectors = rng.standard_normal((BLOCK, WIDTH), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        sizes, ages = rng.uniform(30, 400, BLOCK).round(1), rng.uniform(18, 70, BLOCK).round(2)
        turns, sharp = rng.normal(0, 18, (BLOCK, 3)).round(2), rng.uniform(4, 4000, BLOCK).round(1)
        for place, number in enumerate(range(start, min(start + BLOCK, rows))):
            if number % 100 == 50:
                continue
            record = templates[number % len(templates)]
            digest = sha256_of(number)
            record["sha256"], record["phash"] = digest, digest[:16]
            if number % 100 == 25:
                yield source_id(number), digest, orjson.dumps(record | {"faces": []}), np.zeros((0, 0), np.float32)
                continue
            face, size = record["faces"][0], float(sizes[place])
            face["box"] = [20.0, 20.0, 20.0 + size * 0.8, 20.0 + size]
            face["yaw"], face["pitch"], face["roll"] = turns[place].tolist()
            face["quality"]["sharpness"], face["age"]["expected"] = float(sharp[place]), float(ages[place])
            yield source_id(number), digest, orjson.dumps(record), vectors[place][None]


def make_up(folder: Path, rows: int) -> None:
    store = WorkStore(folder / "shards.work")
    store.list_inputs(inputs(rows))
    numbered = enumerate(records(rows))
    for _, block in groupby(numbered, lambda pair: pair[0] // 1000):
        with store.transaction():
            for _, (source, digest, record, vectors) in block:
                store.put_analysis(source, CONFIG, digest, record, vectors)
    kept = rejudge(store, 40.0, folder / "shards.work" / "ledger.parquet")
    store.close()
    public = folder / "shards" / "ledger"
    public.mkdir(parents=True)
    table = pq.read_table(folder / "shards.work" / "ledger.parquet")
    table = table.filter(np.array(table["status"].to_pylist()) == "kept")
    table = table.drop_columns(["reason", "value", "threshold", "detail", "status"])
    for number, start in enumerate(range(0, kept, SHARD)):
        pq.write_table(table.slice(start, SHARD), public / f"kept-train-{number:06d}.parquet", compression="zstd")


# ------------------------------------------------------------------ what is measured


def rejudge(store: WorkStore, face_px: float, ledger: Path) -> int:
    """Filters over every measurement, the ledger written; returns how many are kept."""
    recipe = load_recipe("embedded", ["subjects=adults", f"filters.face_px.min={face_px}"])
    found = filtered(store, CONFIG, recipe)
    write_ledger(ledger, found.rows, public=False)
    return sum(row.status == "kept" for row in found.rows)


def stats(folder: Path) -> str:
    full = count_rows([folder / "shards.work" / "ledger.parquet"], full=True)
    kept = count_rows(sorted((folder / "shards" / "ledger").glob("kept-*.parquet")), full=False)
    sums = sums_of(full)
    spreads = distributions_of(full, {})
    assert sums["kept"] == kept.of("kept") == sum(spreads["score"]["kept"])
    with Console(file=io.StringIO(), width=120) as console:
        console.print(sums, spreads)
    return ", ".join(f"{sums[status]:,} {status}" for status in STATUSES)


def filters(folder: Path) -> str:
    store = WorkStore(folder / "shards.work")
    kept = rejudge(store, 96.0, folder / "shards.work" / "ledger.new.parquet")
    store.close()
    return f"{kept:,} kept with faces of 96 pixels or more"


def splits(folder: Path) -> str:
    rows = pq.read_metadata(folder / "shards.work" / "ledger.parquet").num_rows
    keys = [sha256_of(number)[:32] for number in range(rows)]
    people = (np.arange(rows) // PER_PERSON * PER_PERSON).tolist()
    groups = join_by_photo(people, list(range(rows)))
    chosen, notes = assign_splits(keys, groups, Splits())
    assert not notes and all(len(set(chosen[i : i + PER_PERSON])) == 1 for i in range(0, rows, PER_PERSON))
    return ", ".join(f"{chosen.count(split):,} {split}" for split in ("train", "validation", "test"))


def most_memory() -> int:
    """Bytes of this process at most (Linux; what getrusage tells of a child includes its parent's)."""
    line = next(n for n in Path("/proc/self/status").read_text().splitlines() if n.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.part:
        started, cpu = time.monotonic(), time.process_time()
        answer = {"stats": stats, "filters": filters, "splits": splits}[told.part](told.folder)
        print(json.dumps([answer, time.monotonic() - started, time.process_time() - cpu, most_memory()]))
        return
    with tempfile.TemporaryDirectory(prefix="ledger-") as name:
        folder = told.folder or Path(name)
        if not (folder / "shards" / "ledger").is_dir():
            started = time.process_time()
            make_up(folder, told.rows)
            print(f"made up {told.rows:,} inputs in {time.process_time() - started:.0f} s of CPU", flush=True)
        held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rows = pq.read_metadata(folder / "shards.work" / "ledger.parquet").num_rows
        print(f"{rows:,} rows, {held / 1e9:.2f} GB; Python {platform.python_version()}", flush=True)
        within = True
        for part in PARTS:
            command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE)
            if done.returncode:
                sys.exit(f"{part} failed")
            answer, wall, cpu, memory = json.loads(done.stdout)
            within = within and wall < SECONDS and memory < BYTES
            print(
                f"{part:8s} {wall:6.1f} s ({cpu:.1f} s of CPU), {memory / 2**20:6.0f} MiB at most: {answer}", flush=True
            )
        print("within" if within else "NOT within", f"{SECONDS:.0f} s and {BYTES >> 20} MiB each")
        sys.exit(not within)


if __name__ == "__main__":
    main()
