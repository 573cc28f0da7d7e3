"""One run of a comparison, in a process of its own: train a variant with a seed, measure it on the held-out samples.

    python -m unif2ace_model.compare_run COMPARISON SIDE SEED

    COMPARISON/a-0/          the run, as `train` writes it          COMPARISON/a-0.log   what the process said
    COMPARISON/a-0.json      its measurements by sample; written last, and never measured again

A process of its own, so that a crash is one seed's and not the comparison's.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import torch

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Faces
from unif2ace_data.release.read import read_mapping
from unif2ace_data.shards import write_bytes
from unif2ace_model.compare_metrics import Rows, curve_point, measure, rows_as_json, rows_of
from unif2ace_model.compare_plan import Plan, Side, read_plan, seeded, steps_of, with_shared
from unif2ace_model.config import Preset
from unif2ace_model.evaluate import Held, Wanted, held_out
from unif2ace_model.evaluate_generation import Look
from unif2ace_model.run_folder import checkpoints
from unif2ace_model.train import train
from unif2ace_model.trained import load_trained

CURVE = 4  # points of a learning curve: checkpoints along the way, the last one included
CURVE_SAMPLES = 64  # of the held-out samples, for the points before the last
WARMUP = 10  # our choice: the warm-up takes at most a tenth of the steps, since a budget may leave few
STOPPED = 130


def result_file(out: Path, side: str, seed: int) -> Path:
    return out / f"{side}-{seed}.json"


def key_of(plan: Plan, side: str, seed: int) -> dict[str, Any]:
    """What a result is a function of: one with another key is of another comparison."""
    return {
        "variant": plan.side(side).root_sha256,
        "evaluation": plan.evaluation.root_sha256,
        "split": plan.split,
        "limit": plan.limit,
        "pictures": plan.pictures,
        "seed": seed,
        "steps_of_a": plan.steps,
        "start_steps": plan.start_steps,
        "threads": plan.threads,
        "preset": seeded(plan.preset, seed).model_dump(mode="json"),
    }


def read_result(out: Path, plan: Plan, side: str, seed: int) -> dict[str, Any] | None:
    """None where the run is not finished. Raises UserError where the file is broken or of another comparison."""
    file = result_file(out, side, seed)
    try:
        result: dict[str, Any] = orjson.loads(file.read_bytes())
        key = result["key"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is broken ({error}): delete it, and the run is measured again") from None
    if key != key_of(plan, side, seed):
        raise UserError(f"{file} is of another comparison: give another --out")
    return result


def rows_in(result: dict[str, Any]) -> Rows:
    return rows_of(result["rows"])


def run(out: Path, plan: Plan, side: str, seed: int) -> bool:
    """Train and measure; False where a signal stopped it, after saving. Raises UserError as `train` does."""
    started, before = time.monotonic(), os.times()
    shards, folder = Path(plan.side(side).path), out / f"{side}-{seed}"
    steps, tokens = steps_of(out, plan, side, seed)
    preset = stepped(seeded(with_shared(out, plan.preset), seed), steps)
    if train(shards, folder, preset, quiet=True).stopped:
        return False
    points = checkpoints(folder)
    curve = [{"step": trained_step(point), **curve_point(held_at(point, plan, CURVE_SAMPLES))} for point in points[:-1]]
    held = held_at(points[-1], plan, plan.limit)
    rows, examples = measure(held, analyser_of(plan.evaluation), plan.pictures)
    curve.append({"step": steps, **curve_point(held_at(points[-1], plan, CURVE_SAMPLES))})
    after = os.times()
    result = {
        "key": key_of(plan, side, seed),
        "steps": steps,
        "tokens": tokens,
        "weights_sha256": held.trained.sha256,
        "cpu_seconds": round(after.user + after.system - before.user - before.system, 1),
        "seconds": round(time.monotonic() - started, 1),
        "curve": curve,
        "rows": rows_as_json(rows),
        "examples": {"captions": examples.captions, "answers": examples.answers},
    }
    write_bytes(result_file(out, side, seed), orjson.dumps(result))
    for point in points[:-1]:
        shutil.rmtree(point)
    return True


def stepped(preset: Preset, steps: int) -> Preset:
    """The preset over so many steps, its checkpoints where the curve has its points."""
    optim = preset.optim.model_copy(update={"steps": steps, "warmup": min(preset.optim.warmup, steps // WARMUP)})
    kept = {"save_every": -(-steps // CURVE), "keep": CURVE, "sample_every": 0, "log_every": max(1, steps // 50)}
    return preset.model_copy(update={"optim": optim, "run": preset.run.model_copy(update=kept)})


def held_at(checkpoint: Path, plan: Plan, limit: int) -> Held:
    fewest = min(filter(None, (plan.limit, limit)), default=0)
    return held_out(load_trained(checkpoint), Path(plan.evaluation.path), Wanted(plan.split, limit=fewest), quiet=True)


def trained_step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def analyser_of(evaluation: Side) -> Look:
    """Generated faces are looked at as the held-out dataset was, its attribute model aside."""
    recipe = read_mapping(Path(evaluation.path) / "recipe.yaml")
    complexion = bool((recipe.get("captions") or {}).get("complexion"))
    return Look(Faces.model_validate(recipe.get("faces") or {}), complexion)


# ------------------------------------------------------------------ the process


def end_with_parent() -> None:
    """Save and end when the comparison is gone: a killed one leaves nobody behind who trains for no one."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    out, side, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    end_with_parent()
    try:
        plan = read_plan(out)
        if plan is None:
            raise UserError(f"{out} holds no comparison")
        torch.set_num_threads(plan.threads)
        if not run(out, plan, side, seed):
            sys.exit(STOPPED)
    except UserError as error:
        print(error.message, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
