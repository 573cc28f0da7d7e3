"""How far an engine's captions can be trusted: claims by attribute and engine, what supports them and what was removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FATES = ("supported", "unverified", "contradicted")


@dataclass(slots=True)
class ClaimCounts:
    """Claims by (engine and model, attribute, fate). Contradicted ones are no longer in the captions: they were removed."""

    fates: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)  # what may not be said, by kind

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a sample's record ({key}.json)."""
        captioner = record["captioner"]
        engine = " ".join(filter(None, (captioner["engine"], captioner["model"])))
        for claim in record["claims"]:
            self.fates[engine, claim["attribute"], claim["verdict"]] += 1
        for name in captioner.get("removed", "").split():
            if name.startswith("forbidden:"):
                self.removed[name.removeprefix("forbidden:")] += 1
            else:
                self.fates[engine, name.partition("=")[0].rstrip("!"), "contradicted"] += 1

    def as_stats(self) -> dict[str, Any]:
        """One entry an engine and attribute, with its counts and rates; and how often something forbidden was cut."""
        groups = sorted({(engine, attribute) for engine, attribute, _ in self.fates})
        entries = []
        for engine, attribute in groups:
            counts = {fate: self.fates[engine, attribute, fate] for fate in FATES}
            total = sum(counts.values())
            entries.append(
                {
                    "engine": engine,
                    "attribute": attribute,
                    "claims": total,
                    **counts,
                    "contradicted_rate": round(counts["contradicted"] / total, 4),
                    "unverified_rate": round(counts["unverified"] / total, 4),
                }
            )
        return {"by_attribute": entries, "forbidden": dict(sorted(self.removed.items()))}


def claim_rows(claims: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of `stats`: engine, attribute, claims, rate of contradicted, rate of unverified; none for grounded captions."""
    return [
        (
            e["engine"],
            e["attribute"],
            f"{e['claims']:,}",
            f"{e['contradicted_rate']:.1%}",
            f"{e['unverified_rate']:.1%}",
        )
        for e in claims["by_attribute"]
        if not e["engine"].startswith("grounded")
    ]
