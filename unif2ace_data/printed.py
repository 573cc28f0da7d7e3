"""What the commands of `unif2ace-data` print for a person, and the same as mappings for `--json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unif2ace_data.run.build import Summary
    from unif2ace_data.run.captioning import ModelWork


def console() -> Any:
    from rich.console import Console

    return Console()


def print_mapping(title: str, mapping: dict[str, Any]) -> None:
    print(title)
    for name, value in mapping.items():
        print(f"  {name:<24} {value}")


def print_work(work: ModelWork) -> None:
    """Accounts of a model by stage, and the first rows that failed."""
    for stage, a in work.accounts.items():
        print(
            f"  {stage:<12} {a.asked:>7} requests, {a.journalled:>7} from the journal, {a.again} repeated, {a.failed} failed, "
            f"{a.prompt_tokens:,} + {a.completion_tokens:,} tokens, {a.request_seconds:,.0f} s of waiting"
        )
    if work.in_flight:
        print(f"  {work.in_flight} requests in flight at most, {work.seconds:,.0f} s in all")
    for key, why in list(work.failed.items())[:5]:
        print(f"failed   {key}: {why}")
    if len(work.failed) > 5:
        print(f"         and {len(work.failed) - 5} more (log.jsonl in the private folder names all)")
    for note in work.notes:
        print(f"note: {note}")


def print_estimate(plan: dict[str, Any]) -> None:
    tokens = "{prompt_tokens:,} tokens in + {completion_tokens:,} out"
    for stage, row in plan["stages"].items():
        print(f"  {stage:<12} {row['requests']:>9,} requests, about {tokens.format(**row)}")
    print(
        f"in all {plan['requests']:,} requests, about {tokens.format(**plan)}: {duration(plan)} at {plan['rate']:g} "
        f"requests a second (--rate). Not counted: {', '.join(plan['not_foreseen'])}"
    )


def duration(plan: dict[str, Any]) -> str:
    seconds = plan["requests"] / plan["rate"]
    return f"{plan['hours']} hours" if seconds >= 360 else f"{seconds:.0f} seconds"


def summary_json(summary: Summary) -> dict[str, Any]:
    return {**asdict(summary), "out": str(summary.out), "work": str(summary.work)}


def print_summary(summary: Summary) -> None:
    kept, dropped, failed = (summary.counts.get(s, 0) for s in ("kept", "dropped", "failed"))
    splits = ", ".join(f"{split} {count}" for split, count in summary.splits.items())
    print(
        f"{summary.inputs} inputs: {kept} kept, {dropped} dropped, {failed} failed "
        f"({summary.analysed} analysed now, {summary.seconds} s)"
    )
    for reason, count in sorted(summary.reasons.items(), key=lambda r: (-r[1], r[0])):
        print(f"  {reason:<22} {count}")
    print_work(summary.asked)
    print(f"shards   {summary.out} ({summary.shards} shards: {splits})")
    print(f"report   {summary.out / 'report.html'}")
    print(f"ledger   {summary.work / 'ledger.parquet'} (private: every input with its reason)")
    for note in summary.notes:
        print(f"note: {note}")
