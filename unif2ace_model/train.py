"""The trainer: one loop for every preset. A run lies in one folder, and the same command goes on with it.

    runs/x/preset.yaml          what was asked, resolved       runs/x/metrics.jsonl   one line every `run.log_every` steps
    runs/x/tokenizer.json       of the text                    runs/x/tensorboard/    the same for TensorBoard
    runs/x/image_tokenizer/     with images.tokenizer: train   runs/x/faces.yaml      how the dataset's crops were made
    runs/x/step-000500/         a checkpoint: config.json, model.safetensors, trainer.pt (optimizer, chance), state.json
    runs/x/samples/             pictures and answers at intervals      runs/x/lock    held while one process trains here

A step is a function of the preset, the dataset, the weights and the step's number alone; together with the optimizer
and the random state that is all that a checkpoint holds, so N steps, a kill and N steps more are 2N steps.
On several devices (ranks.py) rank 0 prepares and writes, and every rank takes its pieces of a step.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from tqdm import tqdm

from unif2ace_data.errors import UserError
from unif2ace_data.release.read import read_mapping, sample_records
from unif2ace_data.release.stream import streamed
from unif2ace_data.shards import read_index
from unif2ace_model.config import ModelConfig, Preset
from unif2ace_model.data import Dataset, check_schema, no_samples, open_dataset
from unif2ace_model.decoding import label_nll
from unif2ace_model.diffusion import d3diff
from unif2ace_model.flops import cost_of, peak_flops, step_flops
from unif2ace_model.mixture import DROPOUT_STREAM, NO_QUESTIONS, Mixture, chance, mixture_of
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import Router, TokenMoeLayer, balance_loss, update_bias
from unif2ace_model.photograph import keep_faces
from unif2ace_model.prompts import IGNORED, Batch
from unif2ace_model.ranks import ALONE, Ranks, ranks_of, spread, whole_model
from unif2ace_model.routers import router_facts, token_loads
from unif2ace_model.run_folder import (
    Log,
    begin,
    check_root,
    placed,
    resume_optimizer,
    resume_weights,
    save,
    text_tokenizer,
)
from unif2ace_model.run_tokenizer import provide_tokenizer, tokenizer_to_train
from unif2ace_model.samples import write_samples
from unif2ace_model.start import LOOKS, place_of, start_from
from unif2ace_model.text import TextTokenizer
from unif2ace_model.transformer import Loads


@dataclass(slots=True)
class Trained:
    """How a call of `train` ended. `stopped`: by a signal, after saving; `first`: of several ranks, the one that speaks."""

    out: Path
    step: int
    last: dict[str, Any]
    stopped: bool
    first: bool = True


@dataclass(slots=True)
class Counts:
    """What the sums of a step's losses are divided by: taken over all its parts before any is computed."""

    answers: int  # sequences with labels
    answer_tokens: int
    masked: int
    generated: int


# ------------------------------------------------------------------ the run


def train(shards: Path, out: Path, preset: Preset, quiet: bool = False) -> Trained:
    """Train in `out`, from its latest checkpoint where it has one.

    Raises UserError: no dataset, another schema, no questions, an empty split, another preset or dataset than the
    run's, a loss that is not finite (the last good checkpoint stays, the message says which batch).
    """
    with ranks_of(preset) as ranks:
        if not ranks.first:
            return train_in(out, shards, placed(preset), True, ranks)
        check_dataset(shards)
        place_of(preset.start)
        tokenizer_to_train(preset)  # what does not go together is said before anything is written
        preset = placed(preset)
        with begin(out, preset):
            return train_in(out, shards, preset, quiet, ranks)


