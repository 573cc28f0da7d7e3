"""Captions by a vision-language model: draft, refinement, claims, verdicts, one repair, then the scissors.

The model writes; what it wrote is read twice (by itself in the taxonomy's words, and by our own reader, which it cannot
influence) and judged against evidence that it did not make. What the evidence contradicts does not stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from unif2ace_data.captions.check import (
    LEAST_CHARS,
    facts_of,
    judged,
    mistakes_of,
    names_of,
    without_contradicted,
    without_forbidden,
)
from unif2ace_data.llm.engine import Request, told_model
from unif2ace_data.llm.prompts import CAPTION_PROMPTS, Prompts, entries, pairs
from unif2ace_data.llm.room import AnswerFailed, EngineRoom, Unusable
from unif2ace_data.llm.structured import fields_of, line, list_of, object_of, one_of, prose, strings_in
from unif2ace_data.recipe import Captions
from unif2ace_data.schema import Attribute, Captioner, Claim
from unif2ace_data.taxonomy import load_taxonomy

MOST_CLAIMS = 24  # our choice: with the paper's 17.7 attributes a caption, few captions state more
QUOTE = 80  # characters of the words that a claim may quote
CLAIM_TOKENS = 100  # upper bound of what one claim costs as JSON


@dataclass(frozen=True, slots=True)
class Subject:
    """What a caption is about: the crop as the model gets it (JPEG), the evidence, and the source's own captions."""

    key: str
    image: bytes = field(repr=False)
    attributes: list[Attribute]
    source_captions: list[str]


@dataclass(frozen=True, slots=True)
class Written:
    caption: str
    claims: list[Claim]
    captioner: Captioner


@dataclass(frozen=True, slots=True)
class Stage:
    """What all requests of a run share."""

    engine: str  # vllm or openai
    prompts: Prompts
    settings: Captions
    temperature: float
    seed: int


async def write_caption(room: EngineRoom, subject: Subject, stage: Stage) -> Written:
    """The caption of one face. Raises AnswerFailed where the model gave nothing usable, or nothing is left of it.

    A request that fails for a technical reason (time-out, server error) fails the row, at whatever step: it is asked again
    by the next run, instead of being published without that step.
    """
    limit = stage.settings.max_chars
    draft = await ask_caption(
        room, stage, "draft", subject.image, subject.key,
        topics=[entry.name.replace("_", " ") for entry in entries()],
        source_captions=subject.source_captions, max_chars=limit,
    )  # fmt: skip
    facts = facts_of(subject.attributes)
    refined = await ask_caption(room, stage, "refine", None, subject.key, draft=draft, facts=facts, max_chars=limit)
    caption, banned = without_forbidden(refined)
    claims = await claims_of(room, stage, caption, subject)
    removed = names_of(claims, "contradicted")
    if removed:
        try:
            repaired = await ask_caption(
                room, stage, "repair", None, subject.key,
                caption=caption, mistakes=mistakes_of(caption, claims, subject.attributes), max_chars=limit,
            )  # fmt: skip
            caption, more = without_forbidden(repaired)
            banned += more
            claims = await claims_of(room, stage, caption, subject)
            removed += [name for name in names_of(claims, "contradicted") if name not in removed]
        except Unusable:
            pass  # what could not be repaired is cut
        caption, claims, cut = without_contradicted(caption, claims, subject.attributes)
        removed += [name for name in cut if name not in removed]
    if len(caption) < LEAST_CHARS:
        raise AnswerFailed("caption", "nothing is left of it when what is contradicted or forbidden is cut")
    written_by = Captioner(
        engine=stage.engine,
        model=told_model(room.engine.model),
        revision=room.engine.revision,
        prompt_sha256=stage.prompts.sha256(CAPTION_PROMPTS),
        removed=" ".join([*removed, *(f"forbidden:{kind}" for kind in sorted(set(banned)))]),
    )
    return Written(caption, claims, written_by)


# ------------------------------------------------------------------ asking


def request_of(
    stage: Stage, name: str, image: bytes | None, about: str, schema: dict[str, Any], max_tokens: int, **facts: Any
) -> Request:
    system, user = stage.prompts.render(name, **facts)
    return Request(
        stage=name, system=system, user=user, image=image, schema=schema, max_tokens=max_tokens,
        temperature=stage.temperature, seed=stage.seed, about=about,
    )  # fmt: skip


