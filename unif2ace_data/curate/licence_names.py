"""What a licence's name says: SPDX and Hub ids, Creative Commons texts and addresses, public domain, restrictive words.

A name is recognised whole or not at all: what stands between parentheses behind it is a remark, several names joined by
"and", "or" or commas all count, and a text that is not understood is an unknown licence, never a permissive one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """What one licence, or several together, ask for.

    `share_alike`: (family, version) pairs under which works made from it must stay. `own_words`: conditions that no
    well-known licence carries. `known`: somebody stated it, in words that this toolkit understands.
    """

    known: bool = True
    attribution: bool = False
    non_commercial: bool = False
    no_derivatives: bool = False
    redistribution: bool = True
    own_words: bool = False
    share_alike: frozenset[tuple[str, tuple[int, ...]]] = frozenset()


FREE, CREDIT, UNKNOWN = Terms(), Terms(attribution=True), Terms(known=False)

# Our choice: a work of the US government counts as public domain, which it is in the United States.
NAMED = {
    "0bsd|cc0(-1.0)?|cc-0(-1.0)?|cc-pddc|pddl(-1.0)?|odc-pddl(-1.0)?|unlicense|wtfpl": FREE,
    "public-domain(-mark|-dedication|-work)?s?(-1.0)?|pdm(-1.0)?|in-the-public-domain": FREE,
    "(public-domain-)?(us|u.s.|united-states)-(federal-)?government-works?|17-u.s.c.-105": FREE,
    "usa.gov/copyright|creativecommons.org/publicdomain/(0|mark)/1.0": FREE,
    "mit|apache(-2|-2.0)?|bsd(-[23]-clause)?(-clear)?|isc|zlib|bsl-1.0|postgresql|ncsa|afl-3.0|ecl-2.0|ms-pl": CREDIT,
    "odc-by(-1.0)?|cdla-permissive-[12].0|etalab-2.0|ogl-uk-[123].0|artistic-2.0": CREDIT,
}
# Our choice: only these share-alike licences are known by name, each its own family: works mixed from two have no licence.
SHARED = "(odbl|cdla-sharing|gpl|agpl|lgpl|mpl|gfdl|fal)(?:-v?([0-9.]+))?"
CC = re.compile(
    r"(?:(?:www\.)?creativecommons\.org/licenses/|cc-)?(by(?:-(?:nc|nd|sa))*)(?:[-/](\d)\.(\d)(?:[-/](?:[a-z]{2}|igo))?)?"
)
SPELT = (
    (r"https?://|\b(the|licen[cs]ed?|international|generic|unported|universal|under)\b", " "),
    (r"/(deed|legalcode)?(\.[a-z]{2})?$", ""),
    (r"creative commons", "cc"), (r"\battribution\b", "by"), (r"\bnon[- ]?commercial\b", "nc"),
    (r"\bno[- ]?deriv(?:ative)?s?(?: works)?\b", "nd"), (r"\bshare[- ]?alike\b", "sa"), (r"\bzero\b", "0"),
    (r"\bv(?=\d)|\bversion\b|,\s*$", " "), (r"-(only|or-later)\b|(?<=\d)\+", " "),
)  # fmt: skip
# What a text that is no known name forbids all the same.
NC = re.compile(
    r"non[- ]?commercial|\bnc\b|(not? (for )?|without )commercial"
    r"|\b(research|academic|educational|personal)\b.*\b(only|use|purposes?)\b"
)
ND = re.compile(r"\bno[- ]?deriv|\bnd\b")
CLOSED = re.compile(
    r"all rights reserved|©|\(c\)|(?<!no known )\bcopyright\b|proprietary|confidential"
    r"|\b(no|not|never)\b[^.;]{0,30}\b(redistribut|re-distribut|distribut|publish|shar(e|ing)|cop(y|ied)\b)"
)


def together(terms: Iterable[Terms]) -> Terms:
    """What holds for a work that all of them apply to: every condition of each."""
    all_terms = list(terms)
    return Terms(
        known=all(t.known for t in all_terms),
        attribution=any(t.attribution for t in all_terms),
        non_commercial=any(t.non_commercial for t in all_terms),
        no_derivatives=any(t.no_derivatives for t in all_terms),
        redistribution=all(t.redistribution for t in all_terms),
        own_words=any(t.own_words for t in all_terms),
        share_alike=frozenset[tuple[str, tuple[int, ...]]]().union(*(t.share_alike for t in all_terms)),
    )


@functools.lru_cache(4096)
def terms_of(text: str) -> Terms:
    """The terms of a licence by its name, text or address; `UNKNOWN` where it is empty or not understood.

    Our choice: several names count together, also where "or" lets the user choose.
    """
    said = re.sub(r"\s+", " ", re.sub("[\u2010-\u2015_]", "-", text.casefold()))
    said = said.strip(" .")
    remark = found[0] if (found := re.search(r"\([^()]*\)$", said)) else ""
    name = said.removesuffix(remark).strip()
    whole = one_name(name)
    if whole is None:
        parts = [one_name(part) for part in re.split(r"\s(?:and|or)\s|[;,|]|\s[&+]\s|\s/\s", name)]
        known = [part for part in parts if part is not None]
        whole = together(known) if known and len(known) == len(parts) else None
    hidden = forbidden(remark) if whole is not None else forbidden(said)
    if whole is None:
        return hidden or UNKNOWN
    return together([whole, hidden]) if hidden else whole


def one_name(text: str) -> Terms | None:
    """The terms of exactly one name, or None."""
    for pattern, short in SPELT:
        text = re.sub(pattern, short, text)
    name = re.sub(r"[\s-]+", "-", text).strip("-/ ")
    for pattern, terms in NAMED.items():
        if re.fullmatch(pattern, name):
            return terms
    if found := re.fullmatch(SHARED, name):
        return Terms(attribution=True, share_alike=frozenset({(found[1], version_of(found[2] or "0"))}))
    if not (cc := CC.fullmatch(name)):
        return None
    letters = cc[1].split("-")
    family = "cc-by-nc-sa" if "nc" in letters else "cc-by-sa"
    version = (int(cc[2]), int(cc[3])) if cc[2] else (0,)
    return Terms(
        attribution=True,
        non_commercial="nc" in letters,
        no_derivatives="nd" in letters,
        share_alike=frozenset({(family, version)}) if "sa" in letters else frozenset(),
    )


def forbidden(text: str) -> Terms | None:
    """What restrictive words in a text ask for; None where it has none."""
    terms = Terms(
        attribution=True,
        own_words=True,
        non_commercial=bool(NC.search(text)),
        no_derivatives=bool(ND.search(text)),
        redistribution=not CLOSED.search(text),
    )
    return terms if terms.non_commercial or terms.no_derivatives or not terms.redistribution else None


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part)
