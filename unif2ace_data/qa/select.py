"""Which of the questions that could be asked are asked: shares of kinds and groups, and answers that do not repeat.

Every sample in turn, in an order that its key's hash gives, takes the questions that serve the balance of the whole
dataset best; a few rounds over all samples let each choose again with knowledge of the others. What still breaks the
bound is then taken back and replaced. The result is a function of the samples and the settings alone.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from unif2ace_data.qa.forms import MARGIN, Form, Offer
from unif2ace_data.recipe import Qa
from unif2ace_data.schema import NOT_VISIBLE, Group, QAKind
from unif2ace_data.taxonomy import load_taxonomy

KINDS: tuple[QAKind, ...] = ("choice_4", "choice_2_3", "true_false", "open")  # the hardest to balance chooses first
GROUPS: tuple[Group, ...] = ("appearance", "action", "emotion")
SLACK = 0.0  # share above chance from which an answer costs: under MARGIN, so that rounding and leftovers fit
ROUNDS, FEW_OVER = 6, 0.003  # rounds at most; share of the questions over a bound that is left to be replaced
# Our choices, in units of one answer too many: the group that is behind its share, an attribute asked about twice in
# one sample, yes or no (or two or three options) the more frequent so far, an open question asked as often as others.
GROUP_COST, REPEAT_COST, AHEAD_COST, COMMON_COST = 4.0, 1.5, 0.02, 0.3
JITTER = 0.05
PLACES, ANSWERS = 8, 16  # an offer packs into one number


def order_of(key: str) -> int:
    """A number of 64 bits that orders samples in a way that has nothing to do with what they show."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def packed(offer: Offer) -> int:
    """One number, in the order of offers."""
    return (offer[0] * ANSWERS + offer[1]) * PLACES + offer[2]


def unpacked(number: int) -> Offer:
    return number // (ANSWERS * PLACES), number // PLACES % ANSWERS, number % PLACES


@dataclass(frozen=True, slots=True)
class Ask:
    """What a form is for the choice. `answers`: how many it has; `chance`: share that guessing gets right.

    `same`: two questions of one sample must not have the same; `names`: the attributes it speaks of; `topics`: by answer,
    those that may stand for it; `hidden`: an open question whose answer is that it cannot be seen.
    """

    kind: QAKind
    answers: int
    chance: float
    same: tuple[str, ...]
    names: tuple[str, ...]
    topics: tuple[tuple[str, ...], ...]
    hidden: bool = False


def ask_of(form: Form) -> Ask:
    """The same: one form twice; two true/false questions about one attribute; an attribute as a whole asked twice, as a
    choice or openly."""
    name = form.options[0][0][0]
    kind = "whether" if form.kind == "true_false" else "which"
    return Ask(
        kind=form.kind,
        answers=form.answers,
        chance=form.chance,
        same=(kind, name) if form.single else ("of", repr(form.options)),
        names=tuple(sorted({name for option in form.options for name, _ in option})),
        topics=tuple(form.topics(answer) for answer in range(form.answers)),
        hidden=form.kind == "open" and form.options[0][0][1] == NOT_VISIBLE,
    )


@dataclass(frozen=True, slots=True)
class Other:
    """A question of a sample that another engine asks: what the choice of ours must know of it.

    `whole`: it asks about the attribute as a whole, or whether it has some value; of several attributes at once it does not.
    `options`: how many; `yes`: a true/false question answered so.
    """

    kind: QAKind
    attribute: str
    group: Group
    options: int
    whole: bool
    yes: bool

    @property
    def same(self) -> tuple[str, ...]:
        return ("whether" if self.kind == "true_false" else "which", self.attribute) if self.whole else ("of",)


@dataclass(frozen=True, slots=True)
class Asking:
    """What the choice must know of one packed offer; `mixed`: the number that its jitter comes from."""

    form: int
    answer: int
    ask: Ask
    group: Group
    mixed: int


Beside = Callable[[int], Sequence[Other] | None]  # by a sample's place; None: the sample is not asked anything by us


def nothing_beside(place: int) -> Sequence[Other]:
    return ()


