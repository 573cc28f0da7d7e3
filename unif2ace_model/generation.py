"""Pictures from captions: a sampler, guidance, the tokenizer's decoder, and the grid that they are shown in.

B pictures   N image tokens   H, W pixels   C channels
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unif2ace_data.errors import UserError
from unif2ace_data.shards import write_bytes
from unif2ace_model.config import Preset
from unif2ace_model.decoding import Denoise, denoiser
from unif2ace_model.image_tokenizer import ImageTokenizer
from unif2ace_model.model import UniF2ace
from unif2ace_model.sampling import ancestral, first_hitting, maskgit
from unif2ace_model.trained import TrainedModel, tokenizer_of

SAMPLERS = ("maskgit", "ancestral", "first-hitting")
MASKGIT_STEPS = 12  # our choice
BATCH = 16  # fixed: what a picture is drawn with hangs on those beside it
COLUMNS = 4  # of the grid of a single prompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are made. `steps`: calls of the model at most; 0: 12 for MaskGIT, one a code for the others.

    `guidance` g: (1 + g) conditional - g unconditional. `temperature`: MaskGIT's, 1 where it is None; the others have none.
    Raises UserError (exit code 2): no such sampler, a temperature for one that has none.
    """

    sampler: str = "maskgit"
    steps: int = 0
    guidance: float = 1.75  # Show-o's
    temperature: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise UserError(f"no sampler {self.sampler!r}: one of {', '.join(SAMPLERS)}", 2)
        if self.temperature is not None and self.sampler != "maskgit":
            raise UserError(f"the sampler {self.sampler!r} draws from the model's distribution: no temperature", 2)


def generate(
    model: UniF2ace, tokenizer: ImageTokenizer, captions: Sequence[Sequence[int]], preset: Preset, how: Sampling
) -> np.ndarray:
    """(B, H, W, 3) uint8: one picture a caption, given as ids. The same call gives the same pictures."""
    chance = torch.Generator().manual_seed(how.seed)
    size, made = preset.images.size, []
    for first in range(0, len(captions), BATCH):
        some = captions[first : first + BATCH]
        codes_BN = sampled(denoiser(model, some, how.guidance), len(some), preset, how, chance)
        pixels_BCHW = tokenizer.decode(codes_BN.cpu(), size, size)
        shown_BHWC = (pixels_BCHW.permute(0, 2, 3, 1).clamp(-1, 1) + 1) * 127.5
        made.append(shown_BHWC.round().to(torch.uint8).numpy())
    return np.concatenate(made)


def sampled(denoise: Denoise, rows: int, preset: Preset, how: Sampling, chance: torch.Generator) -> torch.Tensor:
    """(B, N) codes of as many pictures as `rows`."""
    tokens, codebook = preset.model.image_tokens, preset.model.codebook
    steps = steps_of(how, preset)
    if how.sampler == "ancestral":
        return ancestral(denoise, rows, tokens, codebook, steps, chance, preset.objective.schedule)
    if how.sampler == "first-hitting":
        return first_hitting(denoise, rows, tokens, codebook, chance, at_once=-(-tokens // steps))
    return maskgit(denoise, rows, tokens, codebook, steps, chance, temperature_of(how) or 0.0)


def steps_of(how: Sampling, preset: Preset) -> int:
    """The steps that are taken: what was asked for, or the sampler's own number."""
    return how.steps or (MASKGIT_STEPS if how.sampler == "maskgit" else preset.model.image_tokens)


def temperature_of(how: Sampling) -> float | None:
    """The temperature that is taken: what was asked for, or 1; None for the samplers that have none."""
    return how.temperature if how.temperature is not None or how.sampler != "maskgit" else 1.0


def generate_grid(
    trained: TrainedModel, prompts: Sequence[str], count: int, how: Sampling, out: Path
) -> dict[str, Any]:
    """Write `count` pictures of each prompt as one grid (several prompts: a row for each); what was done.

    Raises UserError: an empty prompt, an `out` that is no picture's name or cannot be written.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UserError('an empty prompt: say what the picture shows, for example --prompt "A smiling woman."', 2)
    kind = picture_format(out)
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror})") from None
    most = trained.preset.text.max_tokens
    ids = [trained.text.encode(prompt) for prompt in prompts]
    captions = [caption[:most] for caption in ids for _ in range(count)]
    with trained.at_work():
        pixels_BHWC = generate(trained.model, tokenizer_of(trained), captions, trained.preset, how)
    file = io.BytesIO()
    grid(pixels_BHWC, count if len(prompts) > 1 else COLUMNS).save(file, kind)
    write_bytes(out, file.getvalue())
    return {
        "out": str(out),
        "checkpoint": str(trained.folder),
        "prompts": list(prompts),
        "cut": [prompt for prompt, caption in zip(prompts, ids, strict=True) if len(caption) > most],
        "pictures": len(captions),
        "size": trained.preset.images.size,
        "sampler": how.sampler,
        "steps": steps_of(how, trained.preset),
        "guidance": how.guidance,
        "temperature": temperature_of(how),
        "seed": how.seed,
    }


def picture_format(out: Path) -> str:
    """Pillow's name of the format that a file's name asks for. Raises UserError (exit code 2) where there is none."""
    Image.init()
    kind = Image.registered_extensions().get(out.suffix.lower())
    if kind not in ("PNG", "JPEG", "WEBP"):
        raise UserError(f"--out {out}: name a picture, .png, .jpg or .webp", 2)
    return kind


def grid(pixels_BHWC: np.ndarray, columns: int = COLUMNS) -> Image.Image:
    """Pictures side by side, row by row."""
    count, height, width, _ = pixels_BHWC.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for place, picture in enumerate(pixels_BHWC):
        row, column = divmod(place, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return Image.fromarray(sheet)
