"""The recipe: one strict, typed model of everything that decides a dataset. An unknown key is an error.

Files in pipelines/ are recipes; `--set filters.face_px.min=256` changes one number; the resolved recipe is written
beside the shards with the hashes of every model and prompt that was used.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from unif2ace_data.errors import UserError
from unif2ace_data.resources import resource


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceSpec(Section):
    """One source: a path, and the manifest (a name in manifests/, or a file) that describes it."""

    path: str = Field(description="empty in the recipe.yaml of a dataset, which does not tell where its sources lay")
    manifest: str = "folder"


class Detector(Section):
    score: float = Field(0.5, ge=0.05, le=1, description="detections under this are not faces")
    scale: float = Field(0.6, gt=0, le=1, description="detector pixels per image pixel: a face of 40 is seen at 24")
    max_side: int = Field(640, ge=64, le=4096, description="longest side of the detector's input")


class Align(Section):
    mode: Literal["ffhq", "box"] = "ffhq"
    size: int = Field(512, ge=64, description="side of the crop at most; smaller faces keep their native size")
    margin: float = Field(0.4, ge=0, le=2, description="box mode: added on every side, in face sizes")
    quality: int = Field(95, ge=50, le=100, description="JPEG quality of the crop")


class Faces(Section):
    engine: str = Field("embedded", description="embedded, the name of an InsightFace pack, or a folder")
    detector: Detector = Detector()
    max_faces: int = Field(
        16, ge=1, description="faces measured in one photo, largest first; the others are only counted"
    )
    per_photo: Literal["one", "each"] = Field("one", description="exactly one face, or each face its own sample")
    align: Align = Align()


class AtLeast(Section):
    min: float = Field(ge=0)


class AtMost(Section):
    max: float = Field(ge=0)


class Between(Section):
    min: float = Field(ge=0)
    max: float = Field(ge=0)

    @model_validator(mode="after")
    def in_order(self) -> Between:
        if self.min > self.max:
            raise ValueError("min must not be above max: nothing would pass")
        return self


class AdultGate(Section):
    """Fails closed. Thresholds and what they were measured on: docs/adult-gate.md."""

    min_age: float = Field(35.0, ge=0, description="the lower of the two expected ages (photo and its mirror image)")
    min_source_age: float = Field(
        25.0, ge=0, description="where the source states an age (FFHQ's features do), it must reach this"
    )
    max_p_minor: float = Field(0.05, ge=0, le=1, description="probability mass under 18, the larger of the two views")
    max_disagreement: float = Field(12.0, ge=0, description="years between the two views")
    max_child_proportion: float = Field(
        2.0, description="proportions of the mesh, standard scores from the average adult"
    )


class Filters(Section):
    """In this order; the first that fails gives the ledger its reason. `null` switches one off."""

    resolution: AtLeast | None = AtLeast(min=96)
    face_px: AtLeast | None = AtLeast(min=40)
    score: AtLeast | None = AtLeast(min=0.55)
    yaw: AtMost | None = AtMost(max=45)
    pitch: AtMost | None = AtMost(max=35)
    border: AtMost | None = AtMost(max=0.02)
    sharpness: AtLeast | None = AtLeast(min=8)
    exposure: Between | None = Between(min=35, max=225)
    nsfw: AtMost | None = None
    adult: AdultGate | None = AdultGate()

    @model_validator(mode="after")
    def can_be_passed(self) -> Filters:
        if self.score and self.score.min > 1:
            raise ValueError("score.min must not be above 1: no detection would pass")
        if self.exposure and self.exposure.min > 255:
            raise ValueError("exposure.min must not be above 255: no grey level would pass")
        return self


class Duplicates(Section):
    """Copies with the same bytes share their key and are always one sample."""

    perceptual: int | None = Field(
        4, ge=0, le=10, description="greatest Hamming distance of 64-bit hashes; the faces must agree too"
    )
    near_identical: bool = Field(True, description="faces that are nearly the same picture, by embedding")
    min_cosine: float | None = Field(
        None, gt=0, le=1, description="for near_identical; null: the face pack's own value"
    )


class Identities(Section):
    min_cosine: float | None = Field(None, gt=0, le=1, description="null: the face pack's own value")


class Splits(Section):
    train: float = Field(0.8, ge=0, le=1)
    validation: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.1, ge=0, le=1)
    salt: str = "unif2ace"

    @model_validator(mode="after")
    def sums_to_one(self) -> Splits:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("train + validation + test must be 1")
        return self


Engine = Literal["vllm", "openai"]


class Llm(Section):
    """The vision-language model and how it is asked. What decides an answer is part of the journal's key."""

    model: str = Field("", description="a name that the server knows, a Hub id, or a folder")
    revision: str = Field("", description="the model's revision; a local folder's is read off its files")
    base_url: str | list[str] = Field(
        "http://127.0.0.1:8000/v1", description="openai: where the server listens, or several of the same model"
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="openai: the environment variable that holds the key")
    image_side: int = Field(512, ge=32, le=4096, description="longest side of the image that the model gets")
    temperature: float = Field(0.2, ge=0, le=2)
    seed: int = Field(0, ge=0)
    attempts: int = Field(3, ge=1, le=10, description="seeds tried for an answer that is cut off or does not parse")
    in_flight: int = Field(
        64, ge=1, le=4096, description="requests in flight at a server at most; the engine room finds how many help"
    )
    timeout_s: float = Field(120, gt=0, description="seconds that one request may take")
    wait_s: float = Field(600, ge=0, description="seconds that a server which does not answer is waited for")
    engine_args: dict[str, Any] = Field({}, description="vllm: further arguments of vllm.LLM")

    @field_validator("base_url", mode="before")
    @classmethod
    def _urls(cls, value: Any) -> Any:
        listed = value if isinstance(value, list) else [value]
        if not listed or not all(isinstance(url, str) and url.startswith(("http://", "https://")) for url in listed):
            raise ValueError("a URL that begins with http:// or https://, or a list of such")
        return value

    @property
    def base_urls(self) -> list[str]:
        """Each server once, in the order given."""
        urls = [self.base_url] if isinstance(self.base_url, str) else self.base_url
        return list(dict.fromkeys(url.rstrip("/") for url in urls))


