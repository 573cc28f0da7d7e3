"""Training of the FSQ image tokenizer on a dataset's faces, and what it keeps of faces that it has not learnt from.

    B pictures   H, W pixels   C channels   X pictures of a split

A tokenizer appears in its folder whole or not at all, when training has ended: it takes minutes, and is not resumed.
The same dataset and settings give the same weights on one type of machine, on the CPU.

    tok/config.json, model.safetensors   the tokenizer       tok/metrics.json   settings, dataset, PSNR, codes, curve
    tok/README.md                        the same in words
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss
from tqdm import tqdm

from unif2ace_data.errors import UserError
from unif2ace_data.faces.decode import decode
from unif2ace_data.recipe import Section, set_key
from unif2ace_data.release.stream import opened_shard
from unif2ace_data.run.progress import Progress
from unif2ace_data.schema import SPLITS
from unif2ace_data.shards import read_index, read_samples
from unif2ace_model.checkpoint import atomic_folder
from unif2ace_model.config import problems_of
from unif2ace_model.data import ENCODE_BATCH, check_schema, views_of
from unif2ace_model.fsq import Fsq, FsqConfig, load_fsq, save_fsq

METRICS, CARD = "metrics.json", "README.md"
HELD_OUT = ("validation", "test")  # the first of them that has faces is what the tokenizer is judged by
REPORT_EVERY = 50  # steps
WARMUP = 0.1  # our choice: share of the steps until the learning rate is at its peak


class TokenizerSettings(Section):
    """What decides a tokenizer, beside the dataset. Every number is our choice: the paper takes a trained one."""

    fsq: FsqConfig = FsqConfig()
    size: int = Field(64, ge=8, description="side of the pictures that it learns from, in pixels")
    shift: int = Field(8, ge=0, description="pixels by which a crop is larger than what a step sees of it")
    steps: int = Field(1000, ge=1)
    batch: int = Field(16, ge=1, description="pictures a step")
    lr: float = Field(2e-3, gt=0, description="peak of one cycle: up over a tenth of the steps, down along a cosine")
    clip: float = Field(1.0, gt=0, description="norm of the gradient at most")
    photos: int = Field(10_000, ge=1, description="learnt from at most, and a tenth of it measured; held in memory")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def fits(self) -> TokenizerSettings:
        if self.size % self.fsq.downscale:
            raise ValueError(f"size {self.size} is not a multiple of fsq.downscale {self.fsq.downscale}")
        return self


def tokenizer_settings(overrides: Sequence[str] = ()) -> TokenizerSettings:
    """The settings with `KEY.SUBKEY=VALUE` overrides. Raises UserError (exit 2)."""
    data: dict[str, Any] = {}
    for override in overrides:
        set_key(data, override)
    try:
        return TokenizerSettings.model_validate(data)
    except ValidationError as error:
        raise UserError(f"--set of the tokenizer does not hold:\n{problems_of(error, 'tokenizer')}", 2) from None


@dataclass(slots=True)
class Kept:
    """What codes keep of a split's pictures. `psnr`: mean over pictures, in dB."""

    pictures: int
    psnr: float
    codes_used: int
    perplexity: float  # of the codes' frequencies: how many equally frequent codes would be as various


# ------------------------------------------------------------------ the run


def train_tokenizer(
    shards: Path, out: Path, settings: TokenizerSettings, quiet: bool = False, beside: Sequence[Path] = ()
) -> dict[str, Any]:
    """Train on `train`, measure on every split, write `out`; what metrics.json says.

    beside: further datasets, whose pictures count as this one's (each once). Where `out` holds the tokenizer of this
    dataset and these settings, nothing is done. Raises UserError: no dataset, another schema, no faces in `train`, `out`
    taken by something else, a loss that is not finite.
    """
    indices = {folder: read_index(folder) for folder in (shards, *beside)}
    for folder, index in indices.items():
        check_schema(folder, index)
    roots = [str(index["root_sha256"]) for index in indices.values()]
    asked = {"dataset": "+".join(roots), "settings": settings.model_dump()}
    done = finished(out, asked)
    if done is not None:
        return done
    check_writable(out)
    learnt, shown = read_pictures(indices, settings, quiet)
    if not len(learnt):
        raise UserError(
            f"{shards} has no samples in 'train' to learn a tokenizer from: build it with a larger share, "
            "for example --set splits.train=0.7 --set splits.validation=0.1 --set splits.test=0.2"
        )
    model, curve = fit(learnt, settings, quiet)
    model = model.cpu().eval()
    kept = {split: measure(model, pictures) for split, pictures in shown.items()}
    held_out = next((split for split in HELD_OUT if split in kept), None)
    metrics = {
        **asked,
        "parameters": sum(p.numel() for p in model.parameters()),
        "codebook": model.codebook_size,
        "held_out": held_out,
        "splits": {split: rounded(found) for split, found in kept.items()},
        "curve": curve,
    }
    try:
        with atomic_folder(out) as folder:
            save_fsq(model, folder)
            (folder / METRICS).write_text(json.dumps(metrics, indent=1) + "\n")
            (folder / CARD).write_text(card(metrics))
    except OSError as error:
        raise UserError(f"the tokenizer cannot be written to {out} ({error.strerror})") from None
    return metrics


