"""The grounded captioner: English composed from the evidence alone, the same for the same sample.

Several drafts are composed, each with choices drawn from a hash of the key; the plainest level of wordiness that gives
drafts of the right length wins, and among its drafts the one that repeats itself least.
"""

from __future__ import annotations

import re
from itertools import pairwise

from unif2ace_data.captions.draft import IMAGE, Draft, fill, sections_of, seed_of
from unif2ace_data.captions.facts import statable
from unif2ace_data.captions.phrases import Phrase, phrases, phrases_sha256
from unif2ace_data.captions.sentences import compose
from unif2ace_data.captions.wording import finished, plain, sentence, token_count, with_articles
from unif2ace_data.schema import Attribute, Captioner, Claim

REVISION = "1"  # raised when the composition changes in a way that changes captions
MIN_TOKENS, MAX_TOKENS = 60, 130
FULL = 12  # attributes from which on a caption reaches MIN_TOKENS; with fewer it is as short as its evidence
MOST = 24  # our choice: more attributes than this do not fit into MAX_TOKENS
MAX_SENTENCES = 7
DRAFTS = 8  # per level of wordiness; our choice: more cost time and repeat hardly less
TWICE = re.compile(r"\b(has|have|wears?) an? [^.,;]* and \1 a")
WORD = re.compile(r"[a-z]{4,}")
LEVELS = 3  # as composed; with two neutral lead-ins; with one for every sentence that has any


def caption_of(key: str, attributes: list[Attribute], *, complexion: bool = False) -> tuple[str, list[Claim]]:
    """A caption of one sample, and the claims it makes, each with the span of the words that state it.

    `key` decides the wording, `attributes` (in any order) what is said; facts.statable says which may be stated.
    With 12 or more of those the caption has 60 to 130 tokens, with fewer it may be shorter; spans never overlap.
    """
    may = statable(attributes, complexion=complexion)
    by_weight = sorted(may, key=lambda a: (-phrases().values[a.name, a.value].weight, a.name))
    kept = [a.name for a in by_weight[:MOST]]
    while True:
        facts = {a.name: phrases().values[a.name, a.value] for a in may if a.name in kept}
        text = best_draft(key, facts)
        if token_count(plain(text)) <= MAX_TOKENS or not kept:
            break
        kept = kept[:-1]
    caption, spans = finished(text)
    claims = [
        Claim(attribute=name, value=facts[name].value, span=[start, end], verdict="supported")
        for name, start, end in spans
    ]
    return caption, claims


def captioner() -> Captioner:
    """What `captioner` says in every sample that this captioner wrote."""
    return Captioner(engine="grounded", model="", revision=REVISION, prompt_sha256=phrases_sha256())


def best_draft(key: str, facts: dict[str, Phrase]) -> str:
    """The marked text of the best draft: right length first, then distinct openings, then least repetition."""
    gender = facts["apparent_gender"].value if "apparent_gender" in facts else "unknown"
    least = MIN_TOKENS if len(facts) >= FULL else 0
    sections = sections_of(facts)
    best: tuple[tuple[int, int, int], str] | None = None
    for level in range(LEVELS):
        for attempt in range(level * DRAFTS, (level + 1) * DRAFTS):
            draft = Draft(seed_of(key, attempt), facts, sections, phrases().pronouns[gender])
            text = write(draft, level)
            said = plain(text)
            length = token_count(said)
            miss = max(0, least - length, length - MAX_TOKENS)
            if best is not None and miss > best[0][0]:
                continue  # however well it reads
            awkward = clumsy(said)
            if best is not None and (miss, awkward) > best[0][:2]:
                continue
            rank = (miss, awkward, repeated(said))
            if best is None or rank < best[0]:
                best = (rank, text)
        if best and best[0][0] == 0:
            break
    assert best is not None
    return best[1]


def write(draft: Draft, level: int) -> str:
    """The draft's sentences as one marked text; `level` lets neutral lead-ins in."""
    texts = []
    led = 0
    for section, text in compose(draft):
        leads = phrases().leads.get(section)
        if leads and (level > 1 or (level == 1 and led < 2)):
            text = fill(draft, draft.pick(f"{section} lead", leads)) + text
            led += 1
        texts.append(text)
    names = phrases().image
    first = draft.pick("image", range(len(names)))
    pieces = " ".join(sentence(text) for text in texts).split(IMAGE)
    whole = pieces[0]
    for i, piece in enumerate(pieces[1:]):
        whole += names[(first + i) % len(names)] + piece
    return with_articles(whole)


def clumsy(text: str) -> int:
    """Openings that sentences share (first two words anywhere, first word in neighbours), "has … and has", length."""
    sentences = text.split(". ")
    words = [s.split(None, 2)[:2] for s in sentences]
    shared = len(words) - len({tuple(w) for w in words})
    neighbours = sum(a[0] == b[0] for a, b in pairwise(words))
    twice = len(TWICE.findall(text))
    return shared + neighbours + twice + max(0, len(sentences) - MAX_SENTENCES)


def repeated(text: str) -> int:
    """How often content words return; names of the photograph count as one word."""
    found, names = WORD.findall(text.lower()), set(phrases().image)
    words = ["image" if w in names else w for w in found if w not in ("with", "that", "this")]
    return len(words) - len(set(words))
