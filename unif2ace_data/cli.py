"""`unif2ace-data`: parse, call, print. Logic lives in the stages; heavy imports happen inside the commands."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_data.schema import UserError

if TYPE_CHECKING:
    from unif2ace_data.run.build import Summary
    from unif2ace_data.run.captioning import ModelWork

app = typer.Typer(
    name="unif2ace-data",
    help="Raw photographs to verified face image-text shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ShardsArgument = Annotated[Path | None, typer.Argument(help="The dataset (default: shards/).", show_default=False)]
ShardsOption = Annotated[Path | None, typer.Option("--shards", help="The same, as an option.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="vllm: a Hub id or a folder; openai: a name that the server knows.")
]
UrlOption = Annotated[str | None, typer.Option("--base-url", help="openai: the server, e.g. http://127.0.0.1:8000/v1")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE in the recipe. Repeatable.")]
Estimate = Annotated[bool, typer.Option("--dry-run", help="Count the requests, tokens and hours to come; ask nothing.")]
Rate = Annotated[float, typer.Option("--rate", min=0.001, help="--dry-run: requests a second that the model answers.")]


@app.command()
def build(
    src: Annotated[
        list[str] | None,
        typer.Option("--src", help="Folder, tar, parquet or video; `MANIFEST=PATH` for a known dataset. Repeatable."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Where the dataset goes; private work lies beside it in OUT.work.")
    ] = Path("shards"),
    pipeline: Annotated[
        str, typer.Option("--pipeline", help="A recipe: a name in pipelines/ or a YAML file.")
    ] = "embedded",
    faces: Annotated[
        str | None, typer.Option("--faces", help="Face engine: embedded, an InsightFace pack, or a folder.")
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option("--attributes", help="An attribute model (`unif2ace-model attributes`): its predictions count."),
    ] = None,
    captioner: Annotated[
        str | None, typer.Option("--captioner", help="Who writes captions: grounded, vllm (in this process) or openai.")
    ] = None,
    model: ModelOption = None,
    base_url: UrlOption = None,
    subjects: Annotated[
        str | None, typer.Option("--subjects", help="`adults`: you know that the sources hold adults only.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE in the recipe. Repeatable.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Worker processes; 0: one per core.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N inputs.")] = None,
    splits_from: Annotated[
        Path | None, typer.Option("--splits-from", help="An earlier release: its test people stay in test.")
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Delete OUT.work when done; print a receipt.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List and count the inputs; read and write nothing.")
    ] = False,
    rate: Rate = 10.0,
    as_json: Json = False,
) -> None:
    """Photographs to verified shards. Run it again after a kill, a change of the recipe, or with more photos.

    Example: `unif2ace-data build --src raw/ --out shards/`
    """
    from unif2ace_data.recipe import load_recipe
    from unif2ace_data.run import build as stage
    from unif2ace_data.run.local import usable_cores

    changes = list(settings or [])
    changes += [f"faces.engine={faces}"] if faces else []
    changes += [f"subjects={subjects}"] if subjects else []
    changes += model_changes("captions", captioner, model, base_url)
    recipe = load_recipe(pipeline, changes)
    if attributes:
        recipe = recipe.model_copy(update={"attributes": str(attributes)})
    if src:
        recipe = recipe.model_copy(update={"sources": [source_spec(s) for s in src]})
    if dry_run:
        plan = stage.dry_run(recipe, limit, rate)

        def show_plan() -> None:
            print_mapping("inputs that a build would read", {k: v for k, v in plan.items() if k != "model"})
            if "model" in plan:
                print("what a model would be asked, if all were kept")
                print_estimate(plan["model"])

        emit(plan, as_json, show_plan)
        return
    summary = stage.build(
        recipe, out, workers or usable_cores(), limit, splits_from, quiet=as_json, captions_anew=captioner is not None
    )
    answer = summary_json(summary)
    if clean:
        from unif2ace_data.run.private import clean as clean_work

        answer["receipt"] = clean_work(out)

    def show_summary() -> None:
        print_summary(summary)
        if clean:
            print_mapping("receipt", answer["receipt"])

    emit(answer, as_json, show_summary)


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
    dry_run: Estimate = False,
    rate: Rate = 10.0,
    as_json: Json = False,
) -> None:
    """Write the captions of a dataset anew, through a vision-language model; claims are checked against the evidence.

    Example: `unif2ace-data caption --shards shards/ --captioner openai --model Qwen/Qwen2.5-VL-7B-Instruct --dry-run`
    """
    from unif2ace_data.run import recaption as stage
    from unif2ace_data.run.private import recipe_at

    out = dataset(shards, option)
    stage.shards_there(out)
    changes = [*(settings or []), *model_changes("captions", captioner, model, base_url)]
    recipe = recipe_at(out, changes)
    if dry_run:
        plan = stage.estimated(out, recipe, rate)
        emit(plan, as_json, lambda: print_estimate(plan))
        return
    work, root = stage.recaption(out, recipe, quiet=as_json)
    answer = {**work_json(work), "root_sha256": root}

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
    dry_run: Estimate = False,
    rate: Rate = 10.0,
    as_json: Json = False,
) -> None:
    """Questions and answers for every sample, checked, into the shards.

    Example: `unif2ace-data qa-gen --shards shards/ --jsonl questions.jsonl`
    """
    from unif2ace_data.run import qa_gen as stage
    from unif2ace_data.run.private import recipe_at
    from unif2ace_data.run.recaption import shards_there

    out = dataset(shards, option)
    shards_there(out)
    recipe = recipe_at(out, [*(settings or []), *model_changes("qa", engine, model, base_url)])
    if dry_run:
        plan = stage.estimated(out, recipe, rate)
        emit(plan, as_json, lambda: print_estimate(plan))
        return
    done = stage.qa_gen(out, recipe, jsonl, quiet=as_json)

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
    """Check hashes, ledger sums, schema, decodability, order, and that nothing private is inside.

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
    """Counts of kept, dropped and failed, and distributions of what was kept.

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
    """One sample in the terminal: picture, caption, claims and their evidence.

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
    """What is installed, which engines work, what to install for the rest.

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


# ------------------------------------------------------------------ parsing and printing


def model_changes(section: str, engine: str | None, model: str | None, base_url: str | None) -> list[str]:
    """Options about a model as changes of the recipe."""
    from json import dumps

    first = "grounded" if section == "captions" else "templates"
    if engine is not None and engine not in (first, "vllm", "openai"):
        raise UserError(f"no engine {engine!r}: one of {first}, vllm, openai", 2)
    changes = [f"{section}.engine={engine}"] if engine else []
    changes += [f"llm.model={dumps(model)}"] if model else []
    return changes + ([f"llm.base_url={dumps(base_url)}"] if base_url else [])


def work_json(work: ModelWork) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(work)


def print_work(work: ModelWork) -> None:
    """Accounts of a model by stage, and the first rows that failed."""
    for stage, a in work.accounts.items():
        print(
            f"  {stage:<12} {a.asked:>7} requests, {a.journalled:>7} from the journal, {a.again} repeated, {a.failed} failed, "
            f"{a.prompt_tokens:,} + {a.completion_tokens:,} tokens, {a.request_seconds:,.0f} s of waiting"
        )
    if work.in_flight:
        print(f"  {work.in_flight} requests in flight at most, {work.seconds:,.0f} s in all")
    for key, why in list(work.failed.items())[:5]:
        print(f"failed   {key}: {why}")
    if len(work.failed) > 5:
        print(f"         and {len(work.failed) - 5} more (log.jsonl in the private folder names all)")
    for note in work.notes:
        print(f"note: {note}")


def print_estimate(plan: dict[str, Any]) -> None:
    for stage, row in plan["stages"].items():
        print(
            f"  {stage:<12} {row['requests']:>9,} requests, about {row['prompt_tokens']:,} + {row['completion_tokens']:,} tokens"
        )
    print(
        f"in all {plan['requests']:,} requests, about {plan['prompt_tokens']:,} + {plan['completion_tokens']:,} tokens: "
        f"{plan['hours']} hours at {plan['rate']:g} requests a second"
    )


def source_spec(text: str) -> Any:
    """`PATH` or `MANIFEST=PATH` (a path that exists as written is a path)."""
    from unif2ace_data.recipe import SourceSpec

    name, separator, path = text.partition("=")
    if separator and not Path(text).exists():
        return SourceSpec(path=path, manifest=name)
    return SourceSpec(path=text)


def dataset(argument: Path | None, option: Path | None) -> Path:
    if argument and option and argument != option:
        raise UserError(f"two datasets: {argument} and --shards {option}", 2)
    return argument or option or Path("shards")


def console() -> Any:
    from rich.console import Console

    return Console()


def emit(answer: Any, as_json: bool, show: Any) -> None:
    if as_json:
        import orjson

        sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    else:
        show()


def print_mapping(title: str, mapping: dict[str, Any]) -> None:
    print(title)
    for name, value in mapping.items():
        print(f"  {name:<24} {value}")


def summary_json(summary: Summary) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(summary), "out": str(summary.out), "work": str(summary.work)}


def print_summary(summary: Summary) -> None:
    kept, dropped, failed = (summary.counts.get(s, 0) for s in ("kept", "dropped", "failed"))
    splits = ", ".join(f"{split} {count}" for split, count in summary.splits.items())
    print(
        f"{summary.inputs} inputs: {kept} kept, {dropped} dropped, {failed} failed "
        f"({summary.analysed} analysed now, {summary.seconds} s)"
    )
    for reason, count in sorted(summary.reasons.items(), key=lambda r: (-r[1], r[0])):
        print(f"  {reason:<22} {count}")
    print_work(summary.asked)
    print(f"shards   {summary.out} ({summary.shards} shards: {splits})")
    print(f"report   {summary.out / 'report.html'}")
    print(f"ledger   {summary.work / 'ledger.parquet'} (private: every input with its reason)")
    for note in summary.notes:
        print(f"note: {note}")


PATIENCE = 3.0  # seconds that unwinding may take
INTERRUPTED = "interrupted; finished work is kept, run the same command to go on"


def interrupted(program: str, signum: int, frame: object) -> None:
    """The first Ctrl-C unwinds, so that everything is closed in order; a second one ends the process where it stands.

    So does an alarm, should the exception have met a lock that somebody holds: a pool of workers has several.
    """
    at_once = functools.partial(ended_at_once, program)
    signal.signal(signal.SIGINT, at_once)
    signal.signal(signal.SIGALRM, at_once)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    raise KeyboardInterrupt


def ended_at_once(program: str, signum: int, frame: object) -> None:
    """Nothing is lost that a kill would not lose, and workers end when their driver is gone (run/local.py)."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{program}: {INTERRUPTED}\n".encode())
    os._exit(130)