def finished(out: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The metrics of the tokenizer in `out` where it is what is asked for. Raises UserError where `out` is another's."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        before = json.loads((out / METRICS).read_bytes())
        settings = {name for name, value in asked["settings"].items() if before["settings"][name] != value}
        dataset = before["dataset"] != asked["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{out} is not empty and no tokenizer of this command: give another --out", 2) from None
    if dataset or settings:
        whose = "of another dataset" if dataset else f"with other settings ({', '.join(sorted(settings))})"
        raise UserError(f"{out} holds a tokenizer {whose}; models may rest on its codes: give another --out", 2)
    load_fsq(out)
    return dict(before)


def check_writable(out: Path) -> None:
    """Before minutes are spent: whether a folder can be made where `out` goes. Raises UserError."""
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent):
            pass
    except OSError as error:
        raise UserError(f"the tokenizer cannot be written to {out} ({error.strerror})") from None


def read_pictures(
    indices: dict[Path, dict[str, Any]], settings: TokenizerSettings, quiet: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(crops to learn from, whole crops of each split to measure): (X, side, side, 3) uint8.

    The first samples of a split, where it holds more than are wanted: keys are hashes, so their order is one of chance.
    """
    most = {split: settings.photos if split == "train" else -(-settings.photos // 10) for split in SPLITS}
    entries = [(folder, entry) for folder, index in indices.items() for entry in index["shards"]]
    count = {split: sum(int(s["samples"]) for _, s in entries if s["split"] == split) for split in SPLITS}
    wanted = {split: min(count[split], most[split]) for split in SPLITS}
    learnt: list[np.ndarray] = []
    shown: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    progress = Progress("reading", sum(wanted.values()), quiet)
    taken = dict.fromkeys(SPLITS, 0)
    known: set[tuple[str, bytes]] = set()
    for folder, entry in entries:
        split = entry["split"]
        if taken[split] == wanted[split]:
            continue
        with opened_shard(folder, entry, quiet) as path:
            for key, parts in read_samples(path):
                if taken[split] == wanted[split]:
                    break
                picture = (split, hashlib.sha256(parts["jpg"]).digest())
                if picture in known:
                    continue
                known.add(picture)
                crop = decode(parts["jpg"]).rgb
                if split == "train":
                    learnt.append(views_of(crop, key, settings.size + settings.shift, 1)[0])
                if len(shown[split]) < most["test"]:
                    shown[split].append(views_of(crop, key, settings.size, 1)[0])
                taken[split] += 1
                progress.advance(1, [])
    progress.close()
    return np.stack(learnt) if learnt else np.zeros(0), {split: np.stack(rows) for split, rows in shown.items() if rows}


# ------------------------------------------------------------------ training


def fit(pictures_XHWC: np.ndarray, settings: TokenizerSettings, quiet: bool) -> tuple[Fsq, list[dict[str, float]]]:
    """(the tokenizer, its loss and learning rate along the way)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(settings.seed)
    model = Fsq(settings.fsq).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    plain = quiet or not sys.stderr.isatty()
    bar = tqdm(total=settings.steps, desc="training", unit="step", disable=plain)
    curve: list[dict[str, float]] = []
    losses: list[float] = []
    for step in range(settings.steps):
        pixels = batch_of(pictures_XHWC, settings, step).to(device)
        shown = model(pixels)
        # our choice: no network judges the pictures, so what is kept is measured in pixels alone
        loss = l1_loss(shown, pixels) + mse_loss(shown, pixels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
        value = float(loss.detach())
        if not math.isfinite(value + norm):
            raise UserError(f"step {step}: the loss is {value}, its gradient {norm}; nothing is written. Lower lr")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
        optimizer.step()
        losses.append(value)
        bar.update(1)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == settings.steps:
            mean = sum(losses) / len(losses)
            curve.append({"step": step + 1, "loss": round(mean, 5)})
            losses.clear()
            bar.set_postfix_str(f"loss {mean:.4f}")
            if plain and not quiet:
                print(f"training: {step + 1}/{settings.steps} steps  loss {mean:.4f}", file=sys.stderr, flush=True)
    bar.close()
    return model, curve


def batch_of(pictures_XHWC: np.ndarray, settings: TokenizerSettings, step: int) -> Tensor:
    """(B, C, H, W) in [-1, 1]: shifted and mirrored crops, a function of the seed and the step alone."""
    rng, size = np.random.default_rng([settings.seed, step]), settings.size
    rows = rng.integers(len(pictures_XHWC), size=settings.batch)
    places = rng.integers(settings.shift + 1, size=(settings.batch, 2))
    mirrored = rng.random(settings.batch) < 0.5
    shown = []
    for row, (down, right), flip in zip(rows, places, mirrored, strict=True):
        part = pictures_XHWC[row, down : down + size, right : right + size]
        shown.append(part[:, ::-1] if flip else part)
    return to_pixels(np.stack(shown))


def learning_rate(settings: TokenizerSettings, step: int) -> float:
    warmup = max(1, round(WARMUP * settings.steps))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))


