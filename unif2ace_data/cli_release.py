"""`unif2ace-data`, the commands around a release: card, annotations, audit, diff, review, removal, Hub. As cli.py, no logic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from unif2ace_data.cli_options import ShardsArgument, ShardsOption, dataset, source_spec
from unif2ace_data.errors import UserError
from unif2ace_data.printed_release import (
    print_audit,
    print_drawn,
    print_found,
    print_published,
    print_receipt,
    print_review,
)
from unif2ace_data.program import Json, emit


def card(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: count again, and fail where a number is not the data's.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="release.KEY=VALUE: what you state of licences. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Dataset card, datasheet, Croissant: written anew or checked.

    Example: `unif2ace-data card shards/ --check`
    """
    from dataclasses import asdict

    from unif2ace_data.recipe import check_settings
    from unif2ace_data.run import card as stage

    out = dataset(shards, option)
    check_settings(settings or [], "card", ("release",))
    if not check:
        root = stage.write_card(out, settings or [])
        emit({"root_sha256": root}, as_json, lambda: print(f"{out / 'README.md'}\nroot     {root}"))
        return
    if settings:
        raise UserError("--check writes nothing, so --set has no place beside it", 2)
    found = stage.check_card(out)

    def show() -> None:
        for difference in found:
            print(difference)
        print(f"{out}: {len(found)} lines that the data contradict" if found else f"{out}: every number holds")

    emit({"holds": not found, "differences": [asdict(d) for d in found]}, as_json, show)
    if found:
        raise typer.Exit(1)


def annotations_alone(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    out: Annotated[Path, typer.Option("--out", help="A new folder.")] = Path("annotations"),
    as_json: Json = False,
) -> None:
    """The dataset without its pictures; `join` adds them again.

    Records as parquet, sources by id and SHA-256.

    Example: `unif2ace-data annotations shards/ --out annotations/`
    """
    from unif2ace_data.release.annotations import write_annotations

    count = write_annotations(dataset(shards, option), out)
    emit({"out": str(out), "samples": count}, as_json, lambda: print(f"{out}: annotations of {count} samples"))


