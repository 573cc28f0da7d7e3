"""Generated captions against the stored ones, and against the evidence.

    B samples

BLEU, ROUGE-L and CIDEr are pycocoevalcap's, on lower-case words without punctuation (our choice: its own tokenizer needs
Java). CIDEr's document frequencies are those of the stored captions given. Against the evidence both readers of the
builder are at work: claims are read out of the words, and judged by the validated measurements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from unif2ace_data.captions.check import judged
from unif2ace_data.captions.facts import statable
from unif2ace_data.schema import Attribute
from unif2ace_model.bootstrap import Bootstrap

WORD = re.compile(r"\w+(?:['’-]\w+)*")


def words_of(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def text_scores(said: Sequence[str], stored: Sequence[str], bootstrap: Bootstrap) -> dict[str, Any]:
    """BLEU-1 to 4 of the corpus (a figure of no interval), ROUGE-L and CIDEr (means over samples, with intervals)."""
    hypotheses = {i: [words_of(text)] for i, text in enumerate(said)}
    references = {i: [words_of(text)] for i, text in enumerate(stored)}
    bleu, _ = Bleu(4).compute_score(references, hypotheses, verbose=0)
    _, rouge = Rouge().compute_score(references, hypotheses)
    _, cider = Cider().compute_score(references, hypotheses)
    who = range(len(said))
    return {
        **{f"bleu_{n + 1}": round(float(score), 5) for n, score in enumerate(bleu)},
        "rouge_l": bootstrap.ratio(who, np.asarray(rouge)).as_json(),
        "cider": bootstrap.ratio(who, np.asarray(cider)).as_json(),
    }


@dataclass(slots=True)
class Grounding:
    """What one caption claims, by attribute, and what the evidence would bear."""

    supported: set[str]
    contradicted: set[str]
    unverified: set[str]
    evidence: set[str]


def grounding(caption: str, attributes: Sequence[Attribute]) -> Grounding:
    """The caption's claims judged by a sample's evidence; `evidence`: the attributes that a grounded caption may state."""
    by_verdict: dict[str, set[str]] = {"supported": set(), "contradicted": set(), "unverified": set()}
    for claim in judged(caption, [], attributes):
        by_verdict[claim.verdict].add(claim.attribute)
    evidence = {attribute.name for attribute in statable(attributes)}
    return Grounding(by_verdict["supported"], by_verdict["contradicted"], by_verdict["unverified"], evidence)


def grounding_scores(found: Sequence[Grounding], bootstrap: Bootstrap) -> dict[str, Any]:
    """Precision: attributes claimed rightly, of those that the evidence settles. Recall: of those that it would bear.

    An attribute of which a caption claims both right and wrong counts as claimed wrongly.
    """

    def row(names: set[str] | None) -> dict[str, Any]:
        def count(these: Sequence[set[str]]) -> np.ndarray:
            return np.array([len(one if names is None else one & names) for one in these], float)

        wrong = count([g.contradicted for g in found])
        right = count([g.supported - g.contradicted for g in found])
        borne = count([g.evidence for g in found])
        recalled = count([(g.supported - g.contradicted) & g.evidence for g in found])
        who = range(len(found))
        return {
            "precision": bootstrap.ratio(who, right, right + wrong).as_json(),
            "recall": bootstrap.ratio(who, recalled, borne).as_json(),
            "unverified": int(count([g.unverified - g.supported - g.contradicted for g in found]).sum()),
            "claimed": int((right + wrong).sum()),
        }

    named = sorted({name for g in found for name in g.supported | g.contradicted | g.evidence})
    return row(None) | {"by_attribute": {name: row({name}) for name in named}}
