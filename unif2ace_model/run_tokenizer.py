"""The image tokenizer of a run: one that its preset names, or one that the run trains for itself, once, in its folder."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import ValidationError

from unif2ace_data.errors import UserError
from unif2ace_model.config import Preset
from unif2ace_model.image_tokenizer import check_fit, load_image_tokenizer
from unif2ace_model.tokenizer_training import TokenizerSettings, train_tokenizer

FOLDER = "image_tokenizer"
TRAIN = "train"


def tokenizer_to_train(preset: Preset) -> TokenizerSettings | None:
    """What `images.tokenizer: train` or `train:STEPS` asks for; None where the preset names a tokenizer, and it fits.

    Levels, picture size and pixels a code are the model's. Raises UserError (exit code 2) where they do not go together.
    """
    model, size = preset.model, preset.images.size
    kind, _, steps = preset.images.tokenizer.partition(":")
    if kind != TRAIN:
        check_fit(load_image_tokenizer(preset.images.tokenizer), model.levels, size, model.image_tokens)
        return None
    if preset.images.tokenizer != TRAIN and not (steps.isdigit() and int(steps)):
        raise UserError(f"images.tokenizer {preset.images.tokenizer!r}: write train, or train:STEPS as train:500", 2)
    side = math.isqrt(model.image_tokens)
    if side**2 != model.image_tokens or size % side:
        raise UserError(
            f"no tokenizer makes model.image_tokens={model.image_tokens} codes of images.size={size}: the codes form a "
            "square whose side divides that of the picture",
            2,
        )
    settings: dict[str, object] = {"fsq": {"levels": model.levels, "downscale": size // side}, "size": size}
    settings |= {"steps": int(steps)} if steps else {}
    try:
        return TokenizerSettings.model_validate(settings)
    except ValidationError as error:
        why = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise UserError(f"model.levels, model.image_tokens and images.size give no tokenizer: {why}", 2) from None


def provide_tokenizer(shards: Path, run: Path, preset: Preset, quiet: bool = False) -> Preset:
    """The preset with the place of a tokenizer in it: the run's own is trained where it is not there yet.

    Raises UserError: as `tokenizer_to_train` and `train_tokenizer` do.
    """
    settings = tokenizer_to_train(preset)
    if settings is not None:
        train_tokenizer(shards, run / FOLDER, settings, quiet)
    return with_tokenizer(run, preset)


def with_tokenizer(run: Path, preset: Preset) -> Preset:
    """The preset as code uses it: `train` replaced by the tokenizer in the run's folder, wherever that lies by now."""
    if preset.images.tokenizer.partition(":")[0] != TRAIN:
        return preset
    images = preset.images.model_copy(update={"tokenizer": f"fsq:{run / FOLDER}"})
    return preset.model_copy(update={"images": images})
