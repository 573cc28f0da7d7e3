"""The templates of self-contained HTML pages: what is put in is escaped, and what is missing is an error."""

from __future__ import annotations

from pathlib import Path

import jinja2


def page_template(name: str, folder: Path = Path(__file__).parent) -> jinja2.Template:
    """`NAME.html.j2` of a folder (this one: the builder's pages)."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(f"{name}.html.j2")