class Choice:
    """The state of a choice over a dataset: the counts that follow from what is asked so far.

    asks: what can be asked; strict: whether the bound of each must hold.
    """

    def __init__(self, asks: Sequence[Ask], settings: Qa, strict: bool) -> None:
        self.asks = asks
        self.counts = [[0] * ask.answers for ask in asks]  # questions by answer
        self.limits = [ask.chance + SLACK for ask in asks]  # share from which an answer costs
        self.bounds = [ask.chance + MARGIN if strict else 1.0 for ask in asks]  # share that no answer may pass
        self.kinds: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        self.ahead = 0  # questions answered yes, less those answered no
        self.shorter = 0  # choices of two, less those of three
        self.opens = sum(ask.kind == "open" for ask in asks) or 1
        groups = {entry.name: entry.group for entry in load_taxonomy().attributes.values()}
        self.group_of = [[[groups.get(n, "appearance") for n in topics] for topics in ask.topics] for ask in asks]
        wanted = settings.groups.model_dump()
        self.shares = {group: wanted[group] / (sum(wanted.values()) or 1) for group in GROUPS}
        self.known: dict[int, Asking] = {}
        self.balances: list[list[float]] = [[] for _ in asks]  # by form and answer; empty: to be found anew

    def asking(self, offer: int) -> Asking:
        """The packed offer, looked up once."""
        found = self.known.get(offer)
        if found is None:
            form, answer, place = unpacked(offer)
            group = self.group_of[form][answer][place]
            found = self.known[offer] = Asking(form, answer, self.asks[form], group, (offer + 1) * 0x9E3779B97F4A7C15)
        return found

    def take(self, offer: int, step: int) -> None:
        """Count a question (a packed offer) in (`step` 1) or out (-1)."""
        one = self.asking(offer)
        kind = one.ask.kind
        self.counts[one.form][one.answer] += step
        self.balances[one.form] = []
        self.kinds[kind] += step
        self.groups[one.group] += step
        if kind == "true_false":
            self.ahead += -step if one.answer else step
        elif kind == "choice_2_3":
            self.shorter += step if one.ask.chance == 0.5 else -step

    def count(self, other: Other) -> None:
        """Count a question of another engine in: ours make up for what those have too many of."""
        self.kinds[other.kind] += 1
        self.groups[other.group] += 1
        if other.kind == "true_false":
            self.ahead += 1 if other.yes else -1
        elif other.kind == "choice_2_3":
            self.shorter += 1 if other.options == 2 else -1

    def breaks(self, number: int, answer: int) -> bool:
        """Whether one more such question would put its answer over the bound."""
        counts = self.counts[number]
        return len(counts) > 1 and counts[answer] + 1 > self.bounds[number] * (sum(counts) + 1) + 1e-9

    def over(self, number: int) -> bool:
        """Whether an answer of the form is over its bound."""
        counts = self.counts[number]
        return len(counts) > 1 and max(counts) > self.bounds[number] * sum(counts) + 1e-9

    def excess(self) -> float:
        """Questions over the bounds of their forms."""
        most = ((max(counts), share * sum(counts)) for counts, share in zip(self.counts, self.bounds, strict=True))
        return sum(max(0.0, commonest - allowed) for commonest, allowed in most)

    def balance_costs(self, number: int) -> list[float]:
        """By answer: how much one more such question adds to what the form's answers have too many, in squares.

        May be negative.
        """
        found = self.balances[number]
        if not found:
            counts, limit = self.counts[number], self.limits[number]
            allowed = limit * sum(counts)
            cost = 0.0
            for count in counts:
                if count > allowed:
                    cost -= (count - allowed) ** 2
                if count > allowed + limit:
                    cost += (count - allowed - limit) ** 2
            over = [count - allowed - limit for count in counts]
            found = [cost + max(here + 1, 0.0) ** 2 - max(here, 0.0) ** 2 for here in over]
            self.balances[number] = found
        return found

    def group_costs(self) -> dict[str, float]:
        """By group: how far its share of the questions so far is past what is wanted."""
        asked = self.groups.total() or 1
        return {
            group: GROUP_COST * self.groups[group] / (share * asked) if share else 3 * GROUP_COST
            for group, share in self.shares.items()
        }


