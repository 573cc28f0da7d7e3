"""What stands beside a picture `x.jpg`: `x.txt` (a caption a line), `x.json` (author, licence, url, captions, attributes).

`attributes` are labels that people gave, in the taxonomy's words: `{"hair_color": "gray", "eyeglasses": true}`.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import orjson

from unif2ace_data.errors import InputError
from unif2ace_data.schema import Annotations, Attribute, Evidence
from unif2ace_data.sources.kinds import SIDECARS, stems_of
from unif2ace_data.taxonomy import load_taxonomy

AUTHOR = ("author", "photographer", "artist")
LICENCE = ("licence", "license")
URL = ("url", "source_url", "photo_url")
CAPTION = ("caption", "captions", "text")
ATTRIBUTES = "attributes"
NAMES = frozenset((*AUTHOR, *LICENCE, *URL, *CAPTION, ATTRIBUTES))
BY = "source:annotation"  # Evidence.by of these labels
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
    """Author, licence, url, captions and attributes from a JSON object or a table row; other fields are ignored.

    Names in any case. Raises InputError where `attributes` has names or values that are not the taxonomy's.
    """
    found = {str(name).lower(): value for name, value in record.items()}

    def text(names: tuple[str, ...]) -> str:
        return next((v.strip() for n in names if isinstance(v := found.get(n), str) and v.strip()), "")

    captions: list[str] = []
    for name in CAPTION:
        value = found.get(name)
        for caption in value if isinstance(value, list) else [value]:
            if isinstance(caption, str) and caption.strip() and caption.strip() not in captions:
                captions.append(caption.strip())
    attributes = labelled(found.get(ATTRIBUTES))
    return Annotations(
        author=text(AUTHOR), licence=text(LICENCE), url=text(URL), captions=captions, attributes=attributes
    )


def labelled(given: Any) -> list[dict[str, Any]]:
    """Attribute records of `{name: value}`, or of (name, value) pairs as a table's map column gives them.

    Of yes/no attributes true and false may be written too; an empty value says nothing. The records that samples of
    this toolkit hold are measurements, made again where they are needed, and not labels: they are passed over.
    """
    if not given or (isinstance(given, list) and all(isinstance(one, dict) and "evidence" in one for one in given)):
        return []
    taxonomy = load_taxonomy()
    try:
        labels = {str(name).strip().lower(): value for name, value in dict(given).items()}
    except (TypeError, ValueError):
        raise InputError("broken_sidecar", f"attributes are a mapping {{name: value}}, not {given!r:.80}") from None
    if unknown := sorted(set(labels) - set(taxonomy.attributes)):
        raise InputError("broken_sidecar", f"attributes that the taxonomy does not have: {', '.join(unknown)}"[:500])
    said = {name: spelled(value) for name, value in labels.items() if value is not None and value != ""}
    if wrong := [name for name, value in said.items() if value not in taxonomy[name].values]:
        of = (f"{n}={said[n]} (it may be {', '.join(taxonomy[n].values)})" for n in wrong)
        raise InputError("broken_sidecar", f"values that the taxonomy does not have: {'; '.join(of)}"[:500])
    return [
        Attribute(
            name=name, group=taxonomy[name].group, value=said[name], confidence=1.0, validated=True,
            evidence=Evidence(by=BY),
        ).model_dump()
        for name in taxonomy.attributes if name in said
    ]  # fmt: skip


def spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip().lower()


def add(notes: Annotations, more: Annotations) -> None:
    """Add what `more` says and `notes` does not, in place."""
    notes.author, notes.licence, notes.url = (
        notes.author or more.author,
        notes.licence or more.licence,
        notes.url or more.url,
    )
    notes.captions += [caption for caption in more.captions if caption not in notes.captions]
    notes.attributes += more.attributes
