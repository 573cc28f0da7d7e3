"""Which of two datasets teaches a model more? Pairs of runs, one question declared beforehand, an answer with its certainty.

    comparison/plan.json        what was declared, before the first run (compare_plan.py)
    comparison/a-0/ a-0.json    a run of A with seed 0, and its measurements (compare_run.py); b-0 is its pair
    comparison/image_tokenizer/ text_tokenizer/ start/    what both variants share (compare_start.py)
    comparison/compare.json compare.html           the answer (compare_report.py, compare_page.py)

Finished runs are kept: the same command goes on after a kill, and with more --seeds adds pairs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from unif2ace_data.errors import UserError
from unif2ace_data.run.progress import Progress
from unif2ace_data.run.store import lock_folder
from unif2ace_data.schema import SPLITS, Split
from unif2ace_data.shards import write_bytes
from unif2ace_model.compare_metrics import measure
from unif2ace_model.compare_page import write_page
from unif2ace_model.compare_plan import (
    PLAN,
    SIDES,
    START,
    START_SHARE,
    TEXT,
    Plan,
    check_held_out,
    encoded,
    held_records,
    machine,
    measurements,
    mixture,
    people_of,
    read_plan,
    same_plan,
    share_tokenizers,
    side_of,
    with_shared,
    write_plan,
)
from unif2ace_model.compare_report import report_of
from unif2ace_model.compare_run import (
    STOPPED,
    analyser_of,
    held_at,
    read_result,
    result_file,
    stepped,
)
from unif2ace_model.compare_start import share_start
from unif2ace_model.config import Preset
from unif2ace_model.run_folder import checkpoints, placed
from unif2ace_model.run_tokenizer import FOLDER as IMAGES
from unif2ace_model.train import check_dataset, train

REPORT, PAGE, TRIAL = "compare.json", "compare.html", ".trial"
TRIAL_STEPS = 12
LEAST_STEPS = 50  # our choice: under these a comparison compares the first steps of a learning rate
SHARE = 0.85  # of a budget that is planned for: two runs side by side are slower than one alone
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)")
SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for. `budget`: seconds of this machine for all runs, None: the preset's steps."""

    a: Path
    b: Path
    evaluation: Path
    split: Split
    out: Path
    preset: Preset
    seeds: int
    budget: float | None
    primary: Sequence[str]
    limit: int
    pictures: int


