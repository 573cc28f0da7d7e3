"""What each part of the model is worth on a dataset of your own: 3 seeds of each variant of a preset, evaluated on `test`.

    python benchmarks/ablation.py --shards shards/ --tokenizer fsq:tok --runs runs/ablation [--page PAGE]

Every run is resumable, and one that is evaluated is not trained again: the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from unif2ace_data.shards import read_index
from unif2ace_model.config import Preset, load_preset
from unif2ace_model.evaluate import Wanted, evaluate
from unif2ace_model.train import train

VARIANTS: dict[str, list[str]] = {
    "full": [],
    "no face features": ['features.face=""', "model.sequence_moe.und=[copy, copy]"],
    "no token MoE": ["model.token_moe=null", "model.ffn_dim={dense}"],
    "no sequence MoE": ["model.sequence_moe=null"],
    "mask only": ["objective.alpha=0"],
    "score only": ["objective.mask=0"],
}
COLUMNS = {
    "accuracy": ("qa", "with_options", "accuracy", 100),
    "gain": ("qa", "with_options", "gain", 100),
    "exchanged gain": ("qa", "with_options", "exchanged_gain", 100),
    "answer NLL": ("qa", "all", "nll", 1),
    "bits a code": ("nelbo", "bits_per_token", "", 1),
    "under unigram": ("nelbo", "under_unigram", "", 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--preset", default="train-tiny")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(
        asked.seeds
    ):  # all variants of a seed before the next: a run that is cut short compares like with like
        for variant in VARIANTS:
            found.setdefault(variant, []).append(outcome(asked, variant, seed))
            print(f"{variant}, seed {seed}: {shown(found[variant][-1])}", file=sys.stderr, flush=True)
    page = table(asked, found)
    print(page)
    if asked.page:
        asked.page.write_text(page)


def outcome(asked: argparse.Namespace, variant: str, seed: int) -> dict[str, Any]:
    """The report of one run; trained and evaluated where it is not yet."""
    out = asked.runs / f"{variant.replace(' ', '-')}-{seed}"
    file = out.with_suffix(".json")
    full = load_preset(asked.preset)
    moe = full.model.token_moe
    # equal active parameters: the shared expert and K routed ones, as one dense layer
    dense = full.model.ffn_dim + (moe.top_k * moe.expert_dim if moe else 0)
    settings = [change.format(dense=dense) for change in VARIANTS[variant]]
    settings += [f"images.tokenizer={asked.tokenizer}", f"optim.steps={asked.steps}", f"run.seed={seed}"]
    preset = load_preset(asked.preset, [*settings, "run.sample_every=0"])
    if file.is_file():
        return known(file, preset, asked)
    resumed = out.exists()
    started, before = time.monotonic(), os.times()
    if train(asked.shards, out, preset).stopped:  # saved by a signal: a half-trained run is not to be judged
        sys.exit(130)
    after = os.times()
    report = evaluate(out, asked.shards, Wanted("test", ("qa", "nelbo")), quiet=True)
    report["seconds"] = {
        "wall": round(time.monotonic() - started),
        "train_cpu": None if resumed else round(after.user + after.system - before.user - before.system),
    }
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(report))
    partial.rename(file)
    return report


def known(file: Path, preset: Preset, asked: argparse.Namespace) -> dict[str, Any]:
    """A report that lies there. Ends the program where it is of other settings or of another dataset."""
    report = dict(json.loads(file.read_text()))
    same = (
        report["preset"]["optim"]["steps"] == preset.optim.steps and report["preset"]["run"]["seed"] == preset.run.seed
    )
    if not same or report["dataset"]["root_sha256"] != read_index(asked.shards)["root_sha256"]:
        sys.exit(f"{file} is of other settings or of another dataset: give another --runs")
    return report


def figure(report: dict[str, Any], column: str) -> tuple[float, float, float]:
    """(value, low, high) of a column: of one run, with its interval over identities."""
    *path, scale = COLUMNS[column]
    node: Any = report
    for key in path:
        node = node[key] if key else node
    return node["value"] * scale, node["low"] * scale, node["high"] * scale


def shown(report: dict[str, Any]) -> str:
    return ", ".join(f"{column} {figure(report, column)[0]:.2f}" for column in COLUMNS)


def table(asked: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> str:
    """Mean over seeds, the lowest and highest seed, and the mean half-width of the intervals over identities."""
    lines = ["| variant | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for variant, reports in found.items():
        cells = []
        for column in COLUMNS:
            rows = [figure(report, column) for report in reports]
            values = [value for value, _, _ in rows]
            half = statistics.mean((high - low) / 2 for _, low, high in rows)
            cells.append(f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f}) ±{half:.2f}")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    whole = [seconds for reports in found.values() for report in reports if (seconds := report["seconds"]["train_cpu"])]
    cost = f", about {statistics.mean(whole):.0f} CPU seconds a run" if whole else ""
    head = (
        f"{asked.preset}, {asked.steps} steps, {asked.seeds} seeds{cost}. Mean over seeds (lowest to highest seed) "
        "± half of the 95 % interval over people."
    )
    return "\n".join(
        [head, "", *lines, "", "Less the full model of the same seed, mean (lowest to highest):", "", *against(found)]
    )


def against(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Rows of differences to the full model, seed by seed: initialisation and data order are the same in a pair."""
    lines = ["| variant | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    whole = found["full"]
    for variant, reports in found.items():
        if variant == "full":
            continue
        cells = []
        for column in COLUMNS:
            pairs = zip(reports, whole, strict=True)
            values = [figure(one, column)[0] - figure(other, column)[0] for one, other in pairs]
            cells.append(f"{statistics.mean(values):+.2f} ({min(values):+.2f} to {max(values):+.2f})")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
