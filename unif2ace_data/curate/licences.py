"""Licence algebra: the licences of sources times those of models -> what the result may be released under.

Our choice throughout: conservative. Every condition of every photograph, source and model holds for the whole; what is
not known is not releasable until somebody states it; nothing is granted in the user's name. None of it is legal advice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from unif2ace_data.curate.licence_names import Terms, terms_of, together
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Release as Stated
from unif2ace_data.release.read import read_mapping
from unif2ace_data.resources import PACKAGE
from unif2ace_data.sources.manifest import load_manifest

OTHER = "other"  # the Hub's id for a licence in one's own words, or for works that each have their own
# The Hub's ids for data that may be stated, from the freest on.
STATABLE = (
    "cc0-1.0", "pddl", "unlicense", "wtfpl", "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "zlib",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by", "etalab-2.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
    "cc-by-4.0", "odbl", "cdla-sharing-1.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", OTHER,
)  # fmt: skip
PLAIN = ("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odbl", "cdla-sharing-1.0", OTHER)
PHOTOGRAPHS, MODELS = "release.photographs", "release.models"


@dataclass(frozen=True, slots=True)
class Fact:
    """One licence that bears on the dataset: whose, its text, and what is known of it besides.

    `kind`: photographs (a sample's own licence), source (a manifest), model (whose output is in the dataset).
    """

    kind: Literal["photographs", "source", "model"]
    who: str
    text: str
    non_commercial: bool = False
    redistribution: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """What may be done with the whole.

    strictest: the freest well-known licence that carries every condition (`other`: none does; `unknown`).
    allowed: the Hub's ids that may be stated; empty: it may not be released. redistribution: pictures may be passed on.
    reasons: what each licence brings, and what follows, a sentence each.
    """

    strictest: str
    allowed: list[str]
    non_commercial: bool
    share_alike: bool
    attribution: bool
    redistribution: bool
    reasons: list[str] = field(default_factory=list)


def release_of(facts: list[Fact], annotations_only: bool = False) -> Release:
    """What a dataset of these facts may be released under. `annotations_only`: no pictures, crops or otherwise."""
    each = {fact: fact_terms(fact) for fact in facts}
    whole = together(each.values())
    reasons = sorted(sentence(fact, terms) for fact, terms in each.items())
    blocked = []
    for fact in sorted(each, key=lambda f: (f.kind, f.who)):
        if not each[fact].known and not (annotations_only and fact.kind != "model"):
            key = MODELS if fact.kind == "model" else PHOTOGRAPHS
            blocked.append(f"the licence of {fact.who} is not known: if you know it, state it with --set {key}=LICENCE")
    if not annotations_only and not whole.redistribution:
        blocked.append("pictures may not be passed on: only the annotations can be released (--annotations-only)")
    if not annotations_only and whole.no_derivatives:
        blocked.append(
            "crops are works made from photographs, which NoDerivs forbids: only the annotations can be released"
        )
    families = {family for family, _ in whole.share_alike}
    if len(families) > 1:
        reasons.append(
            f"works shared alike under {' and '.join(sorted(families))} have no licence in common but their own"
        )
    # An unknown photograph stays at home in an annotations-only release, but lets nobody promise a licence for the whole.
    allowed = [] if blocked else [OTHER] if not whole.known else [i for i in STATABLE if may_state(i, whole)]
    if whole.non_commercial:
        reasons.append("together: not for commercial use, so no permissive licence can be stated")
    if blocked:
        strictest = OTHER if whole.known else "unknown"
    else:
        strictest = next(i for i in PLAIN if i in allowed)
    return Release(
        strictest=strictest,
        allowed=allowed,
        non_commercial=whole.non_commercial,
        share_alike=bool(whole.share_alike),
        attribution=whole.attribution,
        redistribution=whole.redistribution and not whole.no_derivatives and whole.known,
        reasons=reasons + blocked,
    )


def fact_terms(fact: Fact) -> Terms:
    """What a fact asks of the dataset.

    Our choice: of a model's licence only non-commercial reaches what it measured or wrote; credit and share-alike bind
    its weights. A manifest that states no licence leaves it to the photographs.
    """
    terms = terms_of(fact.text)
    non_commercial = terms.non_commercial or fact.non_commercial
    if fact.kind == "model":
        return Terms(known=terms.known or fact.non_commercial, non_commercial=non_commercial)
    if fact.kind == "source" and not fact.text.strip():
        terms = Terms()
    bare = Terms(non_commercial=non_commercial, redistribution=fact.redistribution)
    return together([terms, bare])


def may_state(licence: str, whole: Terms) -> bool:
    """Whether the Hub's id `licence` carries every condition of `whole`."""
    if licence == OTHER:
        return True
    stated = terms_of(licence)
    families = {family for family, _ in whole.share_alike}
    shared = all(
        any(family == f and version >= v for family, version in stated.share_alike) for f, v in whole.share_alike
    )
    return (
        not whole.own_words
        and len(families) < 2
        and shared
        and (stated.non_commercial or not whole.non_commercial)
        and (stated.attribution or not whole.attribution)
    )


def sentence(fact: Fact, terms: Terms) -> str:
    """What one licence brings: `source ffhq: CC-BY-NC-SA-4.0: credit, not commercial, share alike (cc-by-nc-sa 4.0)`."""
    alike = ", ".join(f"{f} {'.'.join(map(str, v)) if v != (0,) else ''}".strip() for f, v in sorted(terms.share_alike))
    asks = [
        name
        for holds, name in (
            (not terms.known, "not known"),
            (terms.attribution, "credit"),
            (terms.non_commercial, "not commercial"),
            (terms.no_derivatives, "no derivatives"),
            (not terms.redistribution, "not to be passed on"),
            (bool(alike), f"share alike ({alike})"),
            (terms.own_words, "conditions of its own"),
        )
        if holds
    ]
    return f"{fact.who}: {' '.join(fact.text.split()) or 'no licence stated'}: {', '.join(asks) or 'no conditions'}"


# ------------------------------------------------------------------ of a dataset


def facts_of(
    stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]] | None = None
) -> list[Fact]:
    """Every licence that bears on a dataset. recipe: the resolved one; manifests: those of its sources (None: in it)."""
    stated = Stated.model_validate(recipe.get("release") or {})
    resolved = recipe.get("resolved") or {}
    facts = []
    for text, count in (stats.get("licences") or {}).items():
        known = terms_of(text).known
        who = f"{count:,} photograph{'s' * (count != 1)}" + (
            "" if known or not stated.photographs else f" ({text or 'no licence stated'})"
        )
        facts.append(Fact("photographs", who, text if known else stated.photographs or text))
    for manifest in manifests if manifests is not None else manifests_in(recipe):
        name = str(manifest.get("name", ""))
        if (stats.get("datasets") or {}).get(name, {}).get("kept", 1):
            text = str((manifest.get("licence") or {}).get("text", ""))
            if not manifest.get("found", True):
                text = "its manifest is not at hand"
            if text and not terms_of(text).known:
                text = stated.photographs or text
            closed = not manifest.get("redistribution", True)
            facts.append(Fact("source", f"source {name}", text, bool(manifest.get("non_commercial")), not closed))
    pack = resolved.get("face_pack") or face_pack(recipe)
    facts.append(Fact("model", f"face pack {pack['name']}", pack["licence"], pack["non_commercial"]))
    if encoder := (resolved.get("attribute_model") or {}).get("encoder"):
        text = encoder["licence"] if terms_of(encoder["licence"]).known else stated.models or encoder["licence"]
        facts.append(Fact("model", f"attribute model on {encoder['name']}", text, encoder["non_commercial"]))
    writers = {engine.partition(" ")[2] for engine in (stats.get("captions") or {}).get("engines", {})}
    writers.add((resolved.get("qa") or {}).get("model", ""))
    # Our choice: no table of models, whose licences change with size and version: who names a model states its licence.
    facts += [Fact("model", f"model {name}", stated.models) for name in sorted(writers) if name]
    return facts


