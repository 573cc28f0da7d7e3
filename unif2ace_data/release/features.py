"""The columns of a sample, read off the schema: as the Hub's card states them, and as flat fields with their JSON paths."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel

from unif2ace_data.schema import Sample

DTYPES = {str: "string", int: "int64", float: "float64", bool: "bool"}


def hub_features() -> list[dict[str, Any]]:
    """`dataset_info.features` of the shards, as `datasets` writes and reads them: picture, caption, record, key, shard."""
    return [
        {"name": "jpg", "dtype": "image"},
        {"name": "json", **feature(Sample)},
        {"name": "txt", "dtype": "string"},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def feature(kind: Any) -> dict[str, Any]:
    """One column of the type `kind`: a model, a list, a Literal of texts, or a plain type."""
    if get_origin(kind) is list:
        inner = feature(get_args(kind)[0])
        return {"list": inner.get("dtype") or inner.get("struct") or inner}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return {"struct": [{"name": name, **feature(field.annotation)} for name, field in fields]}
    return {"dtype": DTYPES.get(kind, "string")}


def flat_fields() -> list[tuple[str, str, str, bool]]:
    """(name, dtype, JSON path, whether a sample has several) of the record's plain fields, in the schema's order."""
    return list(flat("", "$", feature(Sample)["struct"], False))


def flat(above: str, path: str, columns: list[dict[str, Any]], several: bool) -> list[tuple[str, str, str, bool]]:
    found: list[tuple[str, str, str, bool]] = []
    for column in columns:
        name, here, many, inner = f"{above}{column['name']}", f"{path}.{column['name']}", several, column
        while "list" in inner:
            here, many, inner = f"{here}[*]", True, inner["list"]
            if not isinstance(inner, dict):
                inner = {"dtype" if isinstance(inner, str) else "struct": inner}
        if "dtype" in inner:
            found.append((name, inner["dtype"], here, many))
        else:
            found += flat(f"{name}.", here, inner["struct"], many)
    return found
