"""The sentences of a draft, section by section: who and pose, expression, face, hair, what is worn, light, photograph.

Each function gives the sentences of its section, without capital and full stop; no evidence, no sentence.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from unif2ace_data.captions.draft import (
    Draft,
    by_part,
    clauses,
    described,
    fill,
    noun_phrases,
    part_states,
    predicate,
    predicates,
    says,
    states,
    subject,
    wanted,
)
from unif2ace_data.captions.phrases import phrases
from unif2ace_data.captions.wording import PARTICIPLE, SINGULAR, marked, plain, series, token_count

SHORT, DENSE_SHORT = 9, 13  # tokens: two sentences up to this long may become one; our choice
DENSE = 17  # attributes from which on sentences are joined wherever they can be
SMILES = ("smile", "smiling", "laugh")  # verbs that teeth may go with: "smiles broadly, showing her teeth"
AT_ONCE = 3  # states of mouth, eyes and brows in one sentence


def frame(draft: Draft, *names: str) -> str:
    """One frame out of the named groups of phrases.yaml."""
    return draft.pick(names[0], frames_of(names))


@functools.cache  # a dozen combinations
def frames_of(names: tuple[str, ...]) -> list[str]:
    return [text for name in names for text in phrases().frames[name]]


def person(draft: Draft) -> str:
    """ "a~ middle-aged woman", "a~ man in later life", "a~ young adult", "a~ person"."""
    facts = draft.facts
    noun = draft.pronouns["noun"]
    if "apparent_gender" in facts:
        noun = says(draft, "apparent_gender", facts["apparent_gender"].noun)
    age = next((name for name in ("age_band", "young") if name in facts), None)
    if age is None:
        return f"a~ {noun}"
    phrase = facts[age]
    if "apparent_gender" not in facts and phrase.alone:
        return f"a~ {says(draft, age, phrase.alone)}"
    variant = draft.pick("age", phrase.adj + phrase.post)
    return f"a~ {noun} {marked(age, variant)}" if variant in phrase.post else f"a~ {marked(age, variant)} {noun}"


def opening(draft: Draft) -> list[str]:
    """Who is seen, how the head is held, where the eyes look."""
    facts = draft.facts
    framed = "face_framing" in facts
    shot = says(draft, "face_framing", facts["face_framing"].shot) if framed else "{image}"
    who = person(draft)
    pose = draft.within("pose")
    doing = [name for name in pose if facts[name].does]
    held = [name for name in pose if name not in doing]
    if len(doing) == 2 and held and draft.coin("turn as state"):
        doing, held = ["gaze"], ["head_turn", *held]
    tail = ""
    later: list[str] = []
    apart = len(facts) < DENSE and draft.coin("held apart", 2 if doing else 3)
    if held and not apart:
        tail = fill(draft, ", with {poss} " if doing else " with {poss} ") + states(draft, held)
    elif held:
        later = [clauses(draft, held)]
    if not doing:
        text = fill(draft, frame(draft, "bare").replace("{shot}", shot), who=who, tail=tail)
        return [text, *later]
    contrast = len(doing) == 2 and (facts["head_turn"].value == "frontal") != (facts["gaze"].value == "camera")
    word = "but" if contrast else "and"
    shows = draft.coin("shows")
    form = PARTICIPLE if shows else SINGULAR
    does = series([says(draft, name, facts[name].does, form) for name in doing], False, word)
    kind = "shows" if shows else "acts"
    chosen = frame(draft, kind) if framed else frame(draft, kind, f"{kind}_plain")
    return [fill(draft, chosen.replace("{shot}", shot), who=who, doing=does, acts=does, tail=tail), *later]


def expression(draft: Draft) -> list[str]:
    """Emotion, smile and other actions of the face as verbs; mouth, lips, brows and eyes as states beside them."""
    facts = draft.facts
    names = draft.within("expression")
    if not names:
        return []
    verbs = [name for name in names if facts[name].does]
    held = [name for name in names if not facts[name].does]
    extra = ""
    for name in ("smile", "smiling", "frown", "teeth"):
        hosts = [v for v in verbs if v != name and not facts[v].adv and (name != "teeth" or v in SMILES)]
        adverb = name in facts and facts[name].adv and hosts and not set(verbs) - {*hosts, name}
        if adverb and not extra and (len(hosts) > 1 or not draft.coin(f"{name} as verb", 3)):
            said = says(draft, name, facts[name].adv, slot="adv")
            extra = (", " if plain(said).startswith("showing") else " ") + said
            verbs = [v for v in verbs if v != name]
            held = [h for h in held if h != name]
    if not verbs:
        return halves(draft, held)
    who, form = subject(draft, "expression")
    if "emotion" in verbs and len(verbs) > 1 and draft.coin("emotion as state"):
        verbs.remove("emotion")
        held.insert(0, "emotion")
    acts = draft.series([says(draft, name, facts[name].does, form) for name in verbs]) + extra
    first = len(held) if len(held) == AT_ONCE + 1 else AT_ONCE
    now, later = held[:first], held[first:]
    if not now:
        return [f"{who} {acts}"]
    several = len(by_part(draft, now)) > 1
    joined = "expression_some" if several else "expression_one"
    chosen = frame(draft, joined) if facts[verbs[0]].adv else frame(draft, "expression", joined)
    slots = wanted(chosen, states=lambda: states(draft, now), clauses=lambda: clauses(draft, now))
    text = fill(draft, chosen, form, who, acts=acts, **slots)
    return [text, *halves(draft, later)]


def halves(draft: Draft, names: Sequence[str]) -> list[str]:
    """States as clauses of their own, at most AT_ONCE parts in a sentence."""
    items = part_states(draft, names, copula=True)
    return [draft.series(items[i : i + AT_ONCE]) for i in range(0, len(items), AT_ONCE)]


def face(draft: Draft) -> list[str]:
    """Shape of the face, nose, lips, jaw; eyes and brows with them or in a sentence of their own."""
    lower, upper = draft.within("face"), draft.within("eyes")
    parts = len(by_part(draft, lower + upper))
    if lower and upper and parts > (3 if draft.coin("split") else 4):
        return [features(draft, lower, "face"), features(draft, upper, "eyes")]
    return [features(draft, lower + upper, "face")] if lower + upper else []


def features(draft: Draft, names: Sequence[str], slot: str) -> str:
    who, form = subject(draft, slot)
    own = [name for name in names if draft.facts[name].part == "face"]
    others = [name for name in names if name not in own]
    every = all(draft.facts[name].part for name in names)
    negative = any(draft.facts[name].negative for name in names)
    parts = len({draft.facts[name].part or name for name in names})
    frames = [
        text
        for text in phrases().frames[slot]
        if not ("{clauses}" in text and not every)
        and not ("among" in text and parts < 2)
        and not (negative and not text.startswith("{subj}"))
    ]
    if own and others:
        frames += phrases().frames["face_led"]
    chosen = draft.pick(f"{slot} frame", frames)
    if "{clauses}" in chosen:
        return fill(draft, chosen, form, who, clauses=clauses(draft, names))
    if "{list}" in chosen:
        items = stacked(draft, noun_phrases(draft, names), names)
        return fill(draft, chosen, form, who, list=draft.series(items))
    rest = draft.series(noun_phrases(draft, others))
    slots = wanted(
        chosen, face=lambda: described(draft, "face", own, article=False), face_is=lambda: predicates(draft, own)
    )
    return fill(draft, chosen, form, who, rest=rest, **slots)


def stacked(draft: Draft, items: list[str], names: Sequence[str]) -> list[str]:
    """Sometimes "thick eyebrows above wide-set eyes" in place of two items: where brows are above eyes by nature."""
    parts = list(by_part(draft, names))
    if parts[-2:] == ["eyebrows", "eyes"] and draft.coin("stacked"):
        return [*items[:-2], f"{items[-2]} above {items[-1]}"]
    return items


def hair_and_wear(draft: Draft) -> list[tuple[str, str]]:
    """Hair, hairline and beard; glasses, jewellery, clothing; now and then both in one sentence."""
    facts = draft.facts
    worn = draft.series(noun_phrases(draft, draft.within("wear")))
    names = draft.within("hair")
    verbs = [name for name in names if facts[name].does and not (facts[name].has and draft.coin("bald"))]
    own = [name for name in names if facts[name].part == "hair"]
    measure = [name for name in names if facts[name].mass]
    items = noun_phrases(draft, [name for name in names if name not in [*verbs, *own, *measure]])
    first = described(draft, "hair", own) if own else "hair"
    first = f"{marked(measure[0], draft.facts[measure[0]].mass[0])} of {first}" if measure else first
    everything = draft.series([first, *items] if own or measure else items)
    who, form = subject(draft, "hair")
    positive = any(not facts[name].negative for name in draft.within("wear"))
    if positive and everything and not verbs and draft.coin("hair and wear", 3):
        return [("hair", fill(draft, frame(draft, "hair_wear"), form, who, hair=everything, list=worn))]
    sentences = []
    if own and not measure and draft.coin("hair led"):
        text, listed = part_states(draft, own, copula=True)[0], draft.series(items)
    else:
        text, listed = "", everything
    does = [fill(draft, frame(draft, "hair"), form, list=listed)] if listed else []
    does += [says(draft, name, facts[name].does, form) for name in verbs]
    if text or does:
        sentences.append(("hair", ", and ".join(filter(None, (text, f"{who} {draft.series(does)}" if does else "")))))
    if worn:
        who, form = subject(draft, "wear")
        sentences.append(("wear", fill(draft, frame(draft, "wear"), form, who, list=worn)))
    return sentences


def scene(draft: Draft) -> list[str]:
    names = draft.within("scene")
    behind = [name for name in names if name != "lighting"]
    light = says(draft, "lighting", draft.facts["lighting"].clause) if "lighting" in names else ""
    if not behind:
        return [light] if light else []
    between = " " if draft.facts[behind[-1]].tight else " and "
    who, form = subject(draft, "scene")
    kinds = ["scene"] if light else ["background"]
    if "face is " in light:
        kinds.append("scene_lit")
    if light and draft.facts["lighting"].value == "even":
        kinds.append("scene_even")
    chosen = frame(draft, *kinds)
    slots = wanted(
        chosen,
        background=lambda: described(draft, "background", behind),
        background_is=lambda: between.join([marked(name, predicate(draft, name)) for name in behind]),
    )
    return [fill(draft, chosen, form, who, light=light, **slots)]


def photo(draft: Draft) -> list[str]:
    names = draft.within("photo")
    if not names:
        return []
    said = draft.series([says(draft, name, draft.facts[name].pred) for name in names])
    return [fill(draft, frame(draft, "photo"), photo_is=said)]


def compose(draft: Draft) -> list[tuple[str, str]]:
    """(section, sentence) in reading order; short neighbours of the second half may share a sentence."""
    made = [("opening", text) for text in opening(draft)] + [("expression", text) for text in expression(draft)]
    made += [("face" if i == 0 else "eyes", text) for i, text in enumerate(face(draft))]
    dense = len(draft.facts) >= DENSE
    short = DENSE_SHORT if dense else SHORT
    around = [("scene", text) for text in scene(draft)] + [("photo", text) for text in photo(draft)]
    for section, text in hair_and_wear(draft) + around:
        before, last = made[-1]
        join = before in ("hair", "wear", "scene") and (dense or not draft.coin(f"{section} apart", 3))
        if join and simple(plain(last), plain(text), short):
            made[-1] = (before, f"{last}, and {text}")
        else:
            made.append((section, text))
    return made


def simple(last: str, text: str, short: int) -> bool:
    """Whether the two sentences may become one: no lists in them, and at most `short` tokens each."""
    if " and " in f"{last} {text}" or ", " in text:
        return False
    return token_count(text) <= short and token_count(last) <= short
