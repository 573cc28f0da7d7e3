"""The prompts: Jinja files in unif2ace_data/prompts/, with the taxonomy inserted, and the hash that goes into provenance."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta

from unif2ace_data.errors import UserError
from unif2ace_data.resources import PACKAGE
from unif2ace_data.schema import NOT_VISIBLE
from unif2ace_data.taxonomy import Entry, load_taxonomy

FOLDER = PACKAGE / "prompts"
CAPTION_PROMPTS = ("draft", "refine", "claims", "repair", "recheck")
QA_PROMPTS = ("qa", "qa_derive", "qa_blind")


@dataclass(frozen=True)
class Prompts:
    """The package's templates, each replaced by the file of the same name in `folder` where there is one."""

    environment: jinja2.Environment
    folder: Path | None

    def render(self, name: str, **facts: Any) -> tuple[str, str]:
        """(system, user) of the prompt `name`. Raises UserError (exit code 2) where a template does not hold."""
        try:
            template = self.environment.get_template(f"{name}.jinja")
            context = template.new_context({"taxonomy": entries(), "not_visible": NOT_VISIBLE, **facts})
            for _ in template.root_render_func(context):
                pass  # a template that extends another one fetches the other's blocks while it runs
            system, user = ("".join(context.blocks[block][0](context)).strip() for block in ("system", "user"))
        except KeyError as error:
            raise UserError(f"prompt {name}.jinja has no block {error}: it needs `system` and `user`", 2) from None
        except jinja2.TemplateSyntaxError as error:
            raise broken(error.name or f"{name}.jinja", f"line {error.lineno}: {error.message}") from None
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise broken(f"{name}.jinja", str(error)) from None
        return system, user

    def sha256(self, names: Sequence[str]) -> str:
        """Hash of these prompts and of all that they include, import or extend: the templates, not what is filled in."""
        digest = hashlib.sha256()
        for name, text in sorted(self.sources(names).items()):
            digest.update(f"{name}\n".encode() + text.encode())
        return digest.hexdigest()

    def sources(self, names: Sequence[str]) -> dict[str, str]:
        """Every template that these prompts are made of: its file name and its text. Raises UserError (exit code 2)."""
        found: dict[str, str] = {}
        waiting = [f"{name}.jinja" for name in names]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            try:
                found[name], _, _ = self.environment.loader.get_source(self.environment, name)  # type: ignore[union-attr]
                parsed = self.environment.parse(found[name], name)
            except jinja2.TemplateNotFound:
                raise broken(name, "it is included, and there is no such file") from None
            except UnicodeDecodeError as error:
                raise broken(name, f"it is no UTF-8 text ({error.reason} at byte {error.start})") from None
            except jinja2.TemplateSyntaxError as error:
                raise broken(name, f"line {error.lineno}: {error.message}") from None
            for other in jinja2.meta.find_referenced_templates(parsed):
                if other is None:
                    raise broken(
                        name, "the name of what it includes is computed: write it out, so that it can be hashed"
                    )
                waiting.append(other)
        return found


def broken(template: str, why: str) -> UserError:
    return UserError(f"prompt {template} does not hold: {why}", 2)


def load_prompts(folder: str | None) -> Prompts:
    """Raises UserError (exit code 2) where `folder` is no folder, replaces nothing, or holds a template that nothing uses."""
    own = Path(folder) if folder else None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([p for p in (own, FOLDER) if p is not None]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        keep_trailing_newline=True,
    )
    prompts = Prompts(environment, own)
    if own is not None:
        if not own.is_dir():
            raise UserError(f"prompts {folder}: there is no such folder", 2)
        known = sorted(path.name for path in FOLDER.glob("*.jinja"))
        files = {path.relative_to(own).as_posix() for path in own.rglob("*.jinja")}
        if not files & set(known):
            raise UserError(f"prompts {folder}: nothing in it replaces a prompt; there are {', '.join(known)}", 2)
        odd = sorted(files - set(prompts.sources([*CAPTION_PROMPTS, *QA_PROMPTS])))
        if odd:
            raise UserError(
                f"prompts {folder}: {odd[0]} replaces nothing and no prompt includes it; there are {', '.join(known)}",
                2,
            )
    return prompts


@functools.cache
def entries() -> list[Entry]:
    """The taxonomy without what is stated on request only."""
    return [entry for entry in load_taxonomy().attributes.values() if not entry.on_request]


@functools.cache
def pairs() -> list[str]:
    """Every `attribute=value` that a model may name."""
    return [f"{entry.name}={value}" for entry in entries() for value in entry.values]
