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
    """What a model will be asked; of a `plan` with the ranges that what is kept gives its sums."""
    for stage, row in plan["stages"].items():
        tokens = f"{row['prompt_tokens']:,} tokens in + {row['completion_tokens']:,} out"
        print(f"  {stage:<12} {row['requests']:>9,} requests, about {tokens}")

    def counted(name: str) -> str:
        between = f" ({plan['low'][name]:,} to {plan['high'][name]:,})" if "low" in plan else ""
        return f"{plan[name]:,}{between}"

    print(
        f"in all {counted('requests')} requests, about {counted('prompt_tokens')} tokens in + "
        f"{counted('completion_tokens')} out: {duration(plan)} at {plan['rate']:g} requests a second (--rate). "
        f"Not counted: {', '.join(plan['not_foreseen'])}"
    )


def print_plan(told: dict[str, Any]) -> None:
    """A plan, and beside it what happened where the build has run."""
    if "not_compared" in told:
        print(f"plan     not compared: {told['not_compared']}")
        return
    kept, came = told["kept"], told.get("happened")
    print(
        f"planned from {told['sampled']} of {told['inputs']:,} inputs: {kept['samples']:,} kept "
        f"({kept['share']:.1%}, {kept['low']:.1%} to {kept['high']:.1%})" + (f"; came {came['kept']:,}" if came else "")
    )
    for reason, share in list(told["reasons"].items())[:4]:
        print(f"  {reason:<22} {share:.1%}")
    print_times(told)
    disk = (
        f"{bytes_span(told['disk'][part])} {named}" + (f"; came {megabytes(came[part])}" if came else "")
        for part, named in (("shards", "of shards"), ("work", "beside them, private"))
    )
    print("disk     " + "; ".join(disk))
    for what, asked in told["model"].items():
        print(
            f"what a model would be asked for {what}"
            + (" (by `qa-gen`, not by `build`)" if what == "questions" else "")
        )
        print_estimate(asked)
        if what == "captions" and came and came.get("captions"):
            print(
                "came {requests:,} requests, {prompt_tokens:,} tokens in + {completion_tokens:,} out; {journalled:,} more "
                "answers were in the journal".format(**came["captions"])
            )
    print("note: a sample meets few copies of one photograph; duplicates come off what is kept")
    for note in plan_notes(told):
        print(f"note: {note}")


def print_times(told: dict[str, Any]) -> None:
    """A row a stage, and all of them: here, where it was asked for, and as it came."""
    here, there, came = told["here"], told["there"], told.get("happened") or {}
    measured = came.get("stages")
    heads = [f"{told['workers']} workers"]
    if there:
        heads.append(f"{there['workers']} workers" + (f", {there['servers']}x servers" if there["servers"] > 1 else ""))
    print(f"  {'stage':<16}" + "".join(f"{head:>26}" for head in heads) + ("        came" if measured else ""))
    for stage in [*here["stages"], ""]:
        rows = [part["stages"][stage] if stage else part["seconds"] for part in (here, there) if part]
        cells = "".join(f"{span(*row):>26}" for row in rows)
        if measured:
            cells += f"{clock(measured.get(stage, 0.0) if stage else came['seconds']):>12}"
        print(f"  {stage or 'in all':<16}{cells}")


def plan_notes(told: dict[str, Any]) -> list[str]:
    """What the numbers of a plan do not say by themselves."""
    notes = []
    failed, came = told["failed"], told.get("happened")
    if failed["share"] > 0 and failed["high"] > failed["max_failed"] and not came:
        sure = "will stop" if failed["share"] > failed["max_failed"] else "may stop"
        notes.append(
            f"{failed['share']:.1%} of the sample failed technically ({failed['low']:.1%} to {failed['high']:.1%}): `build` "
            f"{sure} before anything is published, at more than alarm.max_failed = {failed['max_failed']:g}. Mend the source, "
            "or accept them with --set alarm.max_failed=1"
        )
    asked = told["model"].get("captions")
    if asked:
        there = told["there"]
        more = f", and {there['servers']} times as many there (--servers)" if there and there["servers"] > 1 else ""
        notes.append(
            f"captioning is arithmetic: its requests at {asked['rate']:g} a second (--rate){more}. Workers do not divide it"
        )
    if came and came["workers"] not in (told["workers"], (told["there"] or {}).get("workers")):
        notes.append(
            f"the build had {came['workers']} workers, and the plan is for {told['workers']}: times differ by that too"
        )
    if came and "stages" not in came:
        notes.append(
            f"times are not compared: this run analysed {came['analysed']:,} of {told['readable']:,} inputs, the others were "
            "done before it"
        )
    return notes


def bytes_span(row: list[float]) -> str:
    return f"{megabytes(row[0])} ({megabytes(row[1])} to {megabytes(row[2])})"


def span(expected: float, low: float, high: float) -> str:
    return f"{clock(expected)} ({clock(low)} to {clock(high)})"


def clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def megabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def duration(plan: dict[str, Any]) -> str:
    rows = [plan, *([plan["low"], plan["high"]] if "low" in plan else [])]
    long = plan["requests"] / plan["rate"] >= 360
    found = [f"{row['hours']}" if long else f"{row['requests'] / plan['rate']:.0f}" for row in rows]
    between = f" ({found[1]} to {found[2]})" if len(found) > 1 else ""
    return f"{found[0]}{between} {'hours' if long else 'seconds'}"


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
