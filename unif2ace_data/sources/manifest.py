"""Manifests: what is known of a source dataset, as data (manifests/*.yaml). Strict: an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unif2ace_data.errors import UserError
from unif2ace_data.resources import resource


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Licence(Part):
    """`text` stands in the samples whose own licence is not known; empty: not stated. It defaults to `spdx`."""

    text: str
    spdx: str = Field("", description="SPDX expression, where there is one")
    link: str = Field("", description="where the licence stands in full")

    @model_validator(mode="before")
    @classmethod
    def text_or_spdx(cls, data: Any) -> Any:
        if isinstance(data, dict) and "text" not in data:
            if not data.get("spdx"):
                raise ValueError("give `spdx`, or `text` and `link` (an empty text: the licence is not known)")
            data = data | {"text": data["spdx"]}
        return data


class ExpectedFile(Part):
    bytes: int
    md5: str = ""


class Expected(Part):
    """A complete copy: null where nobody says. `files`: by name, the dataset's own annotation files."""

    photos: int | None = None
    clips: int | None = None
    captions: int | None = None
    files: dict[str, ExpectedFile] = {}


class Manifest(Part):
    """One source dataset. `redistribution`: whether its terms let photographs and works made from them be passed on."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="begins every source_id")
    title: str
    layout: Literal["folder", "ffhq", "mm-celeba-hq", "celebv-hq"] = "folder"
    licence: Licence
    non_commercial: bool
    redistribution: bool
    attribution: str = ""
    homepage: str = ""
    expected: Expected = Expected()
    removal: str = Field("", description="how somebody who is shown gets the photograph removed at the source")
    subjects: Literal["unknown", "adults"] = Field("unknown", description="adults: somebody vouches for all of it")
    notes: list[str] = []


def load_manifest(name_or_path: str) -> Manifest:
    """A manifest by name (manifests/NAME.yaml) or path. Raises UserError (exit code 2) with every offending key."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resource("manifests", f"{name_or_path}.yaml")
    known = [p.stem for p in sorted(resource("manifests").glob("*.yaml")) if p.stem != "attributes"]
    if name_or_path == "attributes" or not path.is_file():
        raise UserError(f"no manifest {name_or_path!r}: give a YAML file, or one of {', '.join(known)}", 2)
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"manifest {path} cannot be read as YAML: {error}", 2) from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a manifest is a mapping, this is a {type(data).__name__}", 2)
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        raise UserError(f"manifest {path.name} does not hold:\n" + "\n".join(lines), 2) from None