def to_pixels(pictures_BHWC: np.ndarray) -> Tensor:
    return (torch.from_numpy(pictures_BHWC).float() / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


# ------------------------------------------------------------------ measuring


def measure(model: Fsq, pictures_XHWC: np.ndarray) -> Kept:
    """Through the codes and back, as a model's pictures go: (X, H, W, 3) uint8."""
    height, width = pictures_XHWC.shape[1:3]
    psnr: list[float] = []
    counts = torch.zeros(model.codebook_size, dtype=torch.long)
    for first in range(0, len(pictures_XHWC), ENCODE_BATCH):
        pixels = to_pixels(pictures_XHWC[first : first + ENCODE_BATCH])
        codes = model.encode(pixels)
        psnr += psnr_of(model.decode(codes, height, width), pixels).tolist()
        counts += torch.bincount(codes.flatten(), minlength=model.codebook_size)
    share = counts[counts > 0].double() / counts.sum()
    return Kept(
        pictures=len(pictures_XHWC),
        psnr=sum(psnr) / len(psnr),
        codes_used=int((counts > 0).sum()),
        perplexity=float((-(share * share.log()).sum()).exp()),
    )


def psnr_of(shown_BCHW: Tensor, pixels_BCHW: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB, of pixels in [-1, 1]."""
    error = (shown_BCHW - pixels_BCHW).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(4 / error.clamp(min=1e-12))


def rounded(kept: Kept) -> dict[str, float]:
    return {
        "pictures": kept.pictures,
        "psnr": round(kept.psnr, 3),
        "codes_used": kept.codes_used,
        "perplexity": round(kept.perplexity, 1),
    }


# ------------------------------------------------------------------ telling


def lines_of(out: Path, metrics: dict[str, Any]) -> list[str]:
    """The result for a terminal."""
    lines = [
        f"  {split:<12} {kept['pictures']:>6} pictures  PSNR {kept['psnr']:.2f} dB  {kept['codes_used']} of "
        f"{metrics['codebook']} codes used"
        for split, kept in metrics["splits"].items()
    ]
    if metrics["held_out"] is None:
        lines.append("  no faces are held out: what it keeps of new ones is not known (splits.validation, splits.test)")
    size = metrics["settings"]["size"]
    return [*lines, f"tokenizer    {out}: --set images.tokenizer=fsq:{out} --set images.size={size}"]


def card(metrics: dict[str, Any]) -> str:
    """README.md of a tokenizer."""
    settings = metrics["settings"]
    fsq, size = settings["fsq"], settings["size"]
    rows = "\n".join(
        f"| {split} | {k['pictures']} | {k['psnr']:.2f} | {k['codes_used']} of {metrics['codebook']} | {k['perplexity']:.0f} |"
        for split, k in metrics["splits"].items()
    )
    if metrics["held_out"]:
        judged = f"What it is judged by is `{metrics['held_out']}`: people whom it has not learnt from."
    else:
        judged = "The dataset holds no other people, so what it keeps of new faces is not known."
    return (
        f"# An FSQ image tokenizer\n\nLevels {tuple(fsq['levels'])}: {metrics['codebook']} codes, one for "
        f"{fsq['downscale']} x {fsq['downscale']} pixels; width {fsq['width']}, {metrics['parameters']:,} parameters.\n"
        f"Learnt in {settings['steps']} steps of {settings['batch']} pictures of {size} x {size} pixels from `train` of "
        f"the dataset {metrics['dataset']}.\n\n"
        "| split | pictures | PSNR, dB | codes used | perplexity of the codes |\n|---|---:|---:|---:|---:|\n"
        f"{rows}\n\n{judged} PSNR is a picture's, through the codes and back, averaged over pictures.\n"
    )
