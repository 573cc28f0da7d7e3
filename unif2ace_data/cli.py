"""`unif2ace-data`: parse, call, print. Logic lives in the stages; heavy imports happen inside the commands."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_data.schema import UserError

if TYPE_CHECKING:
    from unif2ace_data.run.build import Summary

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
    recipe = load_recipe(pipeline, changes)
    if src:
        recipe = recipe.model_copy(update={"sources": [source_spec(s) for s in src]})
    if dry_run:
        plan = stage.dry_run(recipe, limit)
        emit(plan, as_json, lambda: print_mapping("inputs that a build would read", plan))
        return
    summary = stage.build(recipe, out, workers or usable_cores(), limit, splits_from, quiet=as_json)
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
    import orjson

    from unif2ace_data.release.stats import render_stats
    from unif2ace_data.shards import read_index

    out = dataset(shards, option)
    read_index(out)
    found = orjson.loads((out / "stats.json").read_bytes())
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
    print(f"shards   {summary.out} ({summary.shards} shards: {splits})")
    print(f"report   {summary.out / 'report.html'}")
    print(f"ledger   {summary.work / 'ledger.parquet'} (private: every input with its reason)")
    for note in summary.notes:
        print(f"note: {note}")


def main() -> None:
    """Entry point: errors in one line, never a traceback of ours for what a user can mend."""
    try:
        app()
    except UserError as error:
        print(f"unif2ace-data: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (OSError, sqlite3.OperationalError) as error:  # a full disk, a read-only folder, a file taken away
        print(f"unif2ace-data: {error}. Finished work is kept; mend this and run the command again", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # a bug of ours: one line for the user, the traceback where it can be sent from
        path = Path(tempfile.gettempdir()) / "unif2ace-error.log"
        path.write_text(traceback.format_exc())
        print(
            f"unif2ace-data: internal error ({type(error).__name__}: {error}). Finished work is kept. "
            f"Please report it with {path}",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("unif2ace-data: interrupted; finished work is kept, run the same command to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