def train_in(out: Path, shards: Path, preset: Preset, quiet: bool, ranks: Ranks) -> Trained:
    """Train in a run's folder that nobody else writes to."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with ranks.in_turn():
        # Before a shard is encoded for a run that cannot have it.
        check_root(out, str(read_index(shards)["root_sha256"]))
        preset = provide_tokenizer(shards, out, preset, quiet)
        dataset = open_dataset(shards, preset.images, preset.features, quiet)
        text = text_tokenizer(out, dataset, preset)
    torch.use_deterministic_algorithms(device.type == "cpu")  # exact resumption is promised on the CPU
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(preset.run.seed)
    model = UniF2ace(filled(preset.model, dataset, text)).to(device)
    model.body.recompute = preset.run.recompute
    step = resume_weights(out, model, dataset)
    if not step:
        start_from(model, preset.start, text)
    cost = cost_of(model)
    spread(model, ranks)
    optimizer = adamw(model, preset)
    resume_optimizer(out, model, optimizer, ranks)
    if ranks.first:
        keep_faces(shards, out)  # not before the dataset is known to be the run's
    mixture = mixture_of(dataset, "train", text, preset)
    log = Log(out, step) if ranks.first else None
    pieces = ranks.world * preset.optim.accumulate
    bar = tqdm(
        total=preset.optim.steps, initial=step, desc="training", unit="step", disable=quiet or not sys.stderr.isatty()
    )
    peak, started, tokens, flops = peak_flops(), time.monotonic(), 0, 0.0
    saved, stopped = step, False
    with stop_flag() as stop, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(mixture.batch, step, pieces)
        while step < preset.optim.steps and not stopped:
            parts = coming.result()
            # a pure function of the step: it may be made while one runs
            coming = ahead.submit(mixture.batch, step + 1, pieces)
            if ranks.world > 1 and preset.model.dropout:
                torch.manual_seed(int(chance(preset.run.seed, DROPOUT_STREAM, step, ranks.rank).integers(2**62)))
            values, loads = train_step(model, optimizer, parts, preset, step, ranks)
            if not math.isfinite(values["loss"]) or not math.isfinite(values["gradient"]):
                raise UserError(not_finite(out, mixture, step, values, saved) if ranks.first else "")
            apply_step(model, optimizer, preset, step, loads, ranks)
            step += 1
            bar.update(1)
            tokens += sum(int(part.valid_BS.sum()) for part in parts)
            flops += step_flops(cost, parts)
            stopped = ranks.agreed(bool(stop))
            if step % preset.run.log_every == 0 or step == preset.optim.steps:
                seconds = time.monotonic() - started
                mfu = flops / seconds / (peak * ranks.world) if peak else None
                speed = {"tokens_per_second": tokens / seconds, "mfu": mfu}
                facts = router_facts(ranks.gathered(loads))
                if log is not None:
                    log.write(step, values | speed, facts)
                if bar.disable and not quiet:
                    print(line_of(step, preset.optim.steps, values, speed), file=sys.stderr, flush=True)
                started, tokens, flops = time.monotonic(), 0, 0.0
            if preset.run.sample_every and step % preset.run.sample_every == 0:
                if (standing := whole_model(model, ranks)) is not None:
                    write_samples(out, step, standing, dataset, text, preset)
                started, tokens, flops = time.monotonic(), 0, 0.0
            if step % preset.run.save_every == 0:
                save(out, step, model, optimizer, dataset, preset, ranks)
                saved = step
                started, tokens, flops = time.monotonic(), 0, 0.0
    bar.close()
    if saved != step:
        save(out, step, model, optimizer, dataset, preset, ranks)
    if log is not None:
        log.close()
    return Trained(out, step, log.last if log else {}, step < preset.optim.steps, ranks.first)


def check_dataset(shards: Path) -> None:
    """Before minutes are spent on a tokenizer and on codes. Raises UserError: no dataset, no `train`, no questions in it."""
    index = read_index(shards)
    check_schema(shards, index)
    names = [str(entry["name"]) for entry in index["shards"] if entry["split"] == "train"]
    if not names:
        raise UserError(no_samples("train"))
    if streamed(shards):  # no shard is fetched for it; `mixture_of` says it of a split that alone has none
        asked = read_mapping(shards / "stats.json").get("qa", {}).get("total", 1)
    else:
        asked = any(record["qa"] for name in names for record in sample_records(shards / name))
    if not asked:
        raise UserError(NO_QUESTIONS)


def filled(config: ModelConfig, dataset: Dataset, text: TextTokenizer) -> ModelConfig:
    """The model's configuration with what the data decide. Raises UserError where they do not fit it."""
    if config.text_vocab not in (0, text.size):
        raise UserError(f"the text tokenizer has {text.size} ids, the model model.text_vocab={config.text_vocab}", 2)
    widths = {f"{name}_dim": dataset.widths.get(name, 0) for name in config.guests}
    for key, width in widths.items():
        if getattr(config, key) not in (0, width):
            raise UserError(f"the features are {width} wide, the model has model.{key}={getattr(config, key)}", 2)
    return config.model_copy(update={"text_vocab": text.size} | widths)


# ------------------------------------------------------------------ a step


