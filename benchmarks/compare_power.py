"""Is `unif2ace-model compare` calibrated, and what does it find? On variants of a dataset whose faults are known.

    python benchmarks/compare_power.py --shards shards/ --out power/ [--steps 220]

Every comparison has the same A, so its runs are made once and taken over: from the null comparison where B has the same
texts, and with them the same shared start; from that of 30 % where B has wrong answers. All is resumable; the page of
figures is printed from what has finished. Writes power.svg: what share of wrong answers is found how often.

    null        A beside itself in another order: the pair of one seed, which must come out the same to the last bit, and
                12 runs of each with seeds of their own, of which twenty comparisons of eight pairs are drawn
    simulated   20,000 comparisons of differences as scattered as the null's: how often p < 0.05
    faults      wrong answers (5 to 50 %), captions shuffled between photographs, half of the photographs
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from variants import named, variant

from unif2ace_model.compare import Asked, compare, finish_runs
from unif2ace_model.compare_metrics import PRIMARY, value_of
from unif2ace_model.compare_plan import Plan, read_plan, side_of, write_plan
from unif2ace_model.compare_report import by_person
from unif2ace_model.compare_run import read_result, result_file, rows_in
from unif2ace_model.config import load_preset
from unif2ace_model.paired import family_p, flips, interval, over_people, p_values

NULL = "reordered"
WRONG = "wrong-answers:0.3"
FAULTS = {
    "shuffled-captions": 8,
    WRONG: 8,
    "half": 8,
    "wrong-answers:0.5": 6,
    "wrong-answers:0.2": 6,
    "wrong-answers:0.1": 6,
    "wrong-answers:0.05": 6,
}
PAIRS, POOL, DRAWN, SIMULATED, PICTURES = 8, 12, 20, 20_000, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=220)
    parser.add_argument("--told", action="store_true", help="Train nothing: print what has finished.")
    told = parser.parse_args()
    told.out.mkdir(exist_ok=True)
    if not told.told:
        run_all(told)
    print_all(told)


def run_all(told: argparse.Namespace) -> None:
    one(told, NULL, 1)
    pool(told, PAIRS, 0)
    for place, (name, seeds) in enumerate(FAULTS.items()):
        one(told, name, seeds)
        if place == 1:  # once the first faults have been seen
            pool(told, POOL, POOL)


def pool(told: argparse.Namespace, of_a: int, of_b: int) -> None:
    """Runs to draw pairs from: A with the seeds from 0 on, B with those after them, since the same would be the same run."""
    out = told.out / NULL
    plan = read_plan(out)
    assert plan is not None
    runs = [("a", seed) for seed in range(of_a)] + [("b", POOL + seed) for seed in range(of_b)]
    for crashed in finish_runs(out, plan, runs, quiet=False):
        print(f"{NULL}: {crashed}", flush=True)


def one(told: argparse.Namespace, name: str, seeds: int) -> dict[str, Any]:
    """The report of A beside one variant."""
    label = label_of(name)
    b, out = told.out / "variants" / label, told.out / label
    if not b.exists():
        b.parent.mkdir(exist_ok=True)
        variant(told.shards, b, named(name))
    preset = load_preset("train-compare", [f"optim.steps={told.steps}"])
    if name not in (NULL, WRONG):
        take_over(told.out / (label_of(WRONG) if name.startswith("wrong-answers") else NULL), out, b, seeds)
    report = compare(Asked(told.shards, b, told.shards, "test", out, preset, seeds, None, (), 0, PICTURES))
    print(f"{label}: {report['says'][0]}", flush=True)
    return report


def label_of(name: str) -> str:
    return name.replace(":", "-")


def take_over(done: Path, out: Path, b: Path, seeds: int) -> None:
    """A's runs, the start and the tokenizers of a comparison that is done, so that they are not made again."""
    plan = read_plan(done)
    assert plan is not None
    if not (out / "plan.json").is_file():
        out.mkdir(exist_ok=True)
        for folder in ("image_tokenizer", "text_tokenizer", "start"):
            shutil.copytree(done / folder, out / folder, dirs_exist_ok=True)
        root = json.loads((out / "image_tokenizer" / "metrics.json").read_bytes())
        both = f"{plan.a.root_sha256}+{side_of(b).root_sha256}"  # the same pictures, so the same tokenizer
        (out / "image_tokenizer" / "metrics.json").write_text(json.dumps(root | {"dataset": both}))
        write_plan(out, plan.model_copy(update={"b": side_of(b)}))
    for seed in range(seeds):
        if not result_file(out, "a", seed).is_file():
            shutil.copy(result_file(done, "a", seed), out)