def compare(asked: Asked, quiet: bool = False) -> dict[str, Any]:
    """Do what is missing, and write and return the answer (docs/compare.md lists its fields).

    Raises UserError: no dataset, A and B alike, held-out samples that a variant knows, another comparison in `out`, a
    budget that is too small, no pair that finished. KeyboardInterrupt after the runs have saved.
    """
    out = asked.out
    begin(out)
    with lock_folder(out):
        shutil.rmtree(out / TRIAL, ignore_errors=True)
        plan = planned(asked, quiet)
        share_start(out, plan, quiet)
        failed = finish_runs(out, plan, [(side, seed) for seed in range(asked.seeds) for side in SIDES], quiet)
        report = report_of(out, plan, asked.seeds, failed, looks_of(out, asked.seeds))
        write_bytes(out / REPORT, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
        write_page(out / PAGE, out, plan, report)
    return report


def begin(out: Path) -> None:
    if out.is_dir() and any(path.name not in ("lock", TRIAL) for path in out.iterdir()):
        shared = any((out / name).exists() for name in (PLAN, IMAGES, TEXT, START))
        if not shared:
            raise UserError(f"{out} is not empty and holds no comparison: give another --out", 2)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the comparison cannot be written to {out} ({error.strerror})") from None


def looks_of(out: Path, seeds: int) -> list[int]:
    """The numbers of pairs at which this comparison has been looked at, this one included."""
    try:
        before = list(orjson.loads((out / REPORT).read_bytes())["looks"])
    except (OSError, ValueError, KeyError):
        before = []
    return sorted({*before, seeds})


# ------------------------------------------------------------------ declaring


def planned(asked: Asked, quiet: bool) -> Plan:
    """The plan that lies in the folder, if it is what is asked for; else a new one, written before any run."""
    a, b, evaluation = (side_of(shards) for shards in (asked.a, asked.b, asked.evaluation))
    if a.root_sha256 == b.root_sha256:
        raise UserError(f"{asked.a} and {asked.b} are the same dataset (root {a.root_sha256[:12]})", 2)
    for shards in (asked.a, asked.b):
        check_dataset(shards)
    before = read_plan(asked.out)
    declared = placed(asked.preset)
    share_tokenizers(asked.a, asked.b, asked.out, declared, quiet)
    preset = with_shared(asked.out, declared)
    threads, at_once = machine()
    torch.set_num_threads(threads)
    sets = {name: encoded(shards, preset, quiet) for name, shards in (("A", asked.a), ("B", asked.b))}
    held = sets["A"] if evaluation.root_sha256 == a.root_sha256 else encoded(asked.evaluation, preset, quiet)
    records = held_records(held, asked.split, asked.limit)
    groups = [str(qa["category"]) for record in records for qa in record.qa]
    if not groups:
        raise UserError(f"{asked.evaluation}: no questions in {asked.split!r}: run `unif2ace-data qa-gen` on it first")
    primary, secondary = measurements(groups, asked.pictures, asked.primary)
    plan = Plan(
        a=a,
        b=b,
        evaluation=evaluation,
        split=asked.split,
        limit=asked.limit,
        preset=declared,
        steps=declared.optim.steps,
        primary=primary,
        secondary=secondary,
        pictures=asked.pictures,
        threads=threads,
        at_once=at_once,
        people=people_of(held, records, preset),
    )
    if before is not None:
        same_plan(asked.out, before, plan)
        moved = {name: getattr(plan, name) for name in ("a", "b", "evaluation")}
        return before.model_copy(update=moved)
    check_held_out(held, records, {"A": (asked.a, sets["A"]), "B": (asked.b, sets["B"])}, preset)
    if asked.budget is not None:
        plan = within(plan, asked, quiet)
    write_plan(asked.out, plan)
    return plan


def within(plan: Plan, asked: Asked, quiet: bool) -> Plan:
    """The plan with as many steps as the budget pays for, by the time of a short trial on this machine."""
    assert asked.budget is not None
    progress = Progress("timing a run", TRIAL_STEPS, quiet, "step")
    folder = asked.out / TRIAL
    trial = stepped(with_shared(asked.out, plan.preset), TRIAL_STEPS)
    timed = trial.run.model_copy(update={"save_every": TRIAL_STEPS, "log_every": 1})
    trial = trial.model_copy(update={"run": timed, "start": plan.preset.start})
    started = time.monotonic()
    train(Path(plan.a.path), folder, trial, quiet=True)
    lines = [orjson.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    whole = time.monotonic() - started
    progress.advance(TRIAL_STEPS, [])
    tokens = sum(map(mixture(asked.out, plan, "a", 0).tokens, range(TRIAL_STEPS))) / TRIAL_STEPS
    step_seconds = tokens / sorted(line["tokens_per_second"] for line in lines)[len(lines) // 2]
    started = time.monotonic()
    measure(held_at(checkpoints(folder)[-1], plan, plan.limit), analyser_of(plan.evaluation), plan.pictures)
    fixed = (time.monotonic() - started) * 1.5 + max(0.0, whole - TRIAL_STEPS * step_seconds)  # curve, loading
    progress.close()
    shutil.rmtree(folder)
    rounds = 2 * asked.seeds / plan.at_once  # one after the other
    begun = 0.0 if plan.preset.start else START_SHARE
    steps = int((SHARE * asked.budget - rounds * fixed) / (step_seconds * (rounds + begun)))
    if steps < LEAST_STEPS:
        need = (rounds * fixed + LEAST_STEPS * step_seconds * (rounds + begun)) / SHARE
        raise UserError(
            f"--budget {asked.budget / 60:.0f}m pays for {max(0, steps)} steps a run (a step takes {step_seconds:.2f} s, "
            f"measuring {fixed:.0f} s): give at least {need / 60 + 1:.0f}m, fewer --seeds, or a smaller preset"
        )
    return plan.model_copy(update={"steps": steps})


# ------------------------------------------------------------------ running


def finish_runs(out: Path, plan: Plan, runs: Sequence[tuple[str, int]], quiet: bool) -> list[dict[str, Any]]:
    """Run those (side, seed) that have no result yet, so many at once; what crashed, with the last that it said."""
    waiting = [(side, seed) for side, seed in runs if read_result(out, plan, side, seed) is None]
    progress = Progress("runs", len(waiting), quiet, "run")
    at_work: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    failed: list[dict[str, Any]] = []
    try:
        while waiting or at_work:
            while waiting and len(at_work) < plan.at_once:
                side, seed = waiting.pop(0)
                at_work[side, seed] = started(out, plan, side, seed)
            for (side, seed), process in list(at_work.items()):
                code = process.poll()
                if code is None:
                    continue
                del at_work[side, seed]
                progress.advance(1, [])
                if code == STOPPED:
                    raise KeyboardInterrupt
                if code or not result_file(out, side, seed).is_file():
                    failed.append({"side": side, "seed": seed, "why": last_words(out, side, seed, code)})
            time.sleep(0.2)
    finally:
        for process in at_work.values():
            process.terminate()  # saves after its step
        for process in at_work.values():
            process.wait()
        progress.close()
    return failed


def started(out: Path, plan: Plan, side: str, seed: int) -> subprocess.Popen[bytes]:
    threads = str(plan.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-m", "unif2ace_model.compare_run", str(out), side, str(seed)]
    with (out / f"{side}-{seed}.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def last_words(out: Path, side: str, seed: int, code: int) -> str:
    said = (out / f"{side}-{seed}.log").read_text("utf-8", "replace").strip().splitlines()
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{said[-1][:500]} ({how})" if said else how


# ------------------------------------------------------------------ the command line


def asked_for(
    a: Path, b: Path, evaluation: Path, split: str, out: Path, preset: Preset, seeds: int, budget: str | None,
    primary: Sequence[str], limit: int, pictures: int,
) -> Asked:  # fmt: skip
    """Raises UserError (exit code 2) for what is no split or no time."""
    splits: dict[str, Split] = {name: name for name in SPLITS}
    if split not in splits:
        raise UserError(f"--split {split!r}: choose among {', '.join(SPLITS)}", 2)
    seconds = None if budget is None else seconds_of(budget)
    return Asked(a, b, evaluation, splits[split], out, preset, seeds, seconds, primary, limit, pictures)


def seconds_of(text: str) -> float:
    """`90s`, `30m`, `1h30m` in seconds. Raises UserError (exit code 2)."""
    parts = DURATION.findall(text)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != text.replace(" ", ""):
        raise UserError(f"--budget {text!r}: write a time, for example 30m or 1h30m", 2)
    return sum(float(number) * SECONDS[unit] for number, unit in parts)
