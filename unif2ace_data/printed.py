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


def print_plan(told: dict[str, Any]) -> None:
    """A plan, and beside it what happened where the build has run."""
    kept, here, there, came = told["kept"], told["here"], told["there"], told.get("happened")
    print(
        f"planned from {told['sampled']} of {told['inputs']:,} inputs: {kept['samples']:,} kept "
        f"({kept['share']:.1%}, {kept['low']:.1%} to {kept['high']:.1%})" + (f"; came {came['kept']:,}" if came else "")
    )
    for reason, share in list(told["reasons"].items())[:4]:
        print(f"  {reason:<22} {share:.1%}")
    heads = [f"{told['workers']} workers", *([f"{there['workers']} workers"] if there else [])]
    print(f"  {'stage':<16}" + "".join(f"{head:>26}" for head in heads) + ("        came" if came else ""))
    for stage in [*here["stages"], ""]:
        rows = [part["stages"][stage] if stage else part["seconds"] for part in (here, there) if part]
        came_in = (came["stages"].get(stage, 0.0) if stage else came["seconds"]) if came else None
        cells = "".join(f"{span(*row):>26}" for row in rows)
        print(f"  {stage or 'in all':<16}{cells}" + (f"{clock(came_in):>12}" if came_in is not None else ""))
    shards, low, high = told["disk"]["shards"]
    print(
        f"disk     {megabytes(shards)} of shards ({megabytes(low)} to {megabytes(high)})"
        + (f"; came {megabytes(came['shards'])}" if came else "")
        + f"; {megabytes(told['disk']['work'])} beside them, private"
        + (f"; came {megabytes(came['work'])}" if came else "")
    )
    for what, asked in told["model"].items():
        print(f"what a model would be asked for {what}")
        print_estimate(asked)
    print("note: a sample meets few copies of one photograph; duplicates come off what is kept")


def span(expected: float, low: float, high: float) -> str:
    return f"{clock(expected)} ({clock(low)} to {clock(high)})"


def clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def megabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def duration(plan: dict[str, Any]) -> str:
    seconds = plan["requests"] / plan["rate"]
    return f"{plan['hours']} hours" if seconds >= 360 else f"{seconds:.0f} seconds"


def print_mirror(done: dict[str, Any]) -> None:
    """What `build --out URL` sent."""
    there = f", {done['visibility']}" if "visibility" in done else ""
    print(
        f"mirror   {done['url']}: {done['sent']} files sent ({megabytes(done['bytes_sent'])}), {done['same']} there already, "
        f"{done['gone']} removed{there}"
    )


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