class Captions(Section):
    engine: Literal["grounded", "vllm", "openai"] = "grounded"
    complexion: bool = Field(False, description="let captions name the complexion")
    recheck: bool = Field(False, description="ask the model about unverified claims again, as yes/no questions")
    max_chars: int = Field(720, ge=80, le=4000, description="longest caption that a model may write")
    prompts: str | None = Field(None, description="a folder whose .jinja files replace those of the package")


class QaGroups(Section):
    """Shares of the questions by group of attributes (paper: appearance, action, emotion; drawn there as 50 : 24 : 26)."""

    appearance: float = Field(0.5, ge=0)
    action: float = Field(0.3, ge=0)
    emotion: float = Field(0.2, ge=0)


class QaKinds(Section):
    """Shares of the questions by kind."""

    true_false: float = Field(0.25, ge=0)
    choice_2_3: float = Field(0.25, ge=0)
    choice_4: float = Field(0.25, ge=0)
    open: float = Field(0.25, ge=0)


class Qa(Section):
    engine: Literal["templates", "vllm", "openai"] = "templates"
    per_sample: int = Field(8, ge=1, le=64, description="questions a sample (paper: about 7.7)")
    groups: QaGroups = QaGroups()
    kinds: QaKinds = QaKinds()
    prompts: str | None = Field(None, description="a folder whose .jinja files replace those of the package")


class Shards(Section):
    prefix_digits: int | Literal["auto"] = Field(
        "auto", description="hex digits of the key that name a shard; auto: the fewest that keep shards under max_bytes"
    )
    max_bytes: int = Field(1_000_000_000, ge=1_000_000)


class Alarm(Section):
    max_failed: float = Field(
        0.2, ge=0, le=1, description="share of inputs that may fail technically before the run is stopped"
    )


class Release(Section):
    """What somebody who knows states about licences (docs/licences.md). Nothing here decides a byte of the shards."""

    licence: str = Field("", description="what the dataset is released under: the Hub's id, such as cc-by-4.0")
    licence_name: str = Field("", description="its name, where `licence` is `other`")
    licence_link: str = Field("", description="where it stands in full, where `licence` is `other`")
    photographs: str = Field("", description="the licence of photographs whose own is not stated or not understood")
    models: str = Field("", description="the licence of the models that wrote captions or questions")


