"""Question forms: what a reader without the picture knows of a question, and the menu of forms that a dataset bears.

A form is a kind with a fixed set of options (of a true/false question: with what it asks); the wording of the question
tells no more than that, and letters are balanced. Whoever answers blindly does best with the form's commonest answer.
The menu holds the forms whose answers vary enough over the dataset's samples for that to be close to chance.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from unif2ace_data.qa.facts import Facts, excludes
from unif2ace_data.qa.phrasings import Fact, phrasings
from unif2ace_data.schema import NOT_VISIBLE, QAKind
from unif2ace_data.taxonomy import load_taxonomy

MARGIN = 0.1  # issue: how much above chance the commonest answer of a form may be
FEW = 50  # our choice: samples under which commonest answers say nothing, and nothing is rationed
CROSSES = 40  # our choice: more pairs of attributes would leave each form too few questions to balance
SETS, SET_STATEMENTS = 12, 20  # sets of statements about several attributes, made of this many statements at most
PER_ATTRIBUTE = 6  # option sets of one size that one attribute gets at most


Offer = tuple[int, int, int]  # form, answer, place of the attribute that stands for the question


@dataclass(frozen=True, slots=True)
class Form:
    """`options`: what each option states, in a fixed order, not that of the letters. Of a true/false
    question the one option is what is asked, and its answers are 0 (yes) and 1 (no); of an open one it is the answer.
    """

    kind: QAKind
    options: tuple[tuple[Fact, ...], ...]

    @property
    def answers(self) -> int:
        """How many answers there are to choose from; 1 for open questions."""
        return 2 if self.kind == "true_false" else len(self.options)

    @property
    def single(self) -> bool:
        """Whether it asks about one attribute only."""
        return len({name for option in self.options for name, _ in option}) == 1

    @property
    def chance(self) -> float:
        return 1 / self.answers

    def topics(self, answer: int) -> tuple[str, ...]:
        """The attributes that may stand for the question: those that its right option speaks of."""
        return tuple(name for name, _ in self.options[0 if self.kind == "true_false" else answer])


@dataclass(slots=True)
class Menu:
    """The forms of a dataset, by what a sample must have for them to be asked."""

    forms: list[Form] = field(default_factory=list)
    asked: dict[str, list[int]] = field(default_factory=dict)  # attribute -> true/false forms
    single: dict[Fact, list[tuple[int, int]]] = field(default_factory=dict)  # fact -> (form, answer)
    crossed: dict[tuple[Fact, Fact], list[tuple[int, int]]] = field(default_factory=dict)
    mixed: list[int] = field(default_factory=list)
    open: dict[Fact, int] = field(default_factory=dict)

    def add(self, form: Form) -> None:
        number = len(self.forms)
        self.forms.append(form)
        if form.kind == "open":
            self.open[form.options[0][0]] = number
        elif form.kind == "true_false":
            self.asked.setdefault(form.options[0][0][0], []).append(number)
        elif form.single:
            for answer, ((fact),) in enumerate(form.options):
                self.single.setdefault(fact, []).append((number, answer))
        elif all(len(option) == 2 for option in form.options):
            for answer, (one, other) in enumerate(form.options):
                self.crossed.setdefault((one, other), []).append((number, answer))
        else:
            self.mixed.append(number)


def offers(menu: Menu, facts: Facts) -> list[Offer]:
    """Every question that the facts answer."""
    found: list[Offer] = []
    values = list(facts.values.items())
    for name, value in values:
        for number in menu.asked.get(name, ()):
            wanted = menu.forms[number].options[0][0]
            if wanted[1] == value:
                found.append((number, 0, 0))
            elif excludes((name, value), wanted):
                found.append((number, 1, 0))
    choices = [pair for pair in values if pair[0] not in facts.hidden] + [(n, NOT_VISIBLE) for n in facts.hidden]
    for fact in choices:
        found += [(number, answer, 0) for number, answer in menu.single.get(fact, ())]
        if fact in menu.open:
            found.append((menu.open[fact], 0, 0))
    for pair in itertools.combinations(sorted(values), 2):
        found += [(number, answer, place) for number, answer in menu.crossed.get(pair, ()) for place in (0, 1)]
    for number in menu.mixed:
        states = [state(option[0], facts) for option in menu.forms[number].options]
        if states.count(True) == 1 and None not in states:
            found.append((number, states.index(True), 0))
    return found


def state(fact: Fact, facts: Facts) -> bool | None:
    """Whether the fact is true or false of the sample; None where that is not known."""
    name, value = fact
    own = facts.values.get(name)
    if own is None:
        return None
    if own == value:
        return True
    return False if excludes((name, own), fact) else None


def bound(form: Form) -> float:
    """The greatest share that the commonest answer of a form may have."""
    return form.chance + MARGIN


def capacity(cells: Sequence[int], most: float) -> int:
    """How many questions of a form can be asked if no answer may have more than the share `most` of them.

    cells: samples by right answer, each asked once.
    """
    total = sum(cells)
    while total:
        fits = sum(min(cell, math.floor(most * total + 1e-9)) for cell in cells)
        if fits >= total:
            return total
        total = fits
    return 0


# ------------------------------------------------------------------ the menu


def menu_of(samples: Iterable[Facts], ration: bool) -> Menu:
    """The menu of a dataset that these samples stand for; without `ration`, forms may have one answer only."""
    facts = list(samples)
    seen: dict[str, Counter[str]] = {}
    for one in facts:
        for name, value in one.values.items():
            seen.setdefault(name, Counter())[value] += 1
        for name in one.hidden:
            seen.setdefault(name, Counter())[NOT_VISIBLE] += 1
    order = [name for name in load_taxonomy().attributes if name in seen]
    menu = Menu()
    for name in order:
        for value in sorted(seen[name]):
            menu.add(Form("open", (((name, value),),)))
        for form in true_false_forms(name, seen[name], ration):
            menu.add(form)
        for form in single_forms(name, seen[name], ration):
            menu.add(form)
    for form in crossed_forms(facts, order, seen):
        menu.add(form)
    for size in (3, 4):
        for form in mixed_forms(facts, order, seen, size):
            menu.add(form)
    return menu


def true_false_forms(name: str, seen: Counter[str], ration: bool) -> list[Form]:
    forms = []
    for value in load_taxonomy()[name].values:
        yes = seen[value]
        no = sum(n for other, n in seen.items() if other != NOT_VISIBLE and excludes((name, other), (name, value)))
        if not ration or (yes and no):
            forms.append(Form("true_false", (((name, value),),)))
    return forms


def single_forms(name: str, seen: Counter[str], ration: bool) -> list[Form]:
    """Option sets of two, three and four values that exclude each other, "cannot be seen" among them."""
    entry = load_taxonomy()[name]
    synonyms = entry.hidden_by.get(name, [])  # values that say the same as NOT_VISIBLE
    values = [v for v in entry.values if v not in synonyms]
    found = []
    for size in (2, 3, 4):
        ranked = []
        for chosen in itertools.combinations([*values, NOT_VISIBLE], size):
            if size == 2 and NOT_VISIBLE in chosen and not synonyms:
                continue
            real = [v for v in chosen if v != NOT_VISIBLE]
            if not all(excludes((name, a), (name, b)) for a, b in itertools.permutations(real, 2)):
                continue
            form = Form("choice_4" if size == 4 else "choice_2_3", tuple(((name, v),) for v in chosen))
            cells = [seen[v] for v in chosen]
            room = capacity(cells, bound(form)) if ration else sum(cells)
            if room:
                ranked.append((-room, chosen, form))
        ranked.sort(key=lambda one: one[:2])
        found += [form for _, _, form in ranked[:PER_ATTRIBUTE]]
    return found


def about(name: str) -> str:
    return phrasings().attributes[name].about


def crossed_forms(facts: Sequence[Facts], order: Sequence[str], seen: dict[str, Counter[str]]) -> list[Form]:
    """Two values of one attribute times two of another: four descriptions of which exactly one fits, or three of them."""
    cells: Counter[tuple[Fact, Fact]] = Counter()
    for one in facts:
        cells.update(itertools.combinations(sorted(one.values.items()), 2))
    ranked: dict[int, list[tuple[int, tuple[tuple[Fact, ...], ...], Form]]] = {3: [], 4: []}
    for first, second in itertools.combinations(sorted(order), 2):
        if about(first) == about(second):
            continue
        for these in exclusive_pairs(first, seen[first]):
            for those in exclusive_pairs(second, seen[second]):
                whole = tuple(((first, a), (second, b)) for a in these for b in those)
                for options in (whole, *itertools.combinations(whole, 3)):
                    form = Form("choice_4" if len(options) == 4 else "choice_2_3", options)
                    room = capacity([cells[option] for option in options], bound(form))
                    if room:
                        ranked[len(options)].append((-room, options, form))
    return [form for found in ranked.values() for _, _, form in sorted(found, key=lambda one: one[:2])[:CROSSES]]


def exclusive_pairs(name: str, seen: Counter[str]) -> list[tuple[str, str]]:
    values = [v for v in load_taxonomy()[name].values if seen[v]]
    return [
        p for p in itertools.combinations(values, 2) if all(excludes((name, a), (name, b)) for a, b in (p, p[::-1]))
    ]


def mixed_forms(facts: Sequence[Facts], order: Sequence[str], seen: dict[str, Counter[str]], size: int) -> list[Form]:
    """Sets of statements about different things of which often exactly one is true."""
    statements = [(name, v) for name in order for v in load_taxonomy()[name].values if seen[name][v]]
    states = [[state(fact, one) for one in facts] for fact in statements]
    true = np.array([[s is True for s in row] for row in states], bool).reshape(len(statements), len(facts))
    false = np.array([[s is False for s in row] for row in states], bool).reshape(len(statements), len(facts))
    usable = np.minimum(true.sum(1), false.sum(1))
    best = sorted(np.argsort(-usable, kind="stable")[:SET_STATEMENTS].tolist())
    ranked = []
    for chosen in itertools.combinations([i for i in best if usable[i]], size):
        if len({about(statements[i][0]) for i in chosen}) < size:
            continue
        cells = []
        for right in chosen:
            rest = [false[i] for i in chosen if i != right]
            cells.append(int((true[right] & np.logical_and.reduce(rest)).sum()))
        form = Form("choice_4" if size == 4 else "choice_2_3", tuple((statements[i],) for i in chosen))
        room = capacity(cells, bound(form))
        if room:
            ranked.append((-room, chosen, form))
    ranked.sort(key=lambda one: one[:2])
    kept: list[Form] = []
    uses: Counter[int] = Counter()
    for _, chosen, form in ranked:
        if all(uses[i] < SETS // 2 for i in chosen) and len(kept) < SETS:
            uses.update(chosen)
            kept.append(form)
    return kept
