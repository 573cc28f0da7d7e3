"""What stands beside a picture: `x.txt` (a caption a line) and `x.json` (author, licence, url, caption) of `x.jpg`."""

from __future__ import annotations

from typing import Any

import orjson

from unif2ace_data.schema import Annotations

AUTHOR = ("author", "photographer", "artist", "credit")
LICENCE = ("licence", "license")
URL = ("url", "source_url", "photo_url", "image_url")
CAPTION = ("caption", "captions", "text")
MOST = 1 << 20  # bytes of a sidecar that are read


def from_files(text: bytes | None, record: bytes | None) -> Annotations:
    """Annotations from the bytes of the two sidecars; what is not UTF-8 text or a JSON mapping says nothing."""
    notes = from_mapping(mapping(record)) if record else Annotations()
    if text:
        lines = text[:MOST].decode("utf-8", "replace").splitlines()
        notes.captions += [line.strip() for line in lines if line.strip()]
    return notes


def mapping(record: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(record)
    except orjson.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def from_mapping(data: dict[str, Any]) -> Annotations:
    """Annotations from a JSON mapping or a table row; names are tried in any case."""
    found = {str(name).lower(): value for name, value in data.items()}

    def first(names: tuple[str, ...]) -> Any:
        return next((found[n] for n in names if found.get(n) not in (None, "")), "")

    captions = first(CAPTION)
    captions = captions if isinstance(captions, list) else [captions]
    return Annotations(
        author=str(first(AUTHOR)),
        licence=str(first(LICENCE)),
        url=str(first(URL)),
        captions=[str(c) for c in captions if isinstance(c, str) and c.strip()],
    )
