"""The prompts: Jinja files in unif2ace_data/prompts/, with the taxonomy inserted, and the hash that goes into provenance."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from unif2ace_data.resources import PACKAGE
from unif2ace_data.schema import NOT_VISIBLE, UserError
from unif2ace_data.taxonomy import Entry, load_taxonomy

FOLDER = PACKAGE / "prompts"
SHARED = ("rules", "taxonomy")
CAPTION_PROMPTS = ("draft", "refine", "claims", "repair", "recheck")
QA_PROMPTS = ("qa", "qa_derive", "qa_blind")


@dataclass(frozen=True)
class Prompts:
    """The package's templates, each replaced by the file of the same name in `folder` where there is one."""

    environment: jinja2.Environment
    folder: Path | None

    def render(self, name: str, **facts: Any) -> tuple[str, str]:
        """(system, user) of the prompt `name`. Raises UserError where a template does not hold."""
        try:
            template = self.environment.get_template(f"{name}.jinja")
            context = template.new_context({"taxonomy": entries(), "not_visible": NOT_VISIBLE, **facts})
            system, user = ("".join(template.blocks[block](context)).strip() for block in ("system", "user"))
        except KeyError as error:
            raise UserError(f"prompt {name}.jinja has no block {error}: it needs `system` and `user`", 2) from None
        except jinja2.TemplateError as error:
            raise UserError(f"prompt {name}.jinja does not hold: {error}", 2) from None
        return system, user

    def sha256(self, names: Sequence[str]) -> str:
        """Hash of these prompts and of what they include: the templates' bytes, not what is filled in."""
        digest = hashlib.sha256()
        for name in sorted({*names, *SHARED}):
            digest.update(f"{name}\n".encode() + self.path(name).read_bytes())
        return digest.hexdigest()

    def path(self, name: str) -> Path:
        own = self.folder / f"{name}.jinja" if self.folder else None
        return own if own is not None and own.is_file() else FOLDER / f"{name}.jinja"


def load_prompts(folder: str | None) -> Prompts:
    """Raises UserError (exit code 2) where `folder` is no folder or holds a template that nothing uses."""
    own = Path(folder) if folder else None
    if own is not None:
        if not own.is_dir():
            raise UserError(f"prompts {folder}: there is no such folder", 2)
        known = {path.name for path in FOLDER.glob("*.jinja")}
        odd = sorted(path.name for path in own.glob("*.jinja") if path.name not in known)
        if odd:
            raise UserError(f"prompts {folder}: {odd[0]} replaces nothing; there are {', '.join(sorted(known))}", 2)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([p for p in (own, FOLDER) if p is not None]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        keep_trailing_newline=True,
    )
    return Prompts(environment, own)


@functools.cache
def entries() -> list[Entry]:
    """The taxonomy without what is stated on request only."""
    return [entry for entry in load_taxonomy().attributes.values() if not entry.on_request]


@functools.cache
def pairs() -> list[str]:
    """Every `attribute=value` that a model may name."""
    return [f"{entry.name}={value}" for entry in entries() for value in entry.values]