@contextlib.contextmanager
def told_when_interrupted(program: str) -> Iterator[None]:
    """One line and exit code 130, whatever became of the KeyboardInterrupt on its way.

    Typer makes an exit of it, and C code that is being imported an ImportError.
    """
    try:
        yield
    except BaseException:
        if getattr(signal.getsignal(signal.SIGINT), "func", None) is not ended_at_once:  # nobody pressed it
            raise
        print(f"{program}: {INTERRUPTED}", file=sys.stderr)
        see_to_the_end()
        raise SystemExit(130) from None


def see_to_the_end() -> None:
    """A Ctrl-C while Python itself ends would take the exit code; and should that end not come, it is made."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    last_resort = threading.Timer(10, os._exit, (130,))
    last_resort.daemon = True
    last_resort.start()


def main() -> None:
    run(app, "unif2ace-data")


def run(app: typer.Typer, program: str) -> None:
    """Entry point of a program: errors in one line, never a traceback of ours for what a user can mend."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored (nohup)
        signal.signal(signal.SIGINT, functools.partial(interrupted, program))
    try:
        with told_when_interrupted(program):
            app()
    except UserError as error:
        print(f"{program}: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (OSError, sqlite3.OperationalError) as error:  # a full disk, a read-only folder, a file taken away
        print(f"{program}: {error}. Finished work is kept; mend this and run the command again", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # a bug of ours: one line for the user, the traceback where it can be sent from
        path = Path(tempfile.gettempdir()) / "unif2ace-error.log"
        path.write_text(traceback.format_exc())
        print(
            f"{program}: internal error ({type(error).__name__}: {error}). Finished work is kept. "
            f"Please report it with {path}",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