class Picking:
    """The questions of one sample, as they are chosen."""

    def __init__(self, state: Choice, jitter: int, beside: Sequence[Other], already: Iterable[int] = ()) -> None:
        self.state = state
        self.jitter = jitter | 1
        self.found = array("I")
        self.asked: set[tuple[str, ...]] = {other.same for other in beside}
        self.taken: Counter[str] = Counter(other.attribute for other in beside)
        self.kinds: list[QAKind] = []
        for number in already:
            self.note(number)

    def note(self, offer: int) -> None:
        ask = self.state.asking(offer).ask
        self.found.append(offer)
        self.asked.add(ask.same)
        self.taken.update(ask.names)
        self.kinds.append(ask.kind)

    def cheapest(self, offers: Sequence[int], within_bound: bool) -> int | None:
        """The packed offer that costs least among those that ask something new; of several the first by number."""
        state, taken, asked, jitter = self.state, self.taken, self.asked, self.jitter
        group_costs = state.group_costs()
        yes, short = (AHEAD_COST * max(-50, min(50, ahead)) for ahead in (state.ahead, state.shorter))
        opens = state.kinds["open"] + state.opens
        best: int | None = None
        least = math.inf
        for offer in offers:
            one = state.asking(offer)
            ask = one.ask
            if ask.same in asked or (within_bound and state.breaks(one.form, one.answer)):
                continue
            cost = group_costs[one.group]
            if taken:
                cost += REPEAT_COST * sum([taken[name] for name in ask.names]) / len(ask.names)
            cost += JITTER * ((jitter * one.mixed >> 40) & 1023) / 1024
            if ask.kind == "open":
                cost -= REPEAT_COST if ask.hidden else 0.0  # or a reader never learns to say so
                cost += COMMON_COST * state.counts[one.form][0] * state.opens / opens
            else:
                cost += state.balance_costs(one.form)[one.answer]
                if ask.kind == "true_false":
                    cost += -yes if one.answer else yes
                elif ask.kind == "choice_2_3":
                    cost += short if ask.chance == 0.5 else -short
            if cost < least or (cost == least and best is not None and offer < best):
                best, least = offer, cost
        return best

    def fill(self, offers: Sequence[int], wanted: Sequence[QAKind], within_bound: bool) -> array[int]:
        """One question for each kind wanted; where there is none of that kind, one of another. Offers are packed."""
        by_kind: dict[QAKind, list[int]] = {kind: [] for kind in KINDS}
        for offer in offers:
            by_kind[self.state.asking(offer).ask.kind].append(offer)
        for kind in wanted:
            for instead in (kind, *(("open",) if not within_bound else ()), *KINDS):
                best = self.cheapest(by_kind[instead], within_bound)
                if best is not None:
                    self.note(best)
                    self.state.take(best, 1)
                    break
        return self.found


def wanted_kinds(settings: Qa, beside: Iterable[Sequence[Other] | None]) -> Iterator[list[QAKind]]:
    """Sample by sample the kinds to ask, so that the shares come out: always the kind that is furthest behind.

    beside: what each sample is asked already.
    """
    wanted = settings.kinds.model_dump()
    shares = {kind: wanted[kind] / (sum(wanted.values()) or 1) for kind in KINDS}
    behind = dict.fromkeys(KINDS, 0.0)
    for others in beside:
        kinds: list[QAKind] = []
        present = [other.kind for other in others] if others is not None else []
        for place in range(settings.per_sample if others is not None else 0):
            for kind in KINDS:
                behind[kind] += shares[kind]
            chosen = present[place] if place < len(present) else max(KINDS, key=behind.__getitem__)
            behind[chosen] -= 1
            if place >= len(present):
                kinds.append(chosen)
        yield sorted(kinds, key=KINDS.index)


def choose(
    asks: Sequence[Ask], keys: Sequence[str], offers_of: Callable[[int], Sequence[int]], settings: Qa, strict: bool,
    beside: Beside = nothing_beside,
) -> list[array[int]]:  # fmt: skip
    """For each sample the questions it asks, packed, in no order that means anything.

    keys: of the samples; offers_of: what the sample at a place of `keys` could be asked (packed), the same at every call.
    strict: whether the bound of each ask must hold. beside: what each sample is asked already; only what is missing is
    chosen, and nothing that asks the same.
    """
    state = Choice(asks, settings, strict)
    marks = [order_of(key) for key in keys]
    order = sorted(range(len(keys)), key=lambda i: (marks[i], keys[i]))
    picks: list[array[int]] = [array("I") for _ in keys]
    for i in order:
        for other in beside(i) or ():
            state.count(other)
    for turn in range(ROUNDS):
        for i, wanted in zip(order, wanted_kinds(settings, map(beside, order)), strict=True):
            for number in picks[i]:
                state.take(number, -1)
            if wanted:
                picks[i] = Picking(state, marks[i] + 2 * turn, beside(i) or ()).fill(offers_of(i), wanted, False)
        if turn and state.excess() <= FEW_OVER * settings.per_sample * len(keys):
            break
    if strict:
        take_back(state, picks, order)
        for i, wanted in zip(order, wanted_kinds(settings, map(beside, order)), strict=True):
            if len(picks[i]) < len(wanted):
                picking = Picking(state, marks[i], beside(i) or (), picks[i])
                missing = Counter(wanted) - Counter(picking.kinds)
                left = len(wanted) - len(picks[i])
                picks[i] = picking.fill(offers_of(i), list(missing.elements())[:left], True)
    return picks


def take_back(state: Choice, picks: list[array[int]], order: Sequence[int]) -> None:
    """Take questions out of forms that break the bound, the commonest answer first, until none does."""
    broken = {number for number in range(len(state.asks)) if state.over(number)}
    where: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i in order:
        for question in picks[i]:
            number, answer, _ = unpacked(question)
            if number in broken:
                where.setdefault((number, answer), []).append((i, question))
    for number in sorted(broken):
        while state.over(number):
            counts = state.counts[number]
            i, question = where[number, counts.index(max(counts))].pop()
            picks[i].remove(question)
            state.take(question, -1)