# ------------------------------------------------------------------ what came out


def print_all(told: argparse.Namespace) -> None:
    null = told.out / NULL
    plan = read_plan(null)
    assert plan is not None
    print_null(null, plan)
    points = []
    for name in FAULTS:
        out = told.out / label_of(name)
        if not (out / "compare.json").is_file():
            continue
        report = json.loads((out / "compare.json").read_bytes())
        start = json.loads((out / "start" / "start.json").read_bytes())["cpu_seconds"]
        cpu = (start + sum(run["cpu_seconds"] for run in report["runs"])) / 60
        print(
            f"\n{name}: {report['verdict']}; {len(report['pairs'])} pairs, {cpu:.0f} CPU minutes; {report['says'][0]}"
        )
        for row in report["primary"] + report["secondary"]:
            ends, people = row["interval"], row["interval_people"]
            print(
                f"  {row['name']:<22} A {row['a']:.4f} B {row['b']:.4f} {row['difference']:+.4f} "
                f"[{ends['low']:+.4f}, {ends['high']:+.4f}] people [{people['low']:+.4f}, {people['high']:+.4f}] "
                f"p {row['p_corrected']:.4f} {row['favours'] or ''}"
            )
        if name.startswith("wrong-answers"):
            points.append((float(name.partition(":")[2]), report["primary"]))
    draw(told.out / "power.svg", sorted(points, key=lambda point: point[0]))


def print_null(null: Path, plan: Plan) -> None:
    same = [read_result(null, plan, side, 0) for side in "ab"]
    equal = all(same) and len({run["weights_sha256"] for run in same if run}) == 1
    print(f"null: of one seed the weights are {'the same' if equal else 'NOT the same'} to the last bit")
    runs = {
        side: [rows_in(r) for seed in range(first, first + POOL) if (r := read_result(null, plan, side, seed))]
        for side, first in (("a", 0), ("b", POOL))
    }
    figures = {
        side: np.array([[value_of(rows[name]) for name in PRIMARY] for rows in runs[side]], float) for side in "ab"
    }
    count = min(len(figures["a"]), len(figures["b"]))
    print(f"null: {count} runs of each")
    people = np.unique(plan.people, return_inverse=True)[1]
    chance, alarms = np.random.default_rng(0), 0
    covered, wide = dict.fromkeys(PRIMARY, 0), dict.fromkeys(PRIMARY, 0)
    drawn = DRAWN if count >= PAIRS else 0
    for _ in range(drawn):
        a, b = (chance.permutation(count)[:PAIRS] for _ in "ab")
        differences = figures["b"][b] - figures["a"][a]
        alarms += bool((family_p(differences) < 0.05).any())
        for k, name in enumerate(PRIMARY):
            near = interval(differences[:, k])
            rows = {"a": [runs["a"][i] for i in a], "b": [runs["b"][i] for i in b]}
            far = over_people(*by_person(name, rows, people))
            covered[name] += near is not None and near.low <= 0 <= near.high
            wide[name] += far is not None and far.low <= 0 <= far.high
    print(f"  {drawn} comparisons: {alarms} with a false alarm; intervals that cover zero {covered}")
    print(f"  intervals over people too that cover zero {wide}")
    differences = figures["b"][:count] - figures["a"][:count]
    spread = np.cov(differences.T)
    print(f"  standard deviation of a pair's difference, {PRIMARY}: {np.sqrt(np.diag(spread)).round(5).tolist()}")
    simulated = np.random.default_rng(1).multivariate_normal(np.zeros(2), spread, size=(SIMULATED, PAIRS))
    alone = [float(np.mean(p_values(simulated[:, :, k], flips(PAIRS)) < 0.05)) for k in range(2)]
    family = np.mean([(family_p(one) < 0.05).any() for one in simulated])
    print(f"  {SIMULATED} simulated nulls: false alarms {alone}, of either {family:.4f}")


