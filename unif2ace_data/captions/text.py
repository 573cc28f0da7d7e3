"""What is said of one face: its attributes, its caption and the caption's claims, as one record that can be stored.

Made by the worker that has just measured the face, or later from what was stored: the same bytes either way.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import orjson

from unif2ace_data import __version__
from unif2ace_data.attributes.measure import attributes_of
from unif2ace_data.captions.grounded import caption_of, captioner
from unif2ace_data.captions.people import said_of, with_people
from unif2ace_data.errors import UserError
from unif2ace_data.faces.align import into_crop
from unif2ace_data.faces.decode import decode
from unif2ace_data.recipe import Recipe
from unif2ace_data.resources import resource
from unif2ace_data.schema import Annotations, Attribute, FaceRecord

if TYPE_CHECKING:
    from unif2ace_data.attributes.predict import Metadata


def text_of(key: str, face: FaceRecord, notes: Annotations, recipe: Recipe, jpeg: bytes) -> bytes:
    """JSON: attributes, caption, captioner, claims (the fields of these names of schema.Sample).

    `jpeg`: the face's crop; only the recipe's attribute model looks at it.
    """
    complexion = recipe.captions.complexion
    predictions = predictions_of(face, jpeg, recipe.attributes) if recipe.attributes else []
    attributes = attributes_of(face, notes, predictions, complexion=complexion, engine=recipe.faces.engine)
    attributes = with_people(attributes, said_of(key, notes.people))
    caption, claims = caption_of(key, attributes, complexion=complexion)
    return orjson.dumps(
        {
            "attributes": attributes,
            "caption": caption,
            "captioner": captioner(),
            "claims": claims,
        },
        default=vars,  # a model's fields, in their order: as model_dump gives them, without the detour
    )


def predictions_of(face: FaceRecord, jpeg: bytes, path: str) -> list[Attribute]:
    """What the attribute model at `path` says of a crop: nothing where it has seen no face turned like this one."""
    from unif2ace_data.attributes.predict import load_model

    model = load_model(path)
    if not model.resembles(face.yaw, face.pitch):
        return []
    crop = decode(jpeg).rgb
    landmarks = into_crop(np.array(face.landmarks), np.array(face.quad), crop.shape[0])
    return model.predict(crop, landmarks.round(1))  # as the samples that it learnt from have them


def attribute_model(recipe: Recipe) -> tuple[str, Metadata] | None:
    """SHA-256 and metadata of the recipe's attribute model, if it names one.

    Raises UserError: no such file, not an attribute model, or one that has learnt from crops aligned in another way.
    """
    if recipe.attributes is None:
        return None
    from unif2ace_data.attributes.predict import describe_model

    sha256, metadata = describe_model(recipe.attributes)
    learnt, mode = metadata.preprocessing.align, recipe.faces.align.mode
    if learnt and learnt != mode:
        raise UserError(
            f"{recipe.attributes} has learnt from crops with faces.align.mode={learnt}, this recipe makes {mode} ones: "
            "train it on a dataset built like this one"
        )
    return sha256, metadata


def text_config(recipe: Recipe, analysis: str) -> str:
    """What decides a text besides the face and its annotations; its hash is the key under which texts are kept."""
    decided = {
        "unif2ace": __version__,
        "analysis": analysis,
        "attributes": model[0] if (model := attribute_model(recipe)) else "",
        "complexion": recipe.captions.complexion,
        "engine": recipe.faces.engine,
        "taxonomy": hashlib.sha256(resource("manifests", "attributes.yaml").read_bytes()).hexdigest(),
        "captioner": captioner().model_dump(),
    }
    return hashlib.sha256(orjson.dumps(decided, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def notes_hash(notes: Annotations) -> str:
    """The hash of all that the source and people say of a photo; people count only where they have said something."""
    record = {name: getattr(notes, name) for name in notes.__slots__ if name != "people" or notes.people}
    return hashlib.sha256(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
