"""What stands beside a picture: `x.txt` (a caption a line) and `x.json` (author, licence, url, captions) of `x.jpg`."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import orjson

from unif2ace_data.schema import Annotations, InputError
from unif2ace_data.sources.kinds import SIDECARS, stems_of

AUTHOR = ("author", "photographer", "artist")
LICENCE = ("licence", "license")
URL = ("url", "source_url", "photo_url")
CAPTION = ("caption", "captions", "text")
NAMES = frozenset((*AUTHOR, *LICENCE, *URL, *CAPTION))
MAX_BYTES = 1 << 20  # our choice: a longer sidecar is no caption, and listing must stay flat


def sidecars_of(name: str, available: Container[str]) -> list[str]:
    """The sidecars of the picture `name`, among the names at hand: at most one of each kind."""
    found = (next((s + suffix for s in stems_of(name) if s + suffix in available), "") for suffix in SIDECARS)
    return [sidecar for sidecar in found if sidecar]


def beside(
    name: str, available: Container[str], read: Callable[[str], bytes]
) -> tuple[Annotations, list[tuple[str, str]]]:
    """What the sidecars of the picture `name` say, and the (sidecar, message) of those that cannot be used.

    `read` gives the first MAX_BYTES + 1 bytes of a sidecar (it may raise OSError).
    """
    notes = Annotations()
    broken: list[tuple[str, str]] = []
    for sidecar in sidecars_of(name, available):
        try:
            data = read(sidecar)
            if len(data) > MAX_BYTES:
                raise InputError("broken_sidecar", f"more than {MAX_BYTES} bytes")
            add(notes, caption_file(data) if sidecar.endswith(".txt") else json_file(data))
        except (InputError, OSError) as error:
            broken.append((sidecar, f"not used: {error}"))
    return notes, broken


def caption_file(data: bytes) -> Annotations:
    """A caption a line. Raises InputError where it is not UTF-8."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError("broken_sidecar", f"not UTF-8 text ({error.reason} at byte {error.start})") from None
    return Annotations(captions=[line.strip() for line in lines if line.strip()])


def json_file(data: bytes) -> Annotations:
    """Raises InputError where it is not a JSON object."""
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError("broken_sidecar", f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError("broken_sidecar", f"a JSON object is expected, this is a {type(record).__name__}")
    return from_record(record)


def from_record(record: dict[str, Any]) -> Annotations:
    """Author, licence, url and captions from a JSON object or a table row; names in any case, other fields ignored."""
    found = {str(name).lower(): value for name, value in record.items()}

    def text(names: tuple[str, ...]) -> str:
        return next((v.strip() for n in names if isinstance(v := found.get(n), str) and v.strip()), "")

    captions: list[str] = []
    for name in CAPTION:
        value = found.get(name)
        for caption in value if isinstance(value, list) else [value]:
            if isinstance(caption, str) and caption.strip() and caption.strip() not in captions:
                captions.append(caption.strip())
    return Annotations(author=text(AUTHOR), licence=text(LICENCE), url=text(URL), captions=captions)


def add(notes: Annotations, more: Annotations) -> None:
    """Add what `more` says and `notes` does not, in place."""
    notes.author, notes.licence, notes.url = (
        notes.author or more.author,
        notes.licence or more.licence,
        notes.url or more.url,
    )
    notes.captions += [caption for caption in more.captions if caption not in notes.captions]
    notes.attributes += more.attributes