def power_of(rows: list[dict[str, Any]]) -> float:
    """How many of 2,000 comparisons of eight pairs would find the first of the primary measurements, corrected for all of
    them, from the measured means and scatter."""
    pairs = np.array([row["pairs"] for row in rows])
    differences = (pairs[:, :, 1] - pairs[:, :, 0]).T
    simulated = np.random.default_rng(0).multivariate_normal(
        differences.mean(0), np.cov(differences.T), size=(SIMULATED // 10, PAIRS)
    )
    return float(np.mean([family_p(one)[0] < 0.05 for one in simulated]))


def draw(target: Path, points: list[tuple[float, list[dict[str, Any]]]]) -> None:
    """Two charts over the share of wrong answers: the difference in answer NLL, and how often eight pairs find it."""
    if not points:
        return
    rows = [primary[0] for _, primary in points]
    shares = [100 * share for share, _ in points]
    found = [0.047, *(power_of(primary) for _, primary in points)]  # of none: 12 of 256 flips
    most = 0.004 * math.ceil(max(row["interval"]["high"] for row in rows) / 0.004)  # a tick every so many thousandths
    differences = [(row["difference"], row["interval"]["low"], row["interval"]["high"]) for row in rows]
    left = chart(0, "answer NLL, B less A, nats a token", shares, differences, most)
    right = chart(400, "found by eight pairs (corrected p < 0.05)", [0, *shares], [(p, p, p) for p in found], 1.0)
    target.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 790 280" font-family="sans-serif" font-size="12" fill="#666">'
        f'<rect width="790" height="280" fill="white"/>{left}{right}</svg>\n'
    )
    print(f"\n{target}: power " + ", ".join(f"{s:g} %: {p:.2f}" for s, p in zip([0, *shares], found, strict=True)))


def chart(across: int, title: str, shares: list[float], values: list[tuple[float, float, float]], most: float) -> str:
    """One chart as SVG, its left edge at `across`; (value, low, high) at each share."""

    def x(share: float) -> float:
        return across + 60 + 5.8 * share

    def y(value: float) -> float:
        return 230 - 190 * value / most

    parts = [f'<text x="{across + 60}" y="20" fill="#222">{title}</text>']
    for tick in range(5):
        value = most * tick / 4
        parts.append(f'<line x1="{x(0)}" x2="{x(52)}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{x(0) - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2g}</text>')
    parts += [f'<text x="{x(s):.1f}" y="248" text-anchor="middle">{s:g}</text>' for s in (0, 10, 20, 30, 40, 50)]
    parts.append(f'<text x="{x(25)}" y="268" text-anchor="middle">wrong answers in B, %</text>')
    line = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, (v, _, _) in zip(shares, values, strict=True))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#14727c" stroke-width="2"/>')
    for share, (value, low, high) in zip(shares, values, strict=True):
        parts.append(f'<line x1="{x(share)}" x2="{x(share)}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="#14727c"/>')
        parts.append(f'<circle cx="{x(share)}" cy="{y(value):.1f}" r="4" fill="#14727c"/>')
    return "".join(parts)


if __name__ == "__main__":
    main()