async def ask_caption(room: EngineRoom, stage: Stage, name: str, image: bytes | None, about: str, **facts: Any) -> str:
    limit = stage.settings.max_chars
    # Two tokens a character: more than any text of this length needs, also in words that no tokenizer knows.
    request = request_of(stage, name, image, about, object_of(caption=prose(limit)), 2 * limit + 64, **facts)
    return await room.ask(request, lambda text: within(prose_of(text), limit))


async def claims_of(room: EngineRoom, stage: Stage, caption: str, subject: Subject) -> list[Claim]:
    """The claims of `caption` with their verdicts, in its order. A model that cannot list them leaves our own reading."""
    claim = object_of(states=one_of(pairs()), negated={"type": "boolean"}, quote=line(QUOTE, least=2))
    schema = object_of(claims=list_of(claim, MOST_CLAIMS))
    request = request_of(stage, "claims", None, subject.key, schema, MOST_CLAIMS * CLAIM_TOKENS, caption=caption)
    try:
        listed = await room.ask(request, parse_claims)
    except Unusable:
        listed = []
    claims = judged(caption, listed, subject.attributes)
    if stage.settings.recheck:
        claims = await rechecked(room, stage, claims, subject)
    return claims


async def rechecked(room: EngineRoom, stage: Stage, claims: list[Claim], subject: Subject) -> list[Claim]:
    """Unverified claims asked again about the photograph, in one request: "no" contradicts; "yes" is no independent proof."""
    doubtful = [i for i, claim in enumerate(claims) if claim.verdict == "unverified"]
    if not doubtful:
        return claims
    taxonomy = load_taxonomy()
    questions = [taxonomy[claims[i].attribute].asks(claims[i].value) for i in doubtful]
    schema = object_of(answers=list_of(one_of(["yes", "no", "cannot_tell"]), len(doubtful), len(doubtful)))
    request = request_of(
        stage, "recheck", subject.image, subject.key, schema, 16 * len(doubtful) + 32, questions=questions
    )
    try:
        said = await room.ask(request, lambda text: strings_in(text, "answers", len(doubtful)))
    except Unusable:
        return claims
    by = f"{told_model(room.engine.model)} asked again"
    for i, answer in zip(doubtful, said, strict=True):
        denied = answer == ("yes" if claims[i].negated else "no")
        if denied:
            claims[i] = claims[i].model_copy(update={"verdict": "contradicted", "by": by})
        elif answer != "cannot_tell":
            claims[i] = claims[i].model_copy(update={"by": by})
    return claims


# ------------------------------------------------------------------ reading answers


def prose_of(text: str) -> str:
    """The caption in an answer: of the JSON that was asked for, or the prose that some engines write all the same."""
    stripped = text.strip()
    caption = fields_of(stripped).get("caption", "") if stripped.startswith(("{", "```")) else stripped
    if not isinstance(caption, str):
        raise ValueError("the caption is no text")
    caption = " ".join("".join(c if c.isprintable() else " " for c in caption).split())
    if len(caption) < LEAST_CHARS:
        raise ValueError(f"a caption of {len(caption)} characters")
    return caption


def within(caption: str, limit: int) -> str:
    """The sentences that fit into `limit` characters; of a longer first one its words that fit.

    Our choice: a model that overruns the limit is cut, not asked again.
    """
    if len(caption) <= limit:
        return caption
    ends = [match.start() + 1 for match in re.finditer(r"[.!?](?=\s)", caption[: limit + 1])]
    return caption[: ends[-1]] if ends else caption[:limit].rpartition(" ")[0].rstrip(",;:") + "."


def parse_claims(text: str) -> list[tuple[str, str, bool, str]]:
    """(attribute, value, negated, quote) of each claim that is listed in the taxonomy's words. Raises ValueError."""
    listed = fields_of(text).get("claims")
    if not isinstance(listed, list):
        raise ValueError("no list of claims")
    known = set(pairs())
    found = []
    for claim in listed:
        if isinstance(claim, dict) and claim.get("states") in known and isinstance(claim.get("quote"), str):
            attribute, _, value = claim["states"].partition("=")
            found.append((attribute, value, claim.get("negated") is True, claim["quote"].strip()))
    return found