def train_step(
    model: UniF2ace,
    optimizer: torch.optim.Optimizer,
    parts: list[Batch],
    preset: Preset,
    step: int,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float], list[list[Loads]]]:
    """Gradients of one step, of whose parts every rank takes its own. (losses of all, gradient norm and learning rate;
    the routers' loads by part of this rank and layer)."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    counts = counts_of(parts)
    sums: dict[str, float] = {}
    loads = []
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16) if preset.run.dtype == "bfloat16" else nullcontext()
    for mine in parts[ranks.rank :: ranks.world]:
        part = mine.to(device)
        with autocast:
            terms, load = losses(model, part, preset, counts, len(parts))
        if terms:  # none where nothing is masked and nothing answered
            torch.autograd.backward(torch.stack(list(terms.values())).sum())
        loads.append(load)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), preset.optim.clip)
    sums, length = ranks.summed(sums), float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    values = {"loss": sum(sums.values()), **sums, "gradient": length, "lr": learning_rate(preset, step)}
    return values, loads


def losses(
    model: UniF2ace, batch: Batch, preset: Preset, counts: Counts, parts: int
) -> tuple[dict[str, Tensor], list[Loads]]:
    """The terms of the objective that this part of a step adds, each already weighted and divided."""
    objective, moe = preset.objective, preset.model.token_moe
    output = model(batch)
    terms: dict[str, Tensor] = {}
    if counts.answer_tokens:
        nll_B, tokens_B = label_nll(model, output.hidden_BSD, batch.labels_BS)
        if objective.und_mean == "tokens":
            terms["und"] = objective.und * nll_B.sum() / counts.answer_tokens
        else:
            terms["und"] = objective.und * (nll_B / tokens_B.clamp(min=1)).sum() / counts.answers
    row_M, place_M = (batch.targets_BN != IGNORED).nonzero(as_tuple=True)
    if counts.masked:
        hidden_MD = output.hidden_BSD[row_M, batch.start_B[row_M] + place_M]
        found = d3diff(
            model.code_logits(hidden_MD), batch.targets_BN[row_M, place_M], batch.rate_B[row_M], objective.schedule
        )
        terms["gen_mask"] = objective.gen * objective.mask * found.mask / counts.masked
        terms["gen_score"] = objective.gen * objective.alpha * found.score / counts.generated
    if moe is not None and moe.balance == "loss":
        weight_G = torch.tensor([moe.und_weight, moe.gen_weight], device=batch.text_BS.device)
        layers = [balance_loss(load.tokens, weight_G) for load in output.loads if load.tokens is not None]
        terms["balance"] = torch.stack(layers).sum() / parts
    return terms, output.loads


def counts_of(parts: list[Batch]) -> Counts:
    return Counts(
        answers=sum(int((part.labels_BS != IGNORED).any(1).sum()) for part in parts),
        answer_tokens=sum(int((part.labels_BS[:, 1:] != IGNORED).sum()) for part in parts),
        masked=sum(int((part.targets_BN != IGNORED).sum()) for part in parts),
        generated=sum(int((part.group_B == 1).sum()) for part in parts),
    )


def apply_step(
    model: UniF2ace,
    optimizer: torch.optim.Optimizer,
    preset: Preset,
    step: int,
    loads: list[list[Loads]],
    ranks: Ranks = ALONE,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.get("share", 1.0) * learning_rate(preset, step)  # no share: of an earlier checkpoint
    optimizer.step()
    moe = preset.model.token_moe
    if moe is not None and moe.balance == "bias":
        routers = [m.router for m in model.modules() if isinstance(m, TokenMoeLayer) and m.router is not None]
        for router, load in zip(routers, token_loads(loads), strict=True):
            assert isinstance(router, Router)
            update_bias(router, ranks.total(load.chosen_GN), moe.bias_rate)


def learning_rate(preset: Preset, step: int) -> float:
    """Linear warm-up, then a cosine down to `final` of the peak."""
    optim = preset.optim
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    share = (step - optim.warmup) / max(1, optim.steps - optim.warmup)
    return optim.lr * (optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * share)))


def adamw(model: UniF2ace, preset: Preset) -> torch.optim.AdamW:
    """Decay on matrices alone: biases, norms and scales keep none, nor do embeddings (our choice, the usual one).
    A group's `share` is what it takes of the learning rate: `optim.body` for all but what looks at pictures."""
    named = list(model.named_parameters())
    decayed = {name for name, p in named if p.ndim >= 2 and "embed" not in name and not name.endswith(("_EF", "_ED"))}
    share = {name: 1.0 if LOOKS.search(name) else preset.optim.body for name, _ in named}
    groups = [
        {
            "params": [p for name, p in named if share[name] == part and (name in decayed) == decays],
            "share": part,
            "weight_decay": preset.optim.weight_decay if decays else 0.0,
        }
        for part in sorted(set(share.values()), reverse=True)
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=preset.optim.lr, betas=preset.optim.betas)


def not_finite(out: Path, mixture: Mixture, step: int, values: dict[str, float], saved: int) -> str:
    """What to say of a step whose loss or gradient is no number; the batch is written down beside the run."""
    file = out / f"not-finite-{step:06d}.json"
    batch = mixture.uids(step)
    shown = {name: str(value) for name, value in values.items()}
    file.write_text(json.dumps({"step": step, "values": shown, **batch}, indent=1) + "\n")
    bad = ", ".join(f"{name} {value}" for name, value in values.items() if not math.isfinite(value))
    kept = f"checkpoint step-{saved:06d} is kept" if saved else "there is no checkpoint yet"
    return (
        f"step {step}: {bad}; {kept}. The batch (samples {', '.join((batch['und'] + batch['gen'])[:3])}, …) is in {file}. "
        "Lower optim.lr or optim.clip, or look at those samples, and train into another --out"
    )


def line_of(step: int, steps: int, values: dict[str, float], speed: dict[str, float | None]) -> str:
    terms = "  ".join(f"{name} {values[name]:.4f}" for name in values if name not in ("gradient", "lr"))
    return f"step {step}/{steps}  {terms}  lr {values['lr']:.2e}  {speed['tokens_per_second']:.0f} tokens/s"


@contextmanager
def stop_flag() -> Iterator[list[int]]:
    """A list that is filled by SIGTERM or Ctrl-C: the loop ends after its step, and saves. A second signal kills."""
    caught: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
