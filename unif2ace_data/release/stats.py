"""Statistics of a dataset: sums, reasons, distributions, attributes, captions. Aggregates only, so they may travel.

Counted in batches from the ledgers and record by record from the shards; bins and the order of everything are fixed,
so the same dataset gives the same statistics, byte for byte.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group
from rich.table import Table
from rich.text import Text

from unif2ace_data.errors import UserError
from unif2ace_data.filters import REASONS
from unif2ace_data.qa.counts import QaCounts
from unif2ace_data.release.claims import ClaimCounts, claim_rows
from unif2ace_data.release.fairness import balance_rows, rate_rows, warning_lines
from unif2ace_data.release.questions import question_lines, question_tables
from unif2ace_data.release.read import kept_ledgers, ledger_batches, read_mapping, sample_records, shard_paths, split_of
from unif2ace_data.schema import SCHEMA_VERSION, SPLITS
from unif2ace_data.shards import read_index

STATUSES = ("kept", "dropped", "failed")
VERDICTS = ("supported", "contradicted", "unverified")
SIZES = (0, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
# Name -> (unit, edges of the bins); the outermost bins also take what lies beyond them.
BINS: dict[str, tuple[str, tuple[float, ...]]] = {
    "face_px": ("pixels, longer side of the face", SIZES),
    "source_px": ("pixels, shorter side of the photo", SIZES),
    "score": ("detector score", tuple(round(0.05 * i, 2) for i in range(21))),
    "yaw": ("degrees", tuple(range(-90, 91, 10))),
    "pitch": ("degrees", tuple(range(-90, 91, 10))),
    "roll": ("degrees", tuple(range(-90, 91, 10))),
    "sharpness": ("variance of the Laplacian", (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)),
    "brightness": ("mean grey level", tuple(range(0, 256, 15))),
}
TOKEN_EDGES = tuple(range(0, 241, 10))
# Our choice: words, numbers and punctuation marks; a tokenizer's pieces are about as many, and need no tokenizer.
TOKEN = re.compile(r"\w+|[^\w\s]")
LOSSES = {"inputs", "dropped", "failed", "reasons", "datasets"}  # what only the full ledger can tell
COMMON = 0.8  # an attribute whose commonest value covers this share of the samples tells them apart no more

COLUMNS = ["dataset", "face", "width", "height"]
MEASURES = ["face_px", "score", "yaw", "pitch", "roll", "sharpness", "brightness"]


def compute_stats(
    out: Path, ledger: Path | None, notes: Sequence[str] | None = None, fairness: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Statistics of the dataset at `out`, as a JSON-ready dict (docs/report.md lists its fields).

    ledger: the full ledger, with drops and failures; None: what only it can tell is taken over from `out`/stats.json,
    and a note says so where there is none. notes: sentences to pass through; None: those of `out`/stats.json.
    fairness: run/fairness.py; None: the private measurements are gone, and what `out`/stats.json has stays.
    Raises UserError where files are missing or broken, or the sums of ledger and shards do not agree.
    """
    earlier = read_mapping(out / "stats.json")
    rows = count_rows([ledger], full=True) if ledger else count_rows(kept_ledgers(out), full=False)
    samples = count_samples(out)
    check_sums(out, rows, samples)
    said = list(earlier.get("notes", []) if notes is None else notes)
    sums = sums_of(rows)
    if not ledger and LOSSES.issubset(earlier):
        sums.update({name: earlier[name] for name in sorted(LOSSES)})
        sums["rows"] = sums["kept"] + sums["dropped"] + sums["failed"]
    elif not ledger:
        said.append("drops and failures are not counted: neither the full ledger nor an earlier stats.json is here")
    return {
        "schema_version": SCHEMA_VERSION,
        **sums,
        "splits": splits_of(samples),
        "distributions": distributions_of(rows, {} if ledger else earlier.get("distributions", {})),
        **contents_of(samples),
        "fairness": earlier.get("fairness", {}) if fairness is None else fairness,
        "notes": said,
    }


def published_stats(out: Path) -> dict[str, Any]:
    """The stats.json of a finished dataset. UserError where it is not that of the shards that are here.

    Shards are looked at for presence and size only, which costs nothing; `verify` reads them.
    """
    index = read_index(out)
    for shard in index["shards"]:
        path = out / shard["name"]
        if not path.is_file():
            raise UserError(
                f"{path} is missing, so the statistics do not hold; run unif2ace-data verify, or build again"
            )
        if path.stat().st_size != shard["bytes"]:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes, the index says {shard['bytes']}; run unif2ace-data verify"
            )
    found = read_mapping(out / "stats.json")
    if not found:
        raise UserError(f"{out / 'stats.json'} is missing or empty; run unif2ace-data build again to write it anew")
    return found


