"""Licence algebra: what a name says, what follows of several, and that no further source ever loosens anything."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.curate.licence_names import CREDIT, FREE, UNKNOWN, Terms, terms_of, together
from unif2ace_data.curate.licences import STATABLE, Fact, facts_of, release_of

NC = Terms(attribution=True, non_commercial=True)
ND = Terms(attribution=True, no_derivatives=True)


def alike(family: str, *version: int, nc: bool = False) -> Terms:
    return Terms(attribution=True, non_commercial=nc, share_alike=frozenset({(family, version)}))


NAMES = {
    "CC0-1.0": FREE,
    "Creative Commons Zero v1.0 Universal": FREE,
    "https://creativecommons.org/publicdomain/zero/1.0/": FREE,
    "https://creativecommons.org/publicdomain/mark/1.0/deed.en": FREE,
    "Public Domain Mark 1.0": FREE,
    "Public domain (NASA)": FREE,
    "Public domain (US Government work, 17 U.S.C. 105)": FREE,
    "United States Government Work": FREE,
    "U.S. Government works": FREE,
    "MIT AND Apache-2.0 AND CC0-1.0": CREDIT,
    "Apache License 2.0": CREDIT,
    "MIT License": CREDIT,
    "CC BY 2.0": CREDIT,
    "CC-BY-4.0": CREDIT,
    "cc-by-3.0-us": CREDIT,
    "Creative Commons Attribution 4.0 International (CC BY 4.0)": CREDIT,
    "http://creativecommons.org/licenses/by/2.0/": CREDIT,
    "Attribution License": CREDIT,
    "Attribution-NonCommercial License": NC,
    "CC_BY_NC_2.0": NC,
    "CC BY\N{EN DASH}NC 2.0": NC,
    "CC-BY-NC-SA-4.0 (the dataset; each photograph has its own)": alike("cc-by-nc-sa", 4, 0, nc=True),
    "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode": alike("cc-by-nc-sa", 4, 0, nc=True),
    "Creative Commons Attribution-ShareAlike 3.0 Unported": alike("cc-by-sa", 3, 0),
    "CC BY-SA": alike("cc-by-sa", 0),
    "Attribution-NoDerivs License": ND,
    "ODbL-1.0": alike("odbl", 1, 0),
    "GPL-3.0-or-later": alike("gpl", 3, 0),
    "CC BY 2.0, CC BY-NC 2.0 and CC0": NC,
    "": UNKNOWN,
    "ask the owner": UNKNOWN,
    "CC BY 4.0 for the text": UNKNOWN,
    "CC BY 4.0 and a handshake": UNKNOWN,
    "not public domain": UNKNOWN,
    "no known copyright restrictions": UNKNOWN,
    "Creative Commons": UNKNOWN,
}


@pytest.mark.parametrize(("text", "terms"), NAMES.items())
def test_what_a_name_says(text: str, terms: Terms) -> None:
    assert terms_of(text) == terms


@pytest.mark.parametrize(
    ("text", "forbids"),
    [
        ("non-commercial research purposes only (CelebV-HQ agreement)", "non_commercial"),
        ("for research use", "non_commercial"),
        ("LicenseRef-InsightFace-non-commercial-research", "non_commercial"),
        ("not for commercial use", "non_commercial"),
        ("CC BY 4.0 (non-commercial)", "non_commercial"),
        ("free, but no derivatives", "no_derivatives"),
        ("All rights reserved", "closed"),
        ("\N{COPYRIGHT SIGN} the photographer", "closed"),
        ("you may not redistribute this", "closed"),
    ],
)
def test_restrictive_words_bind_also_in_a_text_of_nobodys(text: str, forbids: str) -> None:
    terms = terms_of(text)
    assert terms.known and terms.own_words
    assert not terms.redistribution if forbids == "closed" else getattr(terms, forbids)


@given(st.text())
def test_no_text_breaks_the_reader_and_a_text_of_no_words_is_unknown(text: str) -> None:
    assert isinstance(terms_of(text), Terms)
    if not any(c.isalnum() for c in text):
        assert not terms_of(text).known or not terms_of(text).redistribution


FACTS = st.builds(
    Fact,
    st.sampled_from(["photographs", "source", "model"]),
    st.sampled_from("abcde"),
    st.sampled_from([*NAMES, "All rights reserved", "non-commercial research only"]),
    st.booleans(),
    st.booleans(),
)
FLAGS = ("non_commercial", "share_alike", "attribution")


@given(st.lists(FACTS, max_size=6), FACTS, st.booleans())
def test_one_more_fact_never_allows_more(facts: list[Fact], more: Fact, annotations_only: bool) -> None:
    before, after = release_of(facts, annotations_only), release_of([*facts, more], annotations_only)
    assert set(after.allowed) <= set(before.allowed)
    assert after.redistribution <= before.redistribution
    assert all(getattr(after, flag) >= getattr(before, flag) for flag in FLAGS)


@given(st.lists(FACTS, max_size=6), st.randoms())
def test_the_order_does_not_matter_and_neither_does_saying_it_twice(facts: list[Fact], random: object) -> None:
    shuffled = list(facts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert release_of(facts) == release_of(shuffled) == release_of(facts + shuffled)


@given(st.lists(FACTS, max_size=6))
def test_without_pictures_never_less_is_allowed(facts: list[Fact]) -> None:
    assert set(release_of(facts).allowed) <= set(release_of(facts, annotations_only=True).allowed)


@given(st.lists(FACTS, max_size=6), st.booleans())
def test_what_is_allowed_carries_every_condition_and_refusals_say_why(
    facts: list[Fact], annotations_only: bool
) -> None:
    release = release_of(facts, annotations_only)
    for licence in set(release.allowed) - {"other"}:
        stated = terms_of(licence)
        assert stated.non_commercial >= release.non_commercial and stated.attribution >= release.attribution
        assert bool(stated.share_alike) >= release.share_alike
    assert release.allowed or any("not known" in r or "only the annotations" in r for r in release.reasons)
    assert all(any(fact.who in reason for reason in release.reasons) for fact in facts)


def test_together_is_what_both_ask() -> None:
    for a, b in itertools.combinations(map(terms_of, NAMES), 2):
        assert together([a, b]) == together([b, a]) and together([a, a]) == a and together([a, FREE]) == a


def photos(*texts: str) -> list[Fact]:
    return [Fact("photographs", f"photographs {i}", text) for i, text in enumerate(texts)]


CASES = [
    (photos("CC0-1.0"), "cc0-1.0", {"cc0-1.0", "mit", "cc-by-nc-nd-4.0", "other"}, set()),
    (photos("CC0-1.0", "CC BY 2.0"), "cc-by-4.0", {"cc-by-4.0", "apache-2.0"}, {"cc0-1.0", "pddl", "unlicense"}),
    (photos("CC BY 2.0", "CC BY-NC 2.0"), "cc-by-nc-4.0", {"cc-by-nc-4.0", "cc-by-nc-sa-4.0"}, {"mit", "cc-by-sa-4.0"}),
    (photos("CC BY-SA 3.0"), "cc-by-sa-4.0", {"cc-by-sa-3.0", "cc-by-sa-4.0"}, {"cc-by-4.0", "cc-by-nc-sa-4.0"}),
    (photos("CC BY-SA 4.0"), "cc-by-sa-4.0", {"cc-by-sa-4.0"}, {"cc-by-sa-3.0"}),
    (photos("CC BY-SA 4.0", "CC BY-NC-SA 4.0"), "other", {"other"}, {"cc-by-nc-sa-4.0", "cc-by-sa-4.0"}),
    (photos("CC BY-SA 4.0", "CC BY-NC 4.0"), "other", {"other"}, {"cc-by-nc-sa-4.0", "cc-by-sa-4.0"}),
    (photos("non-commercial research only"), "other", {"other"}, {"cc-by-nc-4.0"}),
    (photos("CC BY-ND 4.0"), "other", set(), set(STATABLE)),
    (photos("All rights reserved"), "other", set(), set(STATABLE)),
    (photos("CC0-1.0", ""), "unknown", set(), set(STATABLE)),
    (
        [*photos("CC0-1.0"), Fact("model", "face pack antelopev2", "", non_commercial=True)],
        "cc-by-nc-4.0",
        {"cc-by-nc-4.0"},
        {"cc0-1.0", "mit", "cc-by-4.0"},
    ),
    ([*photos("CC0-1.0"), Fact("model", "a model", "GPL-3.0")], "cc0-1.0", {"cc0-1.0"}, set()),
    ([*photos("CC0-1.0"), Fact("model", "a model", "")], "unknown", set(), set(STATABLE)),
    ([*photos("CC0-1.0"), Fact("source", "x", "", redistribution=False)], "other", set(), set(STATABLE)),
]


@pytest.mark.parametrize(("facts", "strictest", "may", "may_not"), CASES)
def test_cases(facts: list[Fact], strictest: str, may: set[str], may_not: set[str]) -> None:
    release = release_of(facts)
    assert release.strictest == strictest
    assert may <= set(release.allowed) and not may_not & set(release.allowed)
    assert bool(may) == bool(release.allowed)


@pytest.mark.parametrize(
    ("facts", "allowed"),
    [
        ([Fact("source", "x", "CC-BY-4.0", redistribution=False)], "cc-by-4.0"),
        (photos("CC BY-ND 4.0"), "cc-by-4.0"),
        (photos("All rights reserved"), "other"),
        (photos(""), "other"),
        ([Fact("model", "a model", "")], None),
    ],
)
def test_annotations_alone_may_go_where_pictures_may_not(facts: list[Fact], allowed: str | None) -> None:
    found = release_of(facts, annotations_only=True).allowed
    assert allowed in found if allowed else not found


# ------------------------------------------------------------------ facts of a dataset

STATS = {"licences": {"CC0-1.0": 3, "": 2}, "datasets": {"folder": {"kept": 5}, "ffhq": {"kept": 0}}}
FOLDER = {"name": "folder", "licence": {"text": ""}, "non_commercial": False, "redistribution": True}
PACK = {"name": "embedded", "licence": "MIT AND Apache-2.0 AND CC0-1.0", "non_commercial": False}


def recipe(**changes: object) -> dict[str, object]:
    return {"resolved": {"manifests": [FOLDER], "face_pack": PACK}, **changes}


def test_a_photograph_without_a_licence_waits_until_somebody_states_it() -> None:
    release = release_of(facts_of(STATS, recipe()))
    assert not release.allowed and any("--set release.photographs=" in r for r in release.reasons)
    assert "cc0-1.0" in release_of(facts_of(STATS, recipe(release={"photographs": "public domain"}))).allowed
    # What is stated for the silent never replaces what a photograph says of itself.
    closed = {"licences": {"All rights reserved": 1}}
    assert not release_of(facts_of(closed, recipe(release={"photographs": "public domain"}))).allowed


def test_a_source_of_which_nothing_was_kept_does_not_count() -> None:
    ffhq = {"name": "ffhq", "licence": {"text": "CC-BY-NC-SA-4.0"}, "non_commercial": True, "redistribution": True}
    stats = STATS | {"licences": {"CC0-1.0": 5}}
    both = {"resolved": {"manifests": [FOLDER, ffhq], "face_pack": PACK}}
    assert not release_of(facts_of(stats, both)).non_commercial
    stats["datasets"] = {"ffhq": {"kept": 1}}
    assert release_of(facts_of(stats, both)).strictest == "cc-by-nc-sa-4.0"


@pytest.mark.parametrize(
    ("where", "resolved", "stats"),
    [
        ("captions", {}, {"captions": {"engines": {"grounded": 1, "openai Qwen/Qwen2.5-VL-3B-Instruct": 4}}}),
        ("questions", {"qa": {"engine": "vllm", "model": "Qwen/Qwen2.5-VL-3B-Instruct"}}, {}),
    ],
)
def test_a_model_that_wrote_counts_by_the_licence_that_is_stated(where: str, resolved: dict, stats: dict) -> None:  # type: ignore[type-arg]
    free = {"licences": {"CC0-1.0": 5}, **stats}
    told = {"manifests": [FOLDER], "face_pack": PACK, **resolved}
    assert not release_of(facts_of(free, {"resolved": told})).allowed, where
    research = {"resolved": told, "release": {"models": "research use only"}}
    assert release_of(facts_of(free, research)).strictest == "cc-by-nc-4.0"
    assert "mit" in release_of(facts_of(free, {"resolved": told, "release": {"models": "apache-2.0"}})).allowed


def test_an_attribute_model_counts_by_its_encoder() -> None:
    encoder = {"name": "clip", "licence": "cc-by-nc-4.0", "sha256": "", "non_commercial": True}
    told = {"manifests": [FOLDER], "face_pack": PACK, "attribute_model": {"sha256": "", "encoder": encoder}}
    assert release_of(facts_of({"licences": {"CC0-1.0": 5}}, {"resolved": told})).non_commercial
