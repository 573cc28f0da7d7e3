"""A plan as it lies in `shards.work/plan.json` (docs/plan.md), and what happened: the build puts it beside."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.recipe import Recipe, Section
from unif2ace_data.run.build import Summary
from unif2ace_data.run.private import work_folder
from unif2ace_data.shards import write_bytes

PLAN = "plan.json"
SAME_DATASET = ("name", "release", "alarm", "qa", "sources")  # of a recipe: decides nothing of what a plan foretells
SAME_ANSWERS = ("base_url", "api_key_env", "in_flight", "timeout_s", "wait_s")  # of recipe.llm

Ranged = tuple[float, float, float]  # expected, low, high


class Share(Section):
    share: float
    low: float
    high: float


class Kept(Share):
    samples: int


class Failed(Share):
    max_failed: float


class Times(Section):
    stages: dict[str, Ranged]
    seconds: Ranged


class There(Times):
    workers: int
    servers: int


class Asked(Section):
    stages: dict[str, dict[str, int]]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    rate: float
    hours: float
    not_foreseen: list[str]
    low: dict[str, float]
    high: dict[str, float]


class Disk(Section):
    shards: Ranged
    work: Ranged


class Happened(Section):
    """The last three are of a build that one run did from its beginning."""

    workers: int
    analysed: int
    kept: int
    shards: int
    work: int
    stages: dict[str, float] = {}
    seconds: float | None = None
    captions: dict[str, int] = {}


class Plan(Section):
    """The fields of a plan, so that a damaged file is known."""

    inputs: int
    readable: int
    sampled: int
    kept: Kept
    reasons: dict[str, float]
    failed: Failed
    workers: int
    here: Times
    there: There | None
    model: dict[str, Asked]
    disk: Disk
    recipe: str
    digest: str
    happened: Happened | None = None


def digest_of(recipe: Recipe) -> str:
    """Of what decides how many inputs a build keeps, and what it takes and fills."""
    model = recipe.captions.engine != "grounded"
    decided = recipe.model_dump(exclude={*SAME_DATASET, "llm"})
    decided["llm"] = recipe.llm.model_dump(exclude=set(SAME_ANSWERS)) if model else None
    decided["sources"] = [[str(Path(spec.path).resolve()), spec.manifest] for spec in recipe.sources]
    return hashlib.sha256(orjson.dumps(decided, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def write_plan(out: Path, told: dict[str, Any]) -> None:
    folder = work_folder(out)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(folder / PLAN, orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")


def with_what_happened(summary: Summary, recipe: Recipe, workers: int) -> dict[str, Any] | None:
    """The plan of this build with what came, also written beside it; {"not_compared": why} where it is of another build.

    None without a plan, and where an earlier run has answered it and this one cannot.
    """
    file = summary.work / PLAN
    try:
        told: dict[str, Any] = orjson.loads(file.read_bytes())
        Plan.model_validate(told)
    except OSError:
        return None
    except ValueError:
        return {"not_compared": f"{file} is damaged, or of another version: `plan` writes it anew"}
    whole = summary.analysed == told["readable"]  # in this run: nothing was done before a kill
    another = of_another_build(told, summary, digest_of(recipe))
    if told.get("happened") and (another or not whole):
        return None
    if another:
        return {"not_compared": another}
    told["happened"] = {
        "workers": workers,
        "analysed": summary.analysed,
        "kept": summary.counts.get("kept", 0),
        "shards": shard_bytes(summary.out),
        "work": folder_bytes(summary.work),
    } | (what_it_took(summary) if whole else {})
    write_plan(summary.out, told)
    return told


def of_another_build(told: dict[str, Any], summary: Summary, digest: str) -> str:
    """Why this plan is not of that build, or ""."""
    if told["digest"] != digest:
        return "it is of another recipe (--src, --set, a captioner or another option differs)"
    if told["inputs"] != summary.inputs:
        return f"it is of {told['inputs']:,} inputs, and {summary.inputs:,} were built"
    if summary.analysed > told["readable"]:  # --splits-from
        return f"it is of {told['readable']:,} photographs to analyse, and {summary.analysed:,} were analysed"
    return ""


def what_it_took(summary: Summary) -> dict[str, Any]:
    """Seconds, and where a model wrote captions what it was asked."""
    took: dict[str, Any] = {"stages": summary.stages, "seconds": summary.seconds}
    accounts = summary.asked.accounts.values()
    if accounts:
        took["captions"] = {
            "requests": sum(a.asked for a in accounts),
            "prompt_tokens": sum(a.prompt_tokens for a in accounts),
            "completion_tokens": sum(a.completion_tokens for a in accounts),
            "journalled": sum(a.journalled for a in accounts),
        }
    return took


def shard_bytes(out: Path) -> int:
    return sum(path.stat().st_size for path in out.glob("*.tar"))


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
