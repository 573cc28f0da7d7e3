"""What the commands around a release print."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unif2ace_data.run.remove import Found
    from unif2ace_data.run.review import Exported, Taken


def print_audit(found: dict[str, Any]) -> None:
    splits = ", ".join(f"{split} {count}" for split, count in found["samples"].items())
    print(f"{splits}; one person from cosine {found['threshold']:g} ({found['pack']})")
    for title, sides in (
        ("one person, by embedding", [*found["splits"], *([found["against"]] if found["against"] else [])]),
        ("nearly one picture, by perceptual hash", found["copies"]),
    ):
        print(title)
        for side in sides:
            nearest = max((pair["cosine"] for pair in side["pairs"]), default=None)
            told = f", nearest {nearest:.3f}" if nearest is not None else ""
            print(f"  {side['a']} and {side['b']}: {side['over']} pair{'s' if side['over'] != 1 else ''}{told}")
    for note in found["notes"]:
        print(f"note: {note}")
    print(f"page     {found['page']} (private)")
    print("no person in two places" if found["holds"] else "PEOPLE IN TWO PLACES")


def print_drawn(drawn: Exported) -> None:
    print(
        f"{drawn.items} items about {drawn.samples} samples, from {drawn.strata_drawn} of {drawn.strata} strata "
        f"({drawn.statements} statements in all)"
    )
    if drawn.items == drawn.statements:
        print("note: that is all there is to ask")
    elif drawn.strata_drawn < drawn.strata:
        print(f"note: with --export {drawn.strata} every stratum has its turn")
    for file in drawn.files:
        print(f"  {file}")


def print_review(out: Path, taken: Taken) -> None:
    report = taken.precision
    print(
        f"{out}: {taken.answers} answers, {taken.new} of them new; {taken.samples_changed} samples changed, "
        f"{taken.disputed} attributes disputed"
    )
    print("precision with its 95 % interval; covers: statements in strata with an answer")
    print(f"  {'':<20} {'right':>12} {'as answered':<18} {'weighted back':<18} covers")
    print_precision("all", report["overall"])
    for part in ("by_attribute", "by_verdict", "by_engine"):
        print(part.replace("_", " "))
        for name, row in report[part].items():
            print_precision(name, row)
    for pair in report["agreement"]:
        k = "not defined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        print(f"{' and '.join(pair['reviewers'])} agree on {pair['agreed']} of {pair['items']} items, kappa {k}")
    for note in taken.notes:
        print(f"note: {note}")
    print(f"report   {taken.precision_file}")
    print(f"root     {taken.root_sha256}")


def print_precision(name: str, row: dict[str, Any]) -> None:
    """One line of 80 characters; a name too long for its column, and what does not count, have their own."""
    if len(name) > 20:
        print(f"  {name}")
        name = ""
    unclear = ", ".join(f"{row[k]} {k.replace('_', ' ')}" for k in ("cannot_tell", "disputed") if row[k])
    if not row["answered"]:
        print(f"  {name:<20} no answer counts ({unclear})")
        return
    shares = " ".join(
        f"{row[k]:.3f} [{row[low]:.2f}, {row[high]:.2f}]"
        for k, low, high in (("precision", "low", "high"), ("weighted", "weighted_low", "weighted_high"))
    )
    covers = f" {row['covers']:>6.0%}" if "covers" in row else ""
    print(f"  {name:<20} {row['right']:>4} of {row['answered']:>4} {shares}{covers}")
    if unclear:
        print(f"  {'':<20} and {unclear}")


def print_found(out: Path, found: list[Found], notes: list[str]) -> None:
    """What `remove` would take out: on stderr, since it is asked about."""
    samples, why = sum(len(f.keys) for f in found), Counter(f.why for f in found)
    said = ", ".join(f"{count} by {name}" for name, count in why.items())
    print(f"{out}: {samples} samples of {len(found)} photographs would go ({said})", file=sys.stderr)
    for entry in found:
        named = ", ".join(entry.keys) or "not in the dataset (dropped before), only in the private folder"
        print(f"  {named}", file=sys.stderr)
        print(f"    {entry.why}, {entry.score:.4g}   {entry.split}   {', '.join(entry.source_ids)}", file=sys.stderr)
        if entry.caption:
            print(f"    {entry.caption}", file=sys.stderr)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def print_receipt(out: Path, receipt: dict[str, Any]) -> None:
    if "keys" in receipt:
        print_removed(out, receipt)
    if "hub" in receipt:
        purged, root = receipt["hub"]["purged"], receipt["hub"]["published"]["root_sha256"]
        print(
            f"Hub      {purged['repo']} holds {root[:12]} alone: {len(purged['tags_deleted'])} tags, "
            f"{len(purged['commits_dropped'])} commits and {len(purged['objects_deleted'])} files of older versions deleted"
        )
        for line in purged["cannot_be_undone"]:
            print(f"  beyond reach: {line}")


def print_removed(out: Path, receipt: dict[str, Any]) -> None:
    print(f"{out}: {len(receipt['keys'])} samples of {receipt['photographs']} photographs removed")
    for shard in receipt["shards"]:
        after = f"{shard['after'][:12]} with {shard['samples_after']}" if shard["after"] else "gone"
        print(f"  {shard['name']:<24} {shard['before'][:12]} with {shard['samples_before']} samples -> {after}")
    print("  private  " + ", ".join(f"{count} {name}" for name, count in receipt["forgotten"].items() if count))
    print(f"root     {receipt['root_before']} -> {receipt['root_after']}")
    if receipt["forgotten"].get("answers_of_unknown_samples"):
        print(
            "note: the journal holds answers of an older version that do not tell whom they are about: "
            "`unif2ace-data build --clean` deletes them all"
        )


def print_published(done: dict[str, Any]) -> None:
    """What `publish` sent, or would send."""
    counts = ", ".join(f"{len(done[name])} {name}" for name in ("new", "changed", "same", "gone"))
    verb = "would send" if done["dry_run"] else "sent"
    print(f"{done['url']}: {counts}; {verb} {done['bytes_to_send']:,} bytes")
    for name in ("new", "changed", "gone") if done["dry_run"] else ():
        for file in done[name][:20]:
            print(f"  {name:<8} {file}")
        if len(done[name]) > 20:
            print(f"           and {len(done[name]) - 20} more")
    if done["kept"]:
        print(f"note: {len(done['kept'])} files there are not of this dataset and stay: {', '.join(done['kept'][:3])}")
    if done["left_here"]:
        print(f"note: {done['left_here']} files here are not in index.json and stay here")
    if done["dry_run"]:
        print(f"then {done['visibility']}; nothing was sent")
        return
    gated = f", gated ({done['gated']})" if done["gated"] else ""
    print(f"{done['visibility']}{gated}, {done['commits']} commits" + (f", tag {done['tag']}" if done["tag"] else ""))
    print(f"commit   {done['commit']}")
    print(f"root     {done['root_sha256']}")
