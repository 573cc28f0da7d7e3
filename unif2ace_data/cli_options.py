"""Options that several commands of `unif2ace-data` have, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unif2ace_data.errors import UserError

ShardsArgument = Annotated[Path | None, typer.Argument(help="The dataset (default: shards/).", show_default=False)]
ShardsOption = Annotated[Path | None, typer.Option("--shards", help="The same, as an option.", show_default=False)]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="vllm: a Hub id or a folder; openai: a name that the server knows.")
]
UrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--base-url", help="openai: the server, e.g. http://127.0.0.1:8000/v1. Repeatable: several of a model."
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Worker processes; 0: one per core.")]
ExecutorOption = Annotated[str, typer.Option("--executor", help="Where work runs: local or ray.")]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="ray: the cluster, e.g. auto or HOST:6379; none: one on this machine.")
]
PipelineOption = Annotated[str, typer.Option("--pipeline", help="A recipe: a name in pipelines/ or a YAML file.")]
SourcesOption = Annotated[
    list[str] | None,
    typer.Option("--src", help="Folder, tar, parquet or video; `MANIFEST=PATH` for a known dataset. Repeatable."),
]
FacesOption = Annotated[
    str | None, typer.Option("--faces", help="Face engine: embedded, an InsightFace pack, or a folder.")
]
AttributesOption = Annotated[
    Path | None,
    typer.Option("--attributes", help="An attribute model (`unif2ace-model attributes`): its predictions count."),
]
CaptionerOption = Annotated[
    str | None, typer.Option("--captioner", help="Who writes captions: grounded, vllm (in this process) or openai.")
]
SubjectsOption = Annotated[
    str | None, typer.Option("--subjects", help="`adults`: you know that the sources hold adults only.")
]
Changes = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE in the recipe. Repeatable.")]
Estimate = Annotated[bool, typer.Option("--dry-run", help="Count the requests, tokens and hours to come; ask nothing.")]
Rate = Annotated[
    float, typer.Option("--rate", min=0.001, help="Of estimates: requests a second that the model answers.")
]
ServersOption = Annotated[
    int, typer.Option("--servers", min=1, help="Foretell it also with N times the model servers that --rate is of.")
]


def source_spec(text: str) -> Any:
    """`PATH` or `MANIFEST=PATH` (a path that exists as written is a path)."""
    from unif2ace_data.recipe import SourceSpec

    name, separator, path = text.partition("=")
    if separator and not Path(text).exists():
        return SourceSpec(path=path, manifest=name)
    return SourceSpec(path=text)


def build_recipe(
    pipeline: str,
    src: list[str] | None,
    settings: list[str] | None,
    faces: str | None,
    attributes: Path | None,
    subjects: str | None,
    captions: list[str],
) -> Any:
    """The recipe that these options of `build`, and of `plan`, say. `captions`: as `model_changes` has them."""
    from unif2ace_data.recipe import load_recipe

    changes = list(settings or [])
    changes += [f"faces.engine={faces}"] if faces else []
    changes += [f"subjects={subjects}"] if subjects else []
    recipe = load_recipe(pipeline, changes + captions)
    if attributes:
        recipe = recipe.model_copy(update={"attributes": str(attributes)})
    if src:
        recipe = recipe.model_copy(update={"sources": [source_spec(s) for s in src]})
    return recipe


def dataset(argument: Path | None, option: Path | None) -> Path:
    if argument and option and argument != option:
        raise UserError(f"two datasets: {argument} and --shards {option}", 2)
    return argument or option or Path("shards")


def model_changes(section: str, engine: str | None, model: str | None, base_url: list[str] | None) -> list[str]:
    """Options about a model as changes of the recipe."""
    from json import dumps

    first = "grounded" if section == "captions" else "templates"
    if engine is not None and engine not in (first, "vllm", "openai"):
        raise UserError(f"no engine {engine!r}: one of {first}, vllm, openai", 2)
    changes = [f"{section}.engine={engine}"] if engine else []
    changes += [f"llm.model={dumps(model)}"] if model else []
    return changes + ([f"llm.base_url={dumps(base_url if len(base_url) > 1 else base_url[0])}"] if base_url else [])
