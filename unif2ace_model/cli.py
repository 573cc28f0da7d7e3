"""`unif2ace-model`: parse, call, print. Logic lives in the modules; heavy imports happen inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_data.errors import UserError
from unif2ace_data.program import Json, emit, run
from unif2ace_data.storage import is_url

if TYPE_CHECKING:
    from unif2ace_model.attributes import Report
    from unif2ace_model.train import Trained

NAME = "unif2ace-model"
app = typer.Typer(
    name=NAME,
    help="What learns from a dataset that `unif2ace-data` built.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def commands() -> None:
    """What learns from a dataset that `unif2ace-data` built."""


RunOption = Annotated[
    Path, typer.Option("--run", help="A run of `train` (its latest checkpoint), or a checkpoint's folder.")
]
Sampler = Annotated[str, typer.Option("--sampler", help="maskgit, ancestral or first-hitting.")]
Steps = Annotated[
    int, typer.Option("--steps", min=0, help="Calls of the model at most; 0: MaskGIT 12, the others one a code.")
]
Guidance = Annotated[float, typer.Option("--guidance", min=0, help="Of the prompt over none; 0: the model as it is.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE in the preset. Repeatable.")]


@app.command()
def train(
    shards: Annotated[
        str,
        typer.Option(
            "--shards", help="The dataset, with questions (qa-gen); hf://datasets/user/name or s3://… streams."
        ),
    ] = "shards",
    out: Annotated[Path, typer.Option("--out", help="The run's folder: checkpoints, metrics, samples.")] = Path("run"),
    preset: Annotated[
        str, typer.Option("--preset", help="A preset: a name in pipelines/ or a YAML file.")
    ] = "train-tiny",
    settings: Changes = None,
    as_json: Json = False,
) -> None:
    """Train the model. The same command goes on with a run that was stopped or killed.

    Example: `unif2ace-model train --shards shards/ --preset train-tiny --out run/`
    """
    from unif2ace_data.release.stream import stand_in
    from unif2ace_model.config import load_preset
    from unif2ace_model.run_folder import latest
    from unif2ace_model.train import train as fit

    chosen = load_preset(preset, settings or [])
    dataset = stand_in(shards, quiet=as_json) if is_url(shards) else Path(shards)
    done = fit(dataset, out, chosen, quiet=as_json)
    if not done.first:  # one of several ranks: rank 0 speaks
        raise typer.Exit(130 if done.stopped else 0)
    answer = {
        "out": str(out), "checkpoint": str(latest(out)), "step": done.step, "steps": chosen.optim.steps,
        "stopped": done.stopped, "last": done.last,
    }  # fmt: skip
    emit(answer, as_json, lambda: print_run(done, chosen.optim.steps, latest(out), shards))
    if done.stopped:
        print(f"{NAME}: stopped after step {done.step}, saved; run the same command to go on", file=sys.stderr)
        raise typer.Exit(130)


def print_run(done: Trained, steps: int, checkpoint: Path, shards: str) -> None:
    losses = [name for name in ("loss", "und", "gen_mask", "gen_score", "balance") if done.last.get(name) is not None]
    print(f"steps        {done.step} of {steps}")
    if losses:
        print(
            f"losses       {'  '.join(f'{name} {done.last[name]:.4f}' for name in losses)} (step {done.last['step']})"
        )
        print(f"speed        {done.last['tokens_per_second']:,.0f} tokens/s")
    print(f"checkpoint   {checkpoint}")
    if not done.stopped:
        folder = "COPY" if is_url(shards) else shards  # eval reads pictures again and again, and so a folder
        print(f"next         {NAME} eval --run {done.out} --shards {folder} --split test")
        print(f'             {NAME} generate --run {done.out} --prompt "A smiling woman." --out grid.png')
        print(f'             {NAME} answer --run {done.out} --image photo.jpg --question "Is the person smiling?"')


@app.command()
def generate(
    run_: RunOption,
    prompts: Annotated[list[str], typer.Option("--prompt", help="What the pictures show. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", help="The grid: a .png, .jpg or .webp.")] = Path("grid.png"),
    count: Annotated[int, typer.Option("--count", min=1, help="Pictures of each prompt.")] = 4,
    sampler: Sampler = "maskgit",
    steps: Steps = 0,
    guidance: Guidance = 1.75,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="maskgit: noise on which codes are kept. Default: 1.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same pictures.")] = 0,
    as_json: Json = False,
) -> None:
    """Pictures of faces from texts; a row of the grid for each.

    Example: `unif2ace-model generate --run run/ --prompt "A smiling woman." --out grid.png`
    """
    from unif2ace_model.generation import Sampling, generate_grid
    from unif2ace_model.trained import load_trained

    how = Sampling(sampler, steps, guidance, temperature, seed)
    answer = generate_grid(load_trained(run_), prompts, count, how, out)
    for prompt in answer["cut"]:
        print(f"{NAME}: longer than the captions that the model learnt from, its end is cut: {prompt}", file=sys.stderr)
    emit(answer, as_json, lambda: print(f"{out}: {answer['pictures']} pictures of {answer['size']} pixels"))


@app.command()
def answer(
    run_: RunOption,
    image: Annotated[Path, typer.Option("--image", help="A photograph; its largest face is cropped as `build` does.")],
    questions: Annotated[list[str], typer.Option("--question", help="What to ask. Repeatable.")],
    as_json: Json = False,
) -> None:
    """Ask a trained model about a photograph.

    Example: `unif2ace-model answer --run run/ --image raw/astronaut.png --question "Is the person smiling?"`
    """
    from unif2ace_model.photograph import answer_about
    from unif2ace_model.trained import load_trained

    found = answer_about(load_trained(run_), image, questions)
    if found["faces"] > 1:
        print(f"{NAME}: {image} shows {found['faces']} faces; the largest is asked about", file=sys.stderr)
    pairs = [(each["question"], each["answer"]) for each in found["answers"]]
    emit(found, as_json, lambda: print("\n".join(f"{question}\n  {said}" for question, said in pairs)))


@app.command()
def info(
    preset: Annotated[str, typer.Argument(help="A preset: a name in pipelines/ or a YAML file.")],
    settings: Changes = None,
    as_json: Json = False,
) -> None:
    """What a preset costs, and which numbers are the paper's.

    Parameters, FLOPs a token, memory. Trains nothing.

    Example: `unif2ace-model info train-1p8b`
    """
    from unif2ace_model.config import load_preset
    from unif2ace_model.info import info as found
    from unif2ace_model.info import lines_of

    facts = found(load_preset(preset, settings or []))
    emit({"preset": preset, **facts}, as_json, lambda: print("\n".join(lines_of(preset, facts))))


@app.command()
def attributes(
    shards: Annotated[Path, typer.Option("--shards", help="The dataset, with labels of its sources.")] = Path("shards"),
    out: Annotated[Path, typer.Option("--out", help="The model; its card is written beside it.")] = Path(
        "attributes.onnx"
    ),
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="`face`, a face pack, a folder in open_clip's format, or MODEL=WEIGHTS (a checkpoint, or a tag in the cache).",
        ),
    ] = "face",
    precision: Annotated[
        float, typer.Option("--precision", help="What a value must reach on `validation` to be stated.")
    ] = 0.9,
    as_json: Json = False,
) -> None:
    """Train the attribute model for `unif2ace-data build`.

    `build --attributes` uses it; its card says what it can tell.

    Example: `unif2ace-model attributes --shards shards/ --out attributes.onnx`
    """
    from unif2ace_model.attributes import train

    report = train(shards, out, encoder, precision, quiet=as_json)
    emit(report_json(report), as_json, lambda: print_report(report))


@app.command("eval")
def evaluation(
    run_: RunOption,
    shards: Annotated[
        Path | None, typer.Option("--shards", help="The dataset (default: shards/).", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, validation or test.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", help="Write the whole report here, as JSON.")] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", help="Parts, with commas: qa, captions, nelbo, generation.", show_default="all"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many samples, evenly spread; 0: all.")] = 0,
    sampler: Sampler = "maskgit",
    steps: Steps = 0,
    guidance: Guidance = 1.75,
    fid: Annotated[
        str, typer.Option("--fid", help="Network of FID: `face`, inception:FILE, or a CLIP as for `attributes`.")
    ] = "face",
    attributes: Annotated[
        Path | None,
        typer.Option("--attributes", help="The attribute model of the dataset: it judges generated faces too."),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option("--judge-url", help="An OpenAI-compatible server that grades, e.g. http://host:8000/v1"),
    ] = None,
    judge_model: Annotated[str | None, typer.Option("--judge-model", help="The model's name on that server.")] = None,
    qa: Annotated[
        Path | None, typer.Option("--qa", help="Answer the questions of this JSONL (FaceBench's layout) instead.")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="The folder of their pictures.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained model on held-out samples.

    Answers, captions, image likelihood, generated faces.

    Example: `unif2ace-model eval --run runs/x --shards shards/ --split test --out eval.json`
    """
    if (qa is None) != (images is None):
        raise UserError("--qa and --images go together: the questions, and the folder of their pictures", 2)
    if qa is not None and (only is not None or judge_url is not None or limit or attributes is not None):
        raise UserError(
            "--qa answers every question of its file: --only, --limit, --attributes and --judge-url do not go with it",
            2,
        )
    if out is not None and not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: give a file in a folder that exists", 2)
    from rich.console import Console

    from unif2ace_model.evaluate import asked_for, evaluate, save_report
    from unif2ace_model.evaluate_file import evaluate_file
    from unif2ace_model.evaluate_table import render_report

    if qa is not None and images is not None:
        report = evaluate_file(run_, qa, images, shards, split, quiet=as_json)
    else:
        asked = asked_for(split, only, limit, sampler, steps, guidance, fid, attributes, judge_url, judge_model)
        report = evaluate(run_, shards or Path("shards"), asked, quiet=as_json)
    if out is not None:
        save_report(report, out)
    emit(report, as_json, lambda: Console().print(render_report(report)))
    if "not_judged" in report:
        raise UserError(f"not judged: {report['not_judged']}")