def face_pack(recipe: dict[str, Any]) -> dict[str, Any]:
    """The face pack of a dataset whose recipe tells only its name (built by an earlier version): unknown, or embedded."""
    name = str((recipe.get("faces") or {}).get("engine", "embedded"))
    known = read_mapping(PACKAGE / "faces" / "packs" / "embedded" / "pack.yaml") if name == "embedded" else {}
    # As in faces/engine.py: a pack that does not say otherwise is taken to be for non-commercial research.
    return {"name": name, "licence": known.get("licence", ""), "non_commercial": known.get("non_commercial", True)}


def manifests_in(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifests of a resolved recipe's sources: as it holds them, or by name; `found: False` where neither."""
    held = (recipe.get("resolved") or {}).get("manifests")
    if held is not None:
        return list(held)
    found: list[dict[str, Any]] = []
    for source in recipe.get("sources") or []:
        try:
            found.append(load_manifest(source["manifest"]).model_dump())
        except UserError:
            found.append({"name": source["manifest"], "found": False})
    return found


def check_release(out: Path, annotations_only: bool = False) -> Release:
    """What the dataset at `out` may be released under.

    Raises UserError with the chain of reasons where it may not be released as it stands: a licence that is not known, a
    source whose pictures may not be passed on, or a licence stated (recipe.yaml, README.md) that is not allowed.
    """
    recipe = read_mapping(out / "recipe.yaml")
    stats = read_mapping(out / "stats.json")
    if not recipe or not stats:
        raise UserError(f"{out} lacks recipe.yaml or stats.json: run unif2ace-data verify, or build again")
    release = release_of(facts_of(stats, recipe), annotations_only)
    what = "the annotations of " if annotations_only else ""
    if not release.allowed:
        raise UserError(refusal(f"{what}{out} may not be released", release))
    for where, licence in stated_in(out, recipe):
        if licence.casefold() not in release.allowed:
            may = f"may be stated: {', '.join(release.allowed)}"
            raise UserError(
                refusal(f"{what}{out} may not be released under {licence!r}, as {where} states", release, may)
            )
    return release


def stated_in(out: Path, recipe: dict[str, Any]) -> list[tuple[str, str]]:
    """(where, licence) that a dataset states of itself."""
    card = front_matter(out / "README.md").get("license")
    licences = card if isinstance(card, list) else [card]
    found = [("recipe.yaml (release.licence)", str((recipe.get("release") or {}).get("licence", "")))]
    return [(w, text) for w, text in found + [("README.md", str(licence or "")) for licence in licences] if text]


def front_matter(path: Path) -> dict[str, Any]:
    """The YAML at the head of a Markdown file; empty where there is none. Raises UserError where it is broken."""
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    if not text.startswith("---\n"):
        return {}
    try:
        data = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError as error:
        raise UserError(f"{path}: the YAML at its head is broken: {error}") from None
    return data if isinstance(data, dict) else {}


def refusal(what: str, release: Release, may: str = "") -> str:
    return "\n".join([f"{what}:", *(f"  - {reason}" for reason in release.reasons), *([f"  {may}"] if may else [])])
