"""What is said of one face: its attributes, its caption and the caption's claims, as one record that can be stored.

Made by the worker that has just measured the face, or later from the stored measurements: the same bytes either way.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import orjson

from unif2ace_data import __version__
from unif2ace_data.attributes.measure import attributes_of
from unif2ace_data.captions.grounded import caption_of, captioner
from unif2ace_data.recipe import Recipe
from unif2ace_data.resources import resource
from unif2ace_data.schema import Annotations, FaceRecord


def text_of(key: str, face: FaceRecord, notes: Annotations, recipe: Recipe) -> bytes:
    """JSON: attributes, caption, captioner, claims (the fields of these names of schema.Sample)."""
    complexion = recipe.captions.complexion
    attributes = attributes_of(face, notes, complexion=complexion, engine=recipe.faces.engine)
    caption, claims = caption_of(key, attributes, complexion=complexion)
    return orjson.dumps(
        {
            "attributes": [a.model_dump() for a in attributes],
            "caption": caption,
            "captioner": captioner().model_dump(),
            "claims": [c.model_dump() for c in claims],
        }
    )


def text_config(recipe: Recipe, analysis: str) -> str:
    """What decides a text besides the face and its annotations; its hash is the key under which texts are kept."""
    decided = {
        "unif2ace": __version__,
        "analysis": analysis,
        "captions": recipe.captions.model_dump(),
        "engine": recipe.faces.engine,
        "taxonomy": hashlib.sha256(resource("manifests", "attributes.yaml").read_bytes()).hexdigest(),
        "captioner": captioner().model_dump(),
    }
    return hashlib.sha256(orjson.dumps(decided, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def notes_hash(notes: Annotations) -> str:
    return hashlib.sha256(orjson.dumps(asdict(notes), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
