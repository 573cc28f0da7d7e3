"""What lies beside the shards: the resolved recipe, stats, datasheet, report, and the index that is written last."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import orjson
import yaml

from unif2ace_data import __version__
from unif2ace_data.captions.grounded import captioner
from unif2ace_data.captions.text import attribute_model
from unif2ace_data.faces.engine import sha256_file
from unif2ace_data.llm.engine import Engine, told_model
from unif2ace_data.llm.prompts import CAPTION_PROMPTS, load_prompts
from unif2ace_data.recipe import Llm, Recipe
from unif2ace_data.release.datasheet import write_datasheet
from unif2ace_data.release.report import write_report
from unif2ace_data.release.stats import compute_stats
from unif2ace_data.resources import resource
from unif2ace_data.run.decide import Decision
from unif2ace_data.run.fairness import measured_fairness
from unif2ace_data.run.pack import ledger_part
from unif2ace_data.run.store import WorkStore
from unif2ace_data.shards import INDEX, index_bytes, write_bytes, write_index
from unif2ace_data.sources.manifest import Manifest

# Whose versions may change a measurement or a byte: they are told, so that a dataset can be built again.
LIBRARIES = (
    "insightface",
    "onnxruntime",
    "opencv-python",
    "pillow",
    "av",
    "ai-edge-litert",
    "numpy",
    "faiss-cpu",
    "pyarrow",
)


def digest(data: object) -> str:
    return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()


def resolved_recipe(
    recipe: Recipe, engine: Engine | None, config: dict[str, object], manifests: list[Manifest], digits: int
) -> dict[str, Any]:
    """The recipe as it ran: prefix depth decided, models and prompts by hash, and no path of the builder's machine."""
    resolved = recipe.model_dump()
    # Which dataset a source is decides bytes and is told, by its manifest (whose hash stands below); where a copy of it
    # lies decides nothing, and would give the same dataset another root hash under every folder name.
    resolved["sources"] = [{"path": "", "manifest": m.name} for m in manifests]
    resolved["shards"]["prefix_digits"] = digits
    resolved["llm"] = llm_told(recipe.llm)
    resolved["captions"].pop("prompts")
    resolved["qa"].pop("prompts")
    model = attribute_model(recipe)
    resolved["attributes"] = Path(recipe.attributes).name if recipe.attributes else None
    pack = Path(recipe.faces.engine)
    resolved["faces"]["engine"] = pack.name if pack.is_dir() else recipe.faces.engine
    taxonomy = hashlib.sha256(resource("manifests", "attributes.yaml").read_bytes()).hexdigest()
    return {
        **resolved,
        "resolved": {
            "unif2ace": __version__,
            "analysis": config["version"],
            "models": config["models"],
            **({"attribute_model": {"sha256": model[0], "encoder": model[1].encoder.model_dump()}} if model else {}),
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "manifests_sha256": {m.name: digest(m.model_dump()) for m in manifests},
            "taxonomy_sha256": taxonomy,
            "captioner": captioner_told(recipe, engine),
        },
    }


def llm_told(llm: Llm) -> dict[str, Any]:
    """What decides a model's answers; not where it runs, nor what its key is called."""
    told = llm.model_dump(include={"model", "revision", "image_side", "temperature", "seed", "attempts"})
    return {**told, "model": told_model(llm.model)}


def captioner_told(recipe: Recipe, engine: Engine | None) -> dict[str, Any]:
    """Engine, model, revision and prompt hash that every caption of this recipe has."""
    if engine is None:
        return captioner().model_dump(exclude={"removed"})
    return {
        "engine": recipe.captions.engine,
        "model": llm_told(recipe.llm)["model"],
        "revision": engine.revision,
        "prompt_sha256": load_prompts(recipe.captions.prompts).sha256(CAPTION_PROMPTS),
    }


def describe(
    out: Path,
    store: WorkStore,
    shards: list[dict[str, Any]],
    decision: Decision,
    resolved: dict[str, Any],
    manifests: list[Manifest],
) -> str:
    """Recipe, stats, report, datasheet, then the index with every hash; returns the dataset's root hash.

    Where nothing changed, nothing is written; where something did, the index goes first and comes back last.
    """
    names = ["recipe.yaml", "stats.json", "DATASHEET.md", "report.html"]
    names += [str(ledger_part(Path(), s["name"])) for s in shards]
    stats = compute_stats(out, store.folder / "ledger.parquet", decision.notes, measured_fairness(store, out))
    fresh = {
        "recipe.yaml": yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True).encode(),
        "stats.json": orjson.dumps(stats, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n",
    }
    counts = ledger_counts(decision)
    if (out / INDEX).is_file():
        same = all((out / n).is_file() and (out / n).read_bytes() == data for n, data in fresh.items())
        index, root = index_bytes(shards, files_of(out, names), counts)
        if same and (out / INDEX).read_bytes() == index:
            return root
        (out / INDEX).unlink()
    for name, data in fresh.items():
        write_bytes(out / name, data)
    write_datasheet(out / "DATASHEET.md", stats, resolved, [m.model_dump() for m in manifests])
    write_report(out / "report.html", out, None, None)
    return write_index(out, shards, files_of(out, names), counts)


def files_of(out: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """The index's entries of companions that exist."""
    there = [n for n in sorted(names) if (out / n).is_file()]
    return {n: {"bytes": (out / n).stat().st_size, "sha256": sha256_file(out / n)} for n in there}


def ledger_counts(decision: Decision) -> dict[str, Any]:
    """Sums of the ledger: inputs (by what became of each) and rows (one a face where each face is a sample)."""
    fate: dict[str, set[str]] = {"kept": set(), "failed": set(), "dropped": set()}
    for row in decision.rows:
        fate[row.status].add(row.source_id)
    fate["failed"] -= fate["kept"]
    fate["dropped"] -= fate["kept"] | fate["failed"]
    rows = decision.counts()
    return {
        "inputs": len({row.source_id for row in decision.rows}),
        "inputs_kept": len(fate["kept"]),
        "inputs_dropped": len(fate["dropped"]),
        "inputs_failed": len(fate["failed"]),
        "rows": len(decision.rows),
        "kept": rows["kept"],
        "dropped": rows["dropped"],
        "failed": rows["failed"],
        "reasons": dict(sorted(decision.reasons().items())),
    }
