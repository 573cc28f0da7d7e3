"""The audit's page: pairs of pictures side by side, whole in itself, and private."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unif2ace_data.release.page import page_template
from unif2ace_data.release.report import data_uri
from unif2ace_data.shards import write_bytes

SHOWN = 48  # our choice: pairs a list on the page; `--json` lists more
SIDE = 128  # pixels of a thumbnail

Pictures = Mapping[str, tuple[str, bytes]]  # id -> (source, JPEG; empty: none)


def write_page(target: Path, name: str, audit: dict[str, Any], ours: Pictures, theirs: Pictures) -> None:
    """Write the page to `target`. audit: run/audit.py's Audit as a mapping; ours, theirs: what is known of the ids listed.

    Raises UserError where the disk does not take it.
    """
    template = page_template("audit")
    html = template.render(
        name=name,
        audit=audit,
        identities=[pairs_of(part, ours, ours) for part in audit["splits"]],
        copies=[pairs_of(part, ours, ours) for part in audit["copies"]],
        against=pairs_of(audit["against"], ours, theirs) if audit["against"] else None,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, html.encode("utf-8", "replace"))


def pairs_of(part: dict[str, Any], first: Pictures, second: Pictures) -> dict[str, Any]:
    """A list as the page shows it: title, how many, and the first pairs with their pictures."""
    return {
        "title": f"{part['a']} and {part['b']}",
        "over": part["over"],
        "pairs": [
            {**pair, "one": shown(first, pair["a"]), "two": shown(second, pair["b"])} for pair in part["pairs"][:SHOWN]
        ],
    }


def shown(pictures: Pictures, key: str) -> dict[str, str]:
    source, jpeg = pictures.get(key, ("", b""))
    return {"id": key, "source": source, "picture": data_uri(jpeg, SIDE) if jpeg else ""}