# ------------------------------------------------------------------ ledgers


@dataclass(slots=True)
class Histogram:
    """Counts per bin of the kept rows and of the others; sum, least and greatest of the kept."""

    edges: np.ndarray
    kept: np.ndarray
    others: np.ndarray
    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, values: np.ndarray, kept: np.ndarray) -> None:
        """values (N,) float, NaN where not measured; kept (N,) bool."""
        measured = ~np.isnan(values)
        bins = np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, len(self.kept) - 1)
        self.kept += np.bincount(bins[measured & kept], minlength=len(self.kept))
        self.others += np.bincount(bins[measured & ~kept], minlength=len(self.others))
        if (mine := values[measured & kept]).size:
            self.total += float(mine.sum(dtype=np.float64))
            self.low, self.high = min(self.low, float(mine.min())), max(self.high, float(mine.max()))


@dataclass(slots=True)
class Rows:
    """What a pass over ledgers counts. `groups`: rows by (dataset, status, reason)."""

    inputs: int = 0
    groups: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def of(self, status: str) -> int:
        return sum(n for (_, s, _), n in self.groups.items() if s == status)


def count_rows(ledgers: Iterable[Path], full: bool) -> Rows:
    """One pass over the full ledger, or over the ledgers of the kept (which need no status and no reason)."""
    rows = Rows()
    for name, (_, edges) in BINS.items():
        empty = np.zeros(len(edges) - 1, np.int64)
        rows.histograms[name] = Histogram(np.array(edges, np.float64), empty, empty.copy())
    for path in ledgers:
        for batch in ledger_batches(path, COLUMNS + MEASURES + (["status", "reason"] if full else [])):
            add_batch(rows, pa.Table.from_batches([batch]), full)
    unknown = sorted({status for _, status, _ in rows.groups} - set(STATUSES))
    if unknown:
        raise UserError(f"the ledger has rows neither kept, dropped nor failed: {', '.join(map(repr, unknown))}")
    return rows


