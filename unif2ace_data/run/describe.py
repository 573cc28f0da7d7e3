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
from unif2ace_data.curate.removal import TOMBSTONES
from unif2ace_data.faces.engine import Pack
from unif2ace_data.llm.engine import Engine, told_model
from unif2ace_data.llm.prompts import CAPTION_PROMPTS, load_prompts
from unif2ace_data.recipe import Llm, Recipe
from unif2ace_data.release.card import card_text
from unif2ace_data.release.croissant import croissant_bytes
from unif2ace_data.release.datasheet import datasheet_text, people_blocks
from unif2ace_data.release.report import write_report
from unif2ace_data.release.sample_sheet import SAMPLES, sample_sheet
from unif2ace_data.release.stats import compute_stats
from unif2ace_data.resources import resource
from unif2ace_data.run.clock import Clock
from unif2ace_data.run.decide import Decision
from unif2ace_data.run.environment import LIBRARIES
from unif2ace_data.run.fairness import measured_fairness
from unif2ace_data.run.pack import ledger_part
from unif2ace_data.run.store import WorkStore
from unif2ace_data.shards import INDEX, index_bytes, sha256_file, write_bytes, write_index
from unif2ace_data.sources.manifest import Manifest

# What tells of the shards, in every dataset; the ledgers of the kept come on top.
DESCRIPTIONS = ("recipe.yaml", "stats.json", "DATASHEET.md", "README.md", SAMPLES, "croissant.json", "report.html")


def digest(data: object) -> str:
    return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()


def resolved_recipe(
    recipe: Recipe, engine: Engine | None, config: dict[str, object], pack: Pack, manifests: list[Manifest], digits: int
) -> dict[str, Any]:
    """The recipe as it ran: prefix depth decided, models and prompts by hash, and no path of the builder's machine.

    The manifests stand in it whole: what a card or a licence check says of the sources holds on any machine.
    """
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
    folder = Path(recipe.faces.engine)
    resolved["faces"]["engine"] = folder.name if folder.is_dir() else recipe.faces.engine
    taxonomy = hashlib.sha256(resource("manifests", "attributes.yaml").read_bytes()).hexdigest()
    return {
        **resolved,
        "resolved": {
            "unif2ace": __version__,
            "analysis": config["version"],
            "models": config["models"],
            "face_pack": {"name": pack.name, "licence": pack.licence, "non_commercial": pack.non_commercial},
            **({"attribute_model": {"sha256": model[0], "encoder": model[1].encoder.model_dump()}} if model else {}),
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "manifests": [m.model_dump() for m in manifests],
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
    clock: Clock,
) -> str:
    """Recipe, stats, datasheet, card, report, then the index with every hash; returns the dataset's root hash.

    Where nothing changed, nothing is written; where something did, the index goes first and comes back last. Raises
    UserError, with nothing changed, where a people's block of the present datasheet or card is damaged.
    """
    names = companions(shards)
    stats = compute_stats(out, store.folder / "ledger.parquet", decision.notes, measured_fairness(store, out))
    fresh = descriptions(out, stats, resolved, [m.model_dump() for m in manifests], shards)
    counts = ledger_counts(decision)
    if (out / INDEX).is_file():
        same = all((out / n).is_file() and (out / n).read_bytes() == data for n, data in fresh.items())
        same = same and (SAMPLES in fresh or not (out / SAMPLES).exists())
        index, root = index_bytes(shards, files_of(out, names), counts)
        if same and (out / INDEX).read_bytes() == index:
            return root
    clock.lap("card")
    write_descriptions(out, fresh)
    clock.lap("report")
    return write_index(out, shards, files_of(out, names), counts)


def descriptions(
    out: Path,
    stats: dict[str, Any],
    resolved: dict[str, Any],
    manifests: list[dict[str, Any]] | None,
    shards: list[dict[str, Any]],
) -> dict[str, bytes]:
    """Name -> bytes of every description but the report, with the people's blocks of those that are there.

    manifests: None where they are not known; then only recipe and statistics are told. SAMPLES is missing where there is
    nothing to show. Raises UserError.
    """
    told = {
        "recipe.yaml": yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True).encode(),
        "stats.json": stats_bytes(stats),
    }
    if manifests is None:
        return told
    sheet, card = (people_blocks(out / name) for name in ("DATASHEET.md", "README.md"))
    picture, captions = sample_sheet(out, shards)
    return {
        **told,
        "DATASHEET.md": datasheet_text(stats, resolved, manifests, sheet).encode("utf-8", "replace"),
        "README.md": card_text(stats, resolved, manifests, shards, card, captions).encode("utf-8", "replace"),
        **({SAMPLES: picture} if picture else {}),
        "croissant.json": croissant_bytes(stats, resolved, manifests, shards),
    }


def stats_bytes(stats: dict[str, Any]) -> bytes:
    return orjson.dumps(stats, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def write_descriptions(out: Path, fresh: dict[str, bytes]) -> None:
    """Put them in place, and a report of the same numbers. The index goes first: the caller writes it last."""
    (out / INDEX).unlink(missing_ok=True)
    if SAMPLES not in fresh:
        (out / SAMPLES).unlink(missing_ok=True)
    for name, data in fresh.items():
        write_bytes(out / name, data)
    write_report(out / "report.html", out, None, None)


def companions(shards: list[dict[str, Any]]) -> list[str]:
    """Names of everything that may travel beside the shards: descriptions, tombstones, the ledgers of the kept."""
    return [*DESCRIPTIONS, TOMBSTONES, *(str(ledger_part(Path(), str(shard["name"]))) for shard in shards)]


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
