"""A sample's JSON held against the schema, for those who read every sample of a dataset.

One schema (schema.Sample), two readers: msgspec's structs, made from it, take a sixth of pydantic's time and are stricter.
What they refuse goes to pydantic, whose word counts and whose errors name the field.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, get_args, get_origin

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from unif2ace_data.schema import Sample


def read_record(data: bytes) -> Any:
    """A record with Sample's attributes, and theirs, by name (not a Sample). Raises pydantic.ValidationError."""
    try:
        return decoder().decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Sample.model_validate_json(data)


@functools.cache
def decoder() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(struct_of(Sample))


@functools.cache
def struct_of(model: type[BaseModel]) -> type[msgspec.Struct]:
    """The model's fields as a struct that takes no others."""
    fields = [field_of(name, info) for name, info in model.model_fields.items()]
    return msgspec.defstruct(model.__name__, fields, forbid_unknown_fields=True, kw_only=True, gc=False)


def field_of(name: str, info: FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    kind = kind_of(info.annotation)
    bounds = {bound: getattr(rule, bound) for rule in info.metadata for bound in ("ge", "le") if hasattr(rule, bound)}
    if len(bounds) != len(info.metadata):
        raise TypeError(f"{name}: {info.metadata} is a rule that msgspec does not know")
    if bounds:
        kind = Annotated[kind, msgspec.Meta(**bounds)]
    return (name, kind) if info.is_required() else (name, kind, info.default)


def kind_of(annotation: Any) -> Any:
    """An annotation of the schema with structs in the place of models."""
    if get_origin(annotation) is list:
        return list[kind_of(get_args(annotation)[0])]  # type: ignore[misc]  # made while it runs
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return struct_of(annotation)
    return annotation
