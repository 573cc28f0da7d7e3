"""Rates of contradicted and unverified claims, by attribute and engine."""

from __future__ import annotations

from unif2ace_data.release.claims import ClaimCounts, claim_rows


def record(engine: str, claims: list[tuple[str, str]], removed: str = "") -> dict:
    return {
        "captioner": {"engine": engine, "model": "m" if engine != "grounded" else "", "removed": removed},
        "claims": [{"attribute": a, "verdict": v} for a, v in claims],
    }


def test_removed_claims_count_as_contradicted_where_they_were_made() -> None:
    counts = ClaimCounts()
    counts.add(
        record("openai", [("smile", "supported"), ("hat", "unverified")], "smile=none glasses!=none forbidden:health")
    )
    counts.add(record("openai", [("smile", "supported")]))
    counts.add(record("grounded", [("smile", "supported")]))
    stats = counts.as_stats()
    found = {(e["engine"], e["attribute"]): e for e in stats["by_attribute"]}
    smile = found["openai m", "smile"]
    assert (smile["claims"], smile["supported"], smile["contradicted"]) == (3, 2, 1)
    assert smile["contradicted_rate"] == 0.3333 and smile["unverified_rate"] == 0
    assert found["openai m", "glasses"]["contradicted_rate"] == 1 and found["openai m", "hat"]["unverified_rate"] == 1
    assert found["grounded", "smile"]["supported"] == 1 and stats["forbidden"] == {"health": 1}
    assert [row[:2] for row in claim_rows(stats)] == [("openai m", a) for a in ("glasses", "hat", "smile")]
