"""Generated faces: what counts as agreement by hand, and real photographs through the same eyes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled import annotation
from small_attribute_model import write_model

from unif2ace_data.errors import UserError
from unif2ace_data.faces.decode import decode
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.shards import dataset_shards, read_samples
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.evaluate import crops_of, mean_landmarks, opened
from unif2ace_model.evaluate_generation import agreement, agreements, claims_of, decoded, look_of, seen_in
from unif2ace_model.image_tokenizer import load_image_tokenizer
from unif2ace_model.trained import load_trained

GLASSES, MOUTH, BEARD = ("glasses", "eyeglasses", False), ("mouth", "closed", False), ("facial_hair", "none", False)
SEEN = [annotation("glasses", "eyeglasses"), annotation("mouth", "open")]


def test_a_claim_holds_does_not_or_is_not_settled() -> None:
    found = agreement([SEEN], [[GLASSES, MOUTH, BEARD]], Bootstrap([0]))
    assert found["claims"] == 3
    assert found["agreement"]["value"] == 0.5  # the beard is not seen either way
    assert found["shown"]["value"] == pytest.approx(1 / 3, abs=1e-5)
    assert found["by_attribute"]["glasses"]["agreement"]["value"] == 1
    assert found["by_attribute"]["facial_hair"]["agreement"]["value"] is None


def test_no_face_makes_every_claim_wrong() -> None:
    found = agreement([SEEN, None], [[GLASSES], [GLASSES, MOUTH, BEARD]], Bootstrap([0, 1]))
    assert found["faces_found"]["value"] == 0.5
    assert found["agreement"]["value"] == found["shown"]["value"] == 0.25


def test_a_denied_value_agrees_with_another() -> None:
    assert agreement([SEEN], [[("mouth", "closed", True)]], Bootstrap([0]))["agreement"]["value"] == 1
    assert claims_of("The mouth is closed. Her mouth is closed.").count(MOUTH) == 1


def test_the_control_sets_pictures_against_other_people_s_captions() -> None:
    captions = ["The person wears eyeglasses.", "The person wears no glasses."]
    seen = [[annotation("glasses", "eyeglasses")], [annotation("glasses", "none")]]
    found = agreements(seen, [None, None], captions, Bootstrap([0, 1]), [1, 0])
    assert found["generated"]["agreement"]["value"] == 1
    assert found["exchanged_prompts"]["agreement"]["value"] == 0
    assert found["caption_tells"]["value"] == 1
    assert found["reconstructed"]["faces_found"]["value"] == 0


def test_real_photographs_agree_with_the_captions_that_were_made_of_them(people: Path, trained_run: Path) -> None:
    model = load_trained(trained_run)
    records = opened(model, people, quiet=True).of("train")[:4]
    landmarks = mean_landmarks(people, records)
    assert landmarks.shape == (5, 2) and 0 < landmarks.min() < landmarks.max() < 1
    crops, look = crops_of(people, records, 256), look_of(people, None)
    found = agreement(seen_in(crops, look), [claims_of(r.caption) for r in records], Bootstrap(list(range(4))))
    assert found["faces_found"]["value"] == 1
    assert found["agreement"]["value"] > 0.9
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    assert seen_in(grey, look) == [None]


def test_the_dataset_s_attribute_model_judges_too_and_no_other(examples: Path, built: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "attributes.onnx")  # it sees earrings on everybody
    recipe = load_recipe("embedded", ["subjects=adults", f"attributes={model}"])
    out = tmp_path / "shards"
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(examples / "astronaut.png"))]}), out, quiet=True)
    ((_, jpeg),) = [(key, parts["jpg"]) for shard in dataset_shards(out) for key, parts in read_samples(shard)]
    crop = decode(jpeg).rgb[None]
    (alone,), (both,) = seen_in(crop, look_of(out, None)), seen_in(crop, look_of(out, model))
    assert alone is not None and both is not None
    assert {a.name for a in both} - {a.name for a in alone} >= {"wearing_earrings"}
    for shards, data in ((built, model), (out, write_model(tmp_path / "other.onnx", earrings=1.0))):
        with pytest.raises(UserError, match="the dataset was built with") as error:
            look_of(shards, data)
        assert error.value.exit_code == 2


def test_codes_come_back_as_the_pictures_that_the_tokenizer_keeps(people: Path, trained_run: Path) -> None:
    model = load_trained(trained_run)
    dataset = opened(model, people, quiet=True)
    tokenizer = load_image_tokenizer(model.preset.images.tokenizer)
    codes = np.stack([dataset.codes(record) for record in dataset.of("train")[:3]])
    assert decoded(tokenizer, codes, 32).shape == (3, 32, 32, 3)