def add_batch(rows: Rows, table: pa.Table, full: bool) -> None:
    """In the full ledger an input has exactly one row without a face number or with face 0."""
    if not full:
        table = table.append_column("status", pa.repeat("kept", len(table)))
        table = table.append_column("reason", pa.repeat("", len(table)))
    rows.inputs += pc.sum(pc.less_equal(table["face"], 0)).as_py() or 0 if full else len(table)
    grouped = table.group_by(["dataset", "status", "reason"]).aggregate([([], "count_all")])
    for group in grouped.to_pylist():
        rows.groups[group["dataset"] or "", group["status"] or "", group["reason"] or ""] += group["count_all"]
    kept = np.asarray(pc.fill_null(pc.equal(table["status"], "kept"), False).to_numpy(), bool)
    for name in MEASURES:
        rows.histograms[name].add(floats(table[name]), kept)
    shorter = np.minimum(floats(table["width"]), floats(table["height"]))
    rows.histograms["source_px"].add(np.where(shorter > 0, shorter, np.nan), kept)


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) float64; null becomes NaN."""
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(), np.float64)


# ------------------------------------------------------------------ shards


@dataclass(slots=True)
class Samples:
    """What a pass over the shards counts."""

    shards: Counter[str] = field(default_factory=Counter)  # samples by shard
    bytes: Counter[str] = field(default_factory=Counter)  # bytes by shard
    values: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # (group, attribute, value)
    having: Counter[str] = field(default_factory=Counter)  # samples that have the attribute
    claimed: Counter[str] = field(default_factory=Counter)  # captions that state the attribute
    claims: Counter[str] = field(default_factory=Counter)  # claims by verdict
    tokens: Counter[int] = field(default_factory=Counter)  # captions by length
    licences: Counter[str] = field(default_factory=Counter)
    credited: int = 0
    captioners: Counter[str] = field(default_factory=Counter)
    fates: ClaimCounts = field(default_factory=ClaimCounts)
    qa: QaCounts = field(default_factory=QaCounts)

    @property
    def total(self) -> int:
        return self.shards.total()


def count_samples(out: Path) -> Samples:
    samples = Samples()
    for shard in shard_paths(out):
        samples.shards[shard.stem] = 0
        samples.bytes[shard.stem] = shard.stat().st_size
        for record in sample_records(shard):
            try:
                add_sample(samples, shard.stem, record)
            except (KeyError, TypeError, AttributeError) as error:
                uid = record.get("uid", "a record without uid")
                raise UserError(f"{shard}: {uid} does not hold ({error!r}); run unif2ace-data verify") from None
    return samples


def add_sample(samples: Samples, shard: str, record: dict[str, Any]) -> None:
    samples.shards[shard] += 1
    attributes = {(a["group"], a["name"], a["value"]) for a in record["attributes"]}
    samples.values.update(attributes)
    samples.having.update({name for _, name, _ in attributes})
    samples.claimed.update({claim["attribute"] for claim in record["claims"]})
    samples.claims.update(claim["verdict"] for claim in record["claims"])
    samples.tokens[len(TOKEN.findall(record["caption"]))] += 1
    samples.licences[record["source"]["licence"]] += 1
    samples.credited += bool(record["source"]["author"])
    samples.captioners[" ".join(filter(None, (record["captioner"]["engine"], record["captioner"]["model"])))] += 1
    samples.fates.add(record)
    samples.qa.add(record["qa"])


# ------------------------------------------------------------------ what is written


def check_sums(out: Path, rows: Rows, samples: Samples) -> None:
    """Raises UserError unless full ledger, ledgers of the kept and shards hold the same number of kept samples."""
    for path in kept_ledgers(out):
        shard = path.stem.removeprefix("kept-")
        count = sum(batch.num_rows for batch in ledger_batches(path, ["key"]))
        if count != samples.shards[shard]:
            raise UserError(
                f"{out}: {shard}.tar holds {samples.shards[shard]} samples, its ledger {count} rows; "
                "run unif2ace-data verify"
            )
    if rows.of("kept") != samples.total:
        raise UserError(
            f"{out}: the full ledger keeps {rows.of('kept')} samples, the shards hold {samples.total}; "
            "finish the build (run it again) before counting"
        )


def sums_of(rows: Rows) -> dict[str, Any]:
    by_status = {status: rows.of(status) for status in STATUSES}
    reasons: Counter[tuple[str, str]] = Counter()
    datasets: dict[str, Counter[str]] = {}
    for (dataset, status, reason), count in sorted(rows.groups.items()):
        datasets.setdefault(dataset, Counter())[status] += count
        if status != "kept":
            reasons[status, reason] += count
    return {
        "inputs": rows.inputs,
        "rows": sum(by_status.values()),
        **by_status,
        "reasons": [
            {"reason": reason, "status": status, "rows": reasons[status, reason]}
            for status, reason in sorted(reasons, key=funnel_place)
        ],
        "datasets": {name: {status: counts[status] for status in STATUSES} for name, counts in datasets.items()},
    }


def funnel_place(group: tuple[str, str]) -> tuple[bool, int, str]:
    """Failures first, then drops in the order of the filters, then reasons that the filters do not know."""
    status, reason = group
    return status != "failed", REASONS.index(reason) if reason in REASONS else len(REASONS), reason


def splits_of(samples: Samples) -> dict[str, dict[str, int]]:
    totals: dict[str, dict[str, int]] = {split: {"samples": 0, "shards": 0, "bytes": 0} for split in SPLITS}
    for shard, count in samples.shards.items():
        split = totals[split_of(Path(shard))]
        split["samples"] += count
        split["shards"] += 1
        split["bytes"] += samples.bytes[shard]
    return totals


def distributions_of(rows: Rows, earlier: dict[str, Any]) -> dict[str, Any]:
    """Histograms by name; `others` (measured, not kept) come from `earlier` where the rows are the kept ones only."""
    found = {}
    for name, (unit, edges) in BINS.items():
        histogram = rows.histograms[name]
        count = int(histogram.kept.sum())
        found[name] = {
            "unit": unit,
            "edges": list(edges),
            "kept": histogram.kept.tolist(),
            "others": earlier.get(name, {}).get("others") or histogram.others.tolist(),
            "mean": round(histogram.total / count, 3) if count else 0.0,
            "min": round(histogram.low, 3) if count else 0.0,
            "max": round(histogram.high, 3) if count else 0.0,
        }
    return found


def contents_of(samples: Samples) -> dict[str, Any]:
    total = max(samples.total, 1)
    attributes = attributes_of(samples)
    varied = [a for a in attributes if a["values"][0]["share"] < COMMON]
    lengths = np.repeat(*(np.array([*f], np.int64) for f in (samples.tokens.keys(), samples.tokens.values())))
    return {
        "attributes": attributes,
        "attributes_per_sample": round(samples.having.total() / total, 2),
        "captions": {
            "engines": dict(sorted(samples.captioners.items())),
            "attributes_per_caption": round(samples.claimed.total() / total, 2),
            "varied_attributes_per_caption": round(sum(a["claimed"] for a in varied) / total, 2),
            "tokens_mean": round(float(lengths.mean()), 2) if lengths.size else 0.0,
            "tokens_min": int(lengths.min(initial=10**9)) if lengths.size else 0,
            "tokens_max": int(lengths.max(initial=0)),
            "token_edges": list(TOKEN_EDGES),
            "token_counts": np.histogram(np.clip(lengths, 0, TOKEN_EDGES[-1] - 1), TOKEN_EDGES)[0].tolist(),
        },
        "claims": {
            "total": samples.claims.total(),
            **{verdict: samples.claims[verdict] for verdict in VERDICTS},
            **samples.fates.as_stats(),
        },
        "licences": dict(sorted(samples.licences.items())),
        "samples_with_author": samples.credited,
        "qa": samples.qa.as_stats(samples.total),
    }


def attributes_of(samples: Samples) -> list[dict[str, Any]]:
    """One entry per attribute, by group and name; values from the commonest; shares are of all samples."""
    total = max(samples.total, 1)
    values: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for (group, name, value), count in samples.values.items():
        values.setdefault((group, name), []).append((-count, value))
    return [
        {
            "name": name,
            "group": group,
            "samples": samples.having[name],
            "share": round(samples.having[name] / total, 4),
            "claimed": samples.claimed[name],
            "values": [{"value": v, "samples": -n, "share": round(-n / total, 4)} for n, v in sorted(counts)],
        }
        for (group, name), counts in sorted(values.items())
    ]


# ------------------------------------------------------------------ in the terminal


def render_stats(stats: dict[str, Any]) -> Group:
    """The statistics as compact tables that rich prints."""
    sums = "  ".join(f"{stats[status]:,} {status}" for status in STATUSES)
    unit = f"{stats['inputs']:,} inputs" + (f", {stats['rows']:,} rows" if stats["rows"] != stats["inputs"] else "")
    captions, qa = stats["captions"], stats["qa"]
    lines = [
        f"{unit}: {sums}",
        f"captions: {captions['tokens_mean']} tokens ({captions['tokens_min']} to {captions['tokens_max']}), "
        f"{captions['attributes_per_caption']} attributes of {stats['attributes_per_sample']} in a sample",
        "claims: " + ", ".join(f"{stats['claims'][verdict]:,} {verdict}" for verdict in VERDICTS),
        *question_lines(qa),
        "licences: " + ", ".join(f"{name or 'not stated'} {n:,}" for name, n in stats["licences"].items()),
        *(f"note: {note}" for note in stats["notes"]),
        *(f"uneven: {line}" for line in warning_lines(stats)),
    ]
    reasons = [(r["reason"], r["status"], f"{r['rows']:,}") for r in stats["reasons"]]
    splits = [
        (s, f"{n['samples']:,}", f"{n['shards']:,}", f"{n['bytes'] / 1e6:,.2f}") for s, n in stats["splits"].items()
    ]
    spreads = [
        (name, *(f"{d[part]:g}" for part in ("min", "mean", "max")), bars(d["kept"]), d["unit"])
        for name, d in stats["distributions"].items()
    ]
    attributes = [
        (a["name"], f"{a['share']:.1%}", ", ".join(f"{v['value']} {v['share']:.1%}" for v in a["values"][:4]))
        for a in stats["attributes"]
    ]
    return Group(
        *(Text(plain(line)) for line in lines),
        *grid("kept: split, samples, shards, MB", splits, numbers=(1, 2, 3)),
        *grid("lost: reason, status, rows", reasons, numbers=(2,)),
        *grid("measured on the kept: least, mean, greatest", spreads, numbers=(1, 2, 3)),
        *grid("attributes: share of the samples, commonest values", attributes, numbers=(1,)),
        *(
            grid("claims by engine and attribute: claims, contradicted (removed), unverified", rows, numbers=(2, 3, 4))
            if (rows := claim_rows(stats["claims"]))
            else ()
        ),
        *(part for table in question_tables(qa) for part in grid(*table)),
        *(
            grid("dropped by apparent group: rate (95 % interval, of)", rows, numbers=())
            if (rows := rate_rows(stats))
            else ()
        ),
        *(
            grid(
                "kept by apparent group: samples, share, attributes and questions a sample", rows, numbers=(2, 3, 4, 5)
            )
            if (rows := [tuple(map(str, row)) for row in balance_rows(stats)])
            else ()
        ),
    )


def grid(title: str, rows: Sequence[tuple[str, ...]], numbers: tuple[int, ...]) -> tuple[Text, Table]:
    """A title and a table without borders; columns in `numbers` stand right."""
    rows = rows or [("none",)]
    table = Table.grid(padding=(0, 2, 0, 0))
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return Text(f"\n{title}", style="bold"), table


def plain(text: str) -> str:
    """Text without control characters: captions and names may hold anything, also what steers a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def bars(counts: Sequence[int]) -> str:
    """One block per bin, as high as its count; a bin that is not empty is never drawn empty."""
    most = max(counts, default=0) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // most)] for count in counts)
