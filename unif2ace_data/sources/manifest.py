"""Manifests: what is known of a source dataset, as data (manifests/*.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unif2ace_data.resources import resource
from unif2ace_data.schema import UserError

Layout = Literal["folder", "ffhq", "mm-celeba-hq", "celebv-hq"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Licence(Part):
    """`text`: an SPDX expression, or the licence in a few words; `link`: where it stands in full."""

    text: str = ""
    link: str = ""


class Manifest(Part):
    """One source dataset. `non_commercial`, `redistribution`: what its terms say of photographs and works made from them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    homepage: str = ""
    layout: Layout = "folder"
    licence: Licence = Licence()
    non_commercial: bool = False
    redistribution: bool = True
    attribution: str = ""
    subjects: Literal["unknown", "adults"] = "unknown"
    expected: dict[str, int] = Field(default={}, description="photos, clips, captions …: what a complete copy holds")
    removal: str = Field("", description="how a person in a photograph gets it removed at the source")
    notes: list[str] = []


def load_manifest(name_or_path: str) -> Manifest:
    """A manifest by name (manifests/NAME.yaml) or path. Raises UserError (exit code 2) that names the offending keys."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resource("manifests", f"{name_or_path}.yaml")
    known = sorted(p.stem for p in resource("manifests").glob("*.yaml") if p.stem != "attributes")
    if not path.is_file() or path.stem == "attributes":
        raise UserError(f"no manifest {name_or_path!r}: give a YAML file, or one of {', '.join(known)}", 2)
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}", 2) from None
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or '(all of it)'}: {e['msg']}" for e in error.errors()]
        raise UserError(f"manifest {path} does not hold:\n" + "\n".join(lines), 2) from None
