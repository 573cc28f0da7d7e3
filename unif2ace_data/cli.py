"""`unif2ace-data`: parse, call, print. Logic lives in the stages; heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unif2ace_data import cli_release
from unif2ace_data.cli_options import (
    AddressOption,
    AttributesOption,
    CaptionerOption,
    Changes,
    Estimate,
    ExecutorOption,
    FacesOption,
    ModelOption,
    PipelineOption,
    Rate,
    ServersOption,
    ShardsArgument,
    ShardsOption,
    SourcesOption,
    SubjectsOption,
    UrlOption,
    WorkersOption,
    build_recipe,
    dataset,
    model_changes,
)
from unif2ace_data.printed import (
    console,
    print_estimate,
    print_mapping,
    print_mirror,
    print_plan,
    print_summary,
    print_work,
    summary_json,
)
from unif2ace_data.program import Json, emit, run

app = typer.Typer(
    name="unif2ace-data",
    help="Raw photographs to verified face image-text shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def build(
    src: SourcesOption = None,
    out: Annotated[
        str,
        typer.Option("--out", help="Where the dataset goes: a folder, hf://datasets/user/name, s3://bucket/name, …"),
    ] = "shards",
    work: Annotated[
        Path | None,
        typer.Option("--work", help="With a URL: the folder here that it is built in.", show_default="its last part"),
    ] = None,
    pipeline: PipelineOption = "embedded",
    faces: FacesOption = None,
    attributes: AttributesOption = None,
    captioner: CaptionerOption = None,
    model: ModelOption = None,
    base_url: UrlOption = None,
    subjects: SubjectsOption = None,
    settings: Changes = None,
    workers: WorkersOption = 0,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N inputs.")] = None,
    splits_from: Annotated[
        Path | None, typer.Option("--splits-from", help="An earlier release: its test people stay in test.")
    ] = None,
    clean: Annotated[
        bool,
        typer.Option("--clean", help="Delete OUT.work when done, a model's answers too; print a receipt."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List and count the inputs; read and write nothing.")
    ] = False,
    rate: Rate = 10.0,
    as_json: Json = False,
) -> None:
    """Photographs to verified shards. Run it again after a kill, a change of the recipe, or with more photos.

    Example: `unif2ace-data build --src raw/ --out shards/`
    """
    from unif2ace_data.run import build as stage
    from unif2ace_data.run import mirror as mirroring
    from unif2ace_data.run.executor import executor as running_on
    from unif2ace_data.run.planned import with_what_happened

    captions = model_changes("captions", captioner, model, base_url)
    recipe = build_recipe(pipeline, src, settings, faces, attributes, subjects, captions)
    if dry_run:
        plan = stage.dry_run(recipe, limit, rate)

        def show_plan() -> None:
            print_mapping("inputs that a build would read", {k: v for k, v in plan.items() if k != "model"})
            if "model" in plan:
                print("what a model would be asked, if all were kept")
                print_estimate(plan["model"])

        emit(plan, as_json, show_plan)
        return
    place, url = mirroring.built_in(out, work, limit, quiet=as_json)
    with running_on(executor, workers, address) as on:
        summary = stage.build(recipe, place, on, limit, splits_from, quiet=as_json, captions_anew=captioner is not None)
    answer = summary_json(summary)
    planned = with_what_happened(summary, recipe, on.workers)
    answer |= {"planned": planned} if planned else {}
    if url:
        answer["mirror"] = mirroring.mirror(place, url, quiet=as_json)
    if clean:
        from unif2ace_data.run.private import clean as clean_work

        answer["receipt"] = clean_work(place)

    def show_summary() -> None:
        print_summary(summary)
        if planned:
            print_plan(planned)
        if url:
            print_mirror(answer["mirror"])
        if clean:
            print_mapping("receipt", answer["receipt"])

    emit(answer, as_json, show_summary)


@app.command()
def plan(
    src: SourcesOption = None,
    out: Annotated[Path, typer.Option("--out", help="Where the build will write; the plan lies in OUT.work.")] = Path(
        "shards"
    ),
    pipeline: PipelineOption = "embedded",
    faces: FacesOption = None,
    attributes: AttributesOption = None,
    captioner: CaptionerOption = None,
    model: ModelOption = None,
    base_url: UrlOption = None,
    subjects: SubjectsOption = None,
    settings: Changes = None,
    sample: Annotated[int, typer.Option("--sample", min=32, help="Inputs that are built on trial.")] = 256,
    workers: WorkersOption = 0,
    there: Annotated[int, typer.Option("--there", min=0, help="Foretell it also for so many workers.")] = 0,
    servers: ServersOption = 1,
    rate: Rate = 10.0,
    as_json: Json = False,
) -> None:
    """What a build will keep, take and fill, from a sample.

    Kept share, time by stage here and with other workers, requests and tokens of a model, disk, each with its range.

    Example: `unif2ace-data plan --src raw/ --pipeline embedded --there 64`
    """
    from unif2ace_data.run.executor import executor as running_on
    from unif2ace_data.run.plan import plan as foretell
    from unif2ace_data.storage import refuse_url

    refuse_url(out)
    captions = model_changes("captions", captioner, model, base_url)
    recipe = build_recipe(pipeline, src, settings, faces, attributes, subjects, captions)
    with running_on("local", workers, None) as on:
        told = foretell(recipe, out, sample, on, there, rate, quiet=as_json, servers=servers)
    emit(told, as_json, lambda: print_plan(told))


@app.command()
def caption(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    captioner: Annotated[
        str | None, typer.Option("--captioner", help="Who writes: vllm (in this process), openai, or grounded.")
    ] = None,
    model: ModelOption = None,
    base_url: UrlOption = None,
    settings: Changes = None,
    workers: WorkersOption = 0,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    dry_run: Estimate = False,
    rate: Rate = 10.0,
    as_json: Json = False,
) -> None:
    """Captions anew, through a vision-language model, checked.

    Every claim of a caption is checked against the evidence; what contradicts it is cut.

    Example: `unif2ace-data caption --shards shards/ --captioner openai --model Qwen/Qwen2.5-VL-7B-Instruct --dry-run`
    """
    from dataclasses import asdict

    from unif2ace_data.recipe import check_settings
    from unif2ace_data.run import recaption as stage
    from unif2ace_data.run.executor import executor as running_on
    from unif2ace_data.run.private import recipe_at

    out = dataset(shards, option)
    stage.shards_there(out)
    check_settings(settings or [], "caption", ("captions", "llm", "alarm"), built=("captions.complexion",))
    changes = [*(settings or []), *model_changes("captions", captioner, model, base_url)]
    recipe = recipe_at(out, changes)
    if dry_run:
        plan = stage.estimated(out, recipe, rate)
        emit(plan, as_json, lambda: print_estimate(plan))
        return
    with running_on(executor, workers, address) as on:
        work, root = stage.recaption(out, recipe, quiet=as_json, on=on)
    answer = {**asdict(work), "root_sha256": root}

    def show() -> None:
        if recipe.captions.engine == "grounded":
            print(f"{out}: captions composed from evidence; for a model's name one: --captioner openai|vllm --model M")
        else:
            print(f"{out}: {work.rows} samples asked about, {work.at_hand} captions at hand, {len(work.failed)} failed")
        print_work(work)
        print(f"root     {root}")

    emit(answer, as_json, show)


@app.command("qa-gen")
def qa_gen(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="templates (from evidence alone), vllm (in this process) or openai.")
    ] = None,
    model: ModelOption = None,
    base_url: UrlOption = None,
    settings: Changes = None,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="Also write the questions to this file, one a line.")
    ] = None,
    workers: WorkersOption = 0,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    dry_run: Estimate = False,
    rate: Rate = 10.0,
    as_json: Json = False,
) -> None:
    """Questions and answers for every sample, into the shards.

    Example: `unif2ace-data qa-gen --shards shards/ --jsonl questions.jsonl`
    """
    from unif2ace_data.recipe import check_settings
    from unif2ace_data.run import qa_gen as stage
    from unif2ace_data.run.executor import executor as running_on
    from unif2ace_data.run.private import recipe_at
    from unif2ace_data.run.recaption import shards_there

    out = dataset(shards, option)
    shards_there(out)
    check_settings(settings or [], "qa-gen", ("qa", "llm", "alarm"))
    recipe = recipe_at(out, [*(settings or []), *model_changes("qa", engine, model, base_url)])
    if dry_run:
        plan = stage.estimated(out, recipe, rate)
        emit(plan, as_json, lambda: print_estimate(plan))
        return
    with running_on(executor, workers, address) as on:
        done = stage.qa_gen(out, recipe, jsonl, quiet=as_json, on=on)

    def show() -> None:
        print(
            f"{out}: {done.questions} questions for {done.samples} samples ({done.questions / max(done.samples, 1):.2f} each)"
        )
        for name, count in done.dropped.items():
            print(f"  {name:<22} {count} questions not published")
        print_work(done.work)
        print(f"root     {done.root_sha256}")
        if jsonl:
            print(f"jsonl    {jsonl}")

    emit(stage.as_json(done), as_json, show)


@app.command()
def verify(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="Only compare files with the index.")] = False,
    as_json: Json = False,
) -> None:
    """Check a dataset: hashes, sums, schema, pictures, order.

    Also that nothing private is inside.

    Example: `unif2ace-data verify shards/`
    """
    from unif2ace_data.verify import verify as check

    out = dataset(shards, option)
    verdict = check(out, hashes)
    answer = {
        "holds": verdict.holds, "shards": verdict.shards, "samples": verdict.samples,
        "bytes": verdict.bytes, "problems": verdict.problems,
    }  # fmt: skip

    def show() -> None:
        for problem in verdict.problems:
            print(problem)
        checked = f"{verdict.bytes:,} bytes" if hashes else f"{verdict.samples} samples in {verdict.shards} shards"
        print(
            f"{out}: {checked}, {len(verdict.problems)} problems" if verdict.problems else f"{out}: {checked}, all good"
        )

    emit(answer, as_json, show)
    if not verdict.holds:
        raise typer.Exit(1)


@app.command()
def stats(shards: ShardsArgument = None, option: ShardsOption = None, as_json: Json = False) -> None:
    """Counts of kept, dropped and failed; what the kept look like.

    Example: `unif2ace-data stats shards/ --json`
    """
    from unif2ace_data.release.stats import published_stats, render_stats

    found = published_stats(dataset(shards, option))
    emit(found, as_json, lambda: console().print(render_stats(found)))


@app.command()
def report(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the page goes.", show_default=False)] = None,
) -> None:
    """One self-contained HTML page. With SHARDS.work at hand: the private one, with thumbnails of what was dropped.

    Example: `unif2ace-data report shards/`
    """
    from unif2ace_data.run.private import private_report

    target = private_report(dataset(shards, option), out)
    print(target)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="A sample's key, or the beginning of it.")],
    shards: Annotated[Path, typer.Option("--shards", help="The dataset.")] = Path("shards"),
    as_json: Json = False,
) -> None:
    """One sample in the terminal: picture, caption, evidence.

    Example: `unif2ace-data show 3fa1 --shards shards/`
    """
    from unif2ace_data.release.show import render_sample
    from unif2ace_data.shards import read_sample

    sample, jpeg = read_sample(shards, key)
    screen = console()
    emit(sample.model_dump(), as_json, lambda: screen.print(render_sample(sample, jpeg, min(screen.width, 100))))


@app.command()
def doctor(
    faces: Annotated[str, typer.Option("--faces", help="The face engine to try.")] = "embedded",
    as_json: Json = False,
) -> None:
    """What is installed, and which engines work.

    Example: `unif2ace-data doctor`
    """
    from unif2ace_data.doctor import examine

    checks = examine(faces)
    signs = {"ok": "ok     ", "missing": "missing", "broken": "BROKEN "}

    def show_checks() -> None:
        for check in checks:
            print(f"{signs[check.state]}  {check.name:<18} {check.detail}")

    emit([{"name": c.name, "state": c.state, "detail": c.detail} for c in checks], as_json, show_checks)
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


for name, command in cli_release.COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    run(app, "unif2ace-data")


if __name__ == "__main__":
    main()