def join(
    folder: Annotated[Path, typer.Argument(help="What `unif2ace-data annotations` wrote.")],
    src: Annotated[list[str], typer.Option("--src", help="The photographs; `MANIFEST=PATH` as in build. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", help="Where the dataset goes: a new folder.")] = Path("shards"),
    partial: Annotated[
        bool, typer.Option("--partial", help="Make the dataset also where photographs are missing, of the others.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Annotations and local photographs become the dataset again.

    Every photograph is checked by SHA-256.

    Example: `unif2ace-data join annotations/ --src raw/ --out joined/`
    """
    from dataclasses import asdict

    from unif2ace_data.run import join as stage

    done = stage.join(folder, [source_spec(s) for s in src], out, partial)

    def show() -> None:
        for lost in done.missing[:10]:
            print(f"{lost.reason:<10} {lost.source_id} {lost.detail}".rstrip())
        if done.missing:
            print(f"{len(done.missing)} samples lack their photograph: {done.ledger} lists them")
        if done.root_sha256:
            print(
                f"{out}: {done.samples} samples; {done.identical} of {done.shards} shards as they were, byte for byte"
            )
            print(f"root     {done.root_sha256}")
        else:
            print(f"{out}: not written (--partial makes the dataset of the others)")

    emit(asdict(done), as_json, show)
    if done.missing and not (partial and done.root_sha256):
        raise typer.Exit(1)


def audit(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Another dataset, a folder of pictures, or embeddings (.npy, .npz, .parquet)."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", min=-1, max=1, help="Cosine that makes two faces one person (default: the pack's)."
        ),
    ] = None,
    faces: Annotated[
        str | None, typer.Option("--faces", help="Another face engine than the dataset's: a pack, or a folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the page goes (default: SHARDS.work/audit.html).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Does a person lie in two splits, or in another dataset too?

    The nearest pairs, on a private page. Exit code 1: yes.

    Example: `unif2ace-data audit shards/`
    """
    from dataclasses import asdict

    from unif2ace_data.run.audit import audit as look

    found = look(dataset(shards, option), against, threshold, out, faces, quiet=as_json)
    emit(asdict(found), as_json, lambda: print_audit(asdict(found)))
    if not found.holds:
        raise typer.Exit(1)


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A dataset.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another, or a later version of it.", show_default=False)],
    as_json: Json = False,
) -> None:
    """What changed from A to B: samples, recipe, distributions.

    Exit code 0, whatever differs.

    Example: `unif2ace-data diff shards/ larger/`
    """
    from unif2ace_data.printed import console
    from unif2ace_data.release.diff import render_diff
    from unif2ace_data.run import diff as stage

    found = stage.diff(a, b, quiet=as_json)
    emit(stage.as_json(found), as_json, lambda: console().print(render_diff(found)))


def review(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    export: Annotated[
        int | None,
        typer.Option("--export", min=1, help="Draw so many items into a form for people.", show_default=False),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--import", help="Take answers back: the form's file, or Label Studio's JSON.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the form goes (default: SHARDS.work/review).", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let people look; their answers become evidence.

    A form with items drawn over attributes, verdicts and confidences.

    Example: `unif2ace-data review shards/ --export 200`
    """
    from unif2ace_data.run import review as stage

    if (export is None) == (answers is None):
        raise UserError("review: give either --export N or --import FILE", 2)
    if answers is not None and out is not None:
        raise UserError("--out goes with --export: answers go into the dataset", 2)
    where = dataset(shards, option)
    if export is not None:
        drawn = stage.export(where, export, out)
        emit(stage.as_json(drawn), as_json, lambda: print_drawn(drawn))
    elif answers is not None:
        taken = stage.take_in(where, answers, quiet=as_json)
        emit(stage.as_json(taken), as_json, lambda: print_review(where, taken))


def remove(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    key: Annotated[str | None, typer.Option("--key", help="A sample's key, or the beginning of it.")] = None,
    source_id: Annotated[str | None, typer.Option("--source-id", help="The photograph's source id.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="The hash of the photograph's file.")] = None,
    like: Annotated[
        Path | None,
        typer.Option("--like", help="A photo: the same file, picture or face. Read the list before you agree."),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option("--published", help="user/name: there too, with every older version of the dataset. Not undone."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take photographs out, for good.

    From the shards, from the private folder, and from every later build.

    Example: `unif2ace-data remove shards/ --key 3fa1 --yes`
    """
    from unif2ace_data.run.remove import Found, Selector
    from unif2ace_data.run.remove import remove as stage

    out = dataset(shards, option)

    def agree(found: list[Found], notes: list[str]) -> None:
        if not as_json or not yes:
            print_found(out, found, notes)
        if yes:
            return
        if not sys.stdin.isatty():
            raise UserError("nothing was removed: there is nobody to ask; give --yes to remove what is listed", 2)
        if not typer.confirm("Remove them, for good?", default=False, err=True):
            raise UserError("nothing was removed")

    alone = published is not None and (key, source_id, sha256, like) == (None, None, None, None)
    receipt = {} if alone else stage(out, Selector(key, source_id, sha256, like), agree, quiet=as_json)
    if published:
        from unif2ace_data.release.hub import republish_without

        receipt["hub"] = republish_without(out, published, quiet=as_json)
    emit(receipt, as_json, lambda: print_receipt(out, receipt))


def publish(
    shards: ShardsArgument = None,
    option: ShardsOption = None,
    repo: Annotated[str, typer.Option("--repo", help="The dataset repo: user/name; made if it is not there.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Leave it private; else it is opened when whole.")] = False,
    gated: Annotated[
        str | None, typer.Option("--gated", help="manual (you let each reader in) or auto (readers say who they are).")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A name for this release, e.g. v1.0.")] = None,
    annotations_only: Annotated[
        bool, typer.Option("--annotations-only", help="What was said of the pictures, without them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify, compare with the repo, send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Verify a dataset and send it to the Hugging Face Hub.

    Run it again to send what is missing.

    Example: `unif2ace-data publish shards/ --repo user/name --tag v1.0 --dry-run`
    """
    from typing import cast

    from unif2ace_data.release.hub import Gated
    from unif2ace_data.release.hub import publish as stage

    if not repo:
        raise UserError("--repo user/name is needed: where the dataset goes", 2)
    if gated not in (None, "auto", "manual"):
        raise UserError(f"--gated {gated}: manual or auto", 2)
    gate = cast(Gated | None, gated)
    done = stage(dataset(shards, option), repo, private, gate, tag, dry_run, as_json, annotations_only)
    emit(done, as_json, lambda: print_published(done))


def pull(
    repo: Annotated[str, typer.Argument(help="The dataset repo: user/name.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the dataset.")] = Path("shards"),
    tag: Annotated[str | None, typer.Option("--tag", help="A release, e.g. v1.0.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="The same: a tag, branch or commit.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch a published dataset, every file checked.

    The folder appears when all is there.

    Example: `unif2ace-data pull user/name --out shards/ --tag v1.0`
    """
    from unif2ace_data.release.hub_pull import pull as stage

    if tag and revision and tag != revision:
        raise UserError(f"--tag {tag} and --revision {revision}: give one", 2)
    done = stage(repo, out, tag or revision, quiet=as_json)

    def show() -> None:
        alone = "annotations of " if done["kind"] == "annotations" else ""
        print(f"{out}: {alone}{done['samples']} samples, {done['files']} files, {done['bytes']:,} bytes, as published")
        print(f"commit   {done['commit']}")
        print(f"root     {done['root_sha256']}")

    emit(done, as_json, show)


COMMANDS: dict[str, Callable[..., None]] = {
    "card": card,
    "annotations": annotations_alone,
    "join": join,
    "audit": audit,
    "diff": diff,
    "review": review,
    "remove": remove,
    "publish": publish,
    "pull": pull,
}