@app.command()
def compare(
    a: Annotated[Path, typer.Option("--a", help="A variant of a dataset, with questions.")],
    b: Annotated[Path, typer.Option("--b", help="The other variant.")],
    evaluation: Annotated[Path, typer.Option("--eval", help="The dataset whose held-out samples judge both.")],
    split: Annotated[str, typer.Option("--split", help="Of the --eval dataset: train, validation or test.")] = "test",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Pairs of runs; under 6 nothing can be shown.")] = 8,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Time for all runs, e.g. 30m.", show_default="the preset's steps"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The comparison's folder.")] = Path("comparison"),
    preset: Annotated[
        str, typer.Option("--preset", help="A preset: a name in pipelines/ or a YAML file.")
    ] = "train-compare",
    primary: Annotated[
        list[str] | None,
        typer.Option(
            "--primary", help="A measurement that decides. Repeatable.", show_default="answer_nll, caption_nll"
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Held-out samples at most, evenly spread; 0: all.")] = 0,
    pictures: Annotated[
        int, typer.Option("--pictures", min=0, help="Faces that each run generates and the analyser looks at.")
    ] = 32,
    settings: Changes = None,
    as_json: Json = False,
) -> None:
    """Which of two datasets teaches a model more?

    Pairs of runs, and an answer with its interval and p.

    The same command goes on after a kill, and with more --seeds adds pairs. Exit code 1: a run crashed.

    Example: `unif2ace-model compare --a shards-a/ --b shards-b/ --eval shards-eval/ --seeds 8 --budget 30m`
    """
    from rich.console import Console

    from unif2ace_model.compare import PAGE, asked_for
    from unif2ace_model.compare import compare as stage
    from unif2ace_model.compare_table import render
    from unif2ace_model.config import load_preset

    chosen = load_preset(preset, settings or [])
    asked = asked_for(a, b, evaluation, split, out, chosen, seeds, budget, primary or [], limit, pictures)
    report = stage(asked, quiet=as_json)

    def show() -> None:
        Console().print(render(report))
        print(f"page     {out / PAGE}")

    emit(report, as_json, show)
    if report["failed"]:
        raise typer.Exit(1)


def report_json(report: Report) -> dict[str, Any]:
    return {
        "out": str(report.out),
        "card": str(report.card),
        "encoder": report.metadata.encoder.model_dump(),
        "stated": {head.name: {v: c.model_dump() for v, c in head.stated.items()} for head in report.metadata.heads},
        "test": {
            finding.name: {
                value.name: {"cases": value.test.cases, "precision": value.test.precision, "recall": value.test.recall}
                for value in finding.values
                if not value.why
            }
            for finding in report.findings
            if finding.stated
        },
        "left_out": report.left_out,
    }


def print_report(report: Report) -> None:
    for finding in report.findings:
        for value in finding.values:
            if not value.why:
                test = value.test
                print(
                    f"  {finding.name + '=' + value.name:<32} from p={value.claim.threshold:<5g} precision "
                    f"{test.precision:.3f} ({test.right} of {test.cases} on test)  recall {test.recall:.2f}"
                )
    for name, why in report.left_out.items():
        print(f"  {name:<32} left out: {why}")
    print(f"model    {report.out} ({report.metadata.encoder.name}; licence: {report.metadata.encoder.licence})")
    print(f"card     {report.card}")


@app.command()
def tokenizer(
    shards: Annotated[Path, typer.Option("--shards", help="The dataset whose faces it learns from.")] = Path("shards"),
    out: Annotated[Path, typer.Option("--out", help="The tokenizer's folder.")] = Path("tok"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, for example size=256 or fsq.downscale=16. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train an FSQ image tokenizer, and measure what it keeps.

    Measured on faces that it has not learnt from.

    Example: `unif2ace-model tokenizer --shards shards/ --out tok/ --set steps=2000`
    """
    from unif2ace_model.tokenizer_training import lines_of, tokenizer_settings, train_tokenizer

    metrics = train_tokenizer(shards, out, tokenizer_settings(settings or []), quiet=as_json)
    emit({"out": str(out), **metrics}, as_json, lambda: print("\n".join(lines_of(out, metrics))))


def main() -> None:
    run(app, NAME)


if __name__ == "__main__":
    main()