class Recipe(Section):
    name: str = "embedded"
    sources: list[SourceSpec] = []
    subjects: Literal["unknown", "adults"] = Field(
        "unknown", description="adults: somebody vouches that the sources hold adults only"
    )
    faces: Faces = Faces()
    filters: Filters = Filters()
    duplicates: Duplicates = Duplicates()
    identities: Identities = Identities()
    splits: Splits = Splits()
    attributes: str | None = Field(
        None,
        description="an attribute model (`unif2ace-model attributes`): an .onnx file whose predictions are evidence",
    )
    llm: Llm = Llm()
    captions: Captions = Captions()
    qa: Qa = Qa()
    shards: Shards = Shards()
    alarm: Alarm = Alarm()
    release: Release = Release()


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by name (pipelines/NAME.yaml) or path, with `KEY.SUBKEY=VALUE` overrides (values are YAML).

    Raises UserError (exit code 2) with every offending key and what is allowed there.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = resource("pipelines", f"{name_or_path}.yaml")
    if not path.is_file():
        known = ", ".join(
            sorted(p.stem for p in resource("pipelines").glob("*.yaml") if not p.stem.startswith("train-"))
        )
        raise UserError(f"no recipe {name_or_path!r}: give a file, or one of {known}", 2)
    try:
        data = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}", 2) from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe is a mapping, this is a {type(data).__name__}", 2)
    recipe = validated(data, path.name)
    if overrides:
        whole = recipe.model_dump()
        for override in overrides:
            set_key(whole, override)
        recipe = validated(whole, f"{path.name} with --set")
    return recipe


def validated(data: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(p) for p in e['loc'])}: "
            + (unknown_key(e["loc"]) if e["type"] == "extra_forbidden" else e["msg"].removeprefix("Value error, "))
            + ("" if isinstance(e["input"], dict) else f" (got {e['input']!r})")
            for e in error.errors()
        ]
        raise UserError(f"recipe {where} does not hold:\n" + "\n".join(lines), 2) from None


def unknown_key(loc: tuple[int | str, ...]) -> str:
    """What to say of a key that no section has: the nearest of its section, the same name elsewhere, or what there is."""
    *parents, last = map(str, loc)
    section: type[BaseModel] = Recipe
    for part in parents:
        section = section_of(section, part) or section  # a number in a list of sections stays in the section
    near = get_close_matches(last, section.model_fields, 1)
    if near:
        return f"there is no such key; did you mean {'.'.join([*parents, *near])}?"
    elsewhere = [path for path in key_paths(Recipe) if path.rpartition(".")[2] == last]
    if len(elsewhere) == 1:
        return f"there is no such key; did you mean {elsewhere[0]}?"
    return f"there is no such key; here may stand {', '.join(section.model_fields)}"


def section_of(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section that stands under `key`, also where it may be null or is one of a list."""
    if key not in section.model_fields:
        return None
    kind = section.model_fields[key].annotation
    return next((k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)), None)


def key_paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a recipe, with dots."""
    for key in section.model_fields:
        yield prefix + key
        below = section_of(section, key)
        if below:
            yield from key_paths(below, f"{prefix}{key}.")


def check_settings(changes: list[str], command: str, sections: tuple[str, ...], built: tuple[str, ...] = ()) -> None:
    """Refuse settings that `command` would not act upon, though it would write them into the dataset's recipe.

    sections: those that it reads; built: keys within them that decide what `build` measures.
    """
    for change in changes:
        key = change.partition("=")[0].strip()
        if key.partition(".")[0] not in sections or key in built:
            raise UserError(
                f"--set {change}: `{command}` acts upon {', '.join(f'{s}.*' for s in sections)}"
                f"{' (without ' + ', '.join(built) + ')' if built else ''}; "
                "others go to `unif2ace-data build` (qa.* to `qa-gen`, captions.* to `caption`)",
                2,
            )


def set_key(data: dict[str, Any], override: str) -> None:
    """Apply one `a.b.c=value` to a nested mapping, in place."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override!r}: write KEY=VALUE, for example filters.face_px.min=256", 2)
    *parents, last = key.split(".")
    node = data
    for part in parents:
        child = node.get(part)
        if not isinstance(child, dict):
            child = {}
            node[part] = child
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override!r}: the value is not YAML: {error}", 2) from None
