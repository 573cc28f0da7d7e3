"""DATASHEET.md: the seven parts of a datasheet for datasets, answered from the data where the data knows.

What only people know stands in marked blocks, which survive every regeneration:

    <!-- people: motivation-why -->
    Because …
    <!-- /people -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unif2ace_data.errors import UserError
from unif2ace_data.release.fairness import balance_rows, warning_lines
from unif2ace_data.release.report import REASON_TEXT
from unif2ace_data.shards import write_bytes

MARK = re.compile(r"^<!-- (?:people: (?P<id>[a-z0-9-]+)|(?P<end>/people)) -->[ \t]*$", re.MULTILINE)
OPEN = "_Not answered yet._"
UNSAID = "not stated"  # by the manifest of a source
FIGURE = re.compile(r"[\d.,]+(?: %)?")
People = Callable[[str, str], str]  # block id, question -> Markdown with the block


def write_datasheet(
    target: Path, stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]]
) -> None:
    """Write the datasheet to `target`, with the people's blocks of the file that is there already.

    stats: compute_stats; recipe: the resolved recipe; manifests: those of the sources, in the recipe's order.
    Raises UserError where a block of the present file is not closed, or stands there twice.
    """
    text = datasheet_text(stats, recipe, manifests, people_blocks(target))
    write_bytes(target, text.encode("utf-8", "replace"))


def datasheet_text(
    stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]], answers: dict[str, str]
) -> str:
    """The whole datasheet; answers: block id -> what people wrote there."""
    asked: list[str] = []
    people = asking(answers, asked)
    parts = [
        motivation(people),
        composition(people, stats),
        collection(people, stats, recipe, manifests),
        preprocessing(people, stats, recipe),
        uses(people),
        distribution(people, stats, manifests),
        maintenance(people, stats, manifests),
        *former_answers(people, answers, asked),
    ]
    unanswered = sum(answers.get(block, OPEN).strip() in ("", OPEN) for block in asked)
    head = (
        f"# Datasheet: {md(recipe.get('name', 'dataset'))}\n\n"
        f"Every build writes this file anew, except what stands between `people` marks: that is yours to fill in, and "
        f"it stays. Open questions: {unanswered} of {len(asked)}."
    )
    return "\n\n".join([head, *parts]) + "\n"


# ------------------------------------------------------------------ people's blocks


def asking(answers: dict[str, str], asked: list[str]) -> People:
    """A function that writes a question with its block, filled with the answer at hand; it notes the block in `asked`."""

    def people(block: str, question: str) -> str:
        asked.append(block)
        return f"**{question}**\n\n<!-- people: {block} -->\n{answers.get(block, OPEN)}\n<!-- /people -->"

    return people


def former_answers(people: People, answers: dict[str, str], asked: list[str]) -> list[str]:
    """Answers to what is not asked any more, under a heading; nothing where there are none."""
    former = [block for block in answers if block not in asked]
    return ["\n\n".join(["## Answers to questions no longer asked", *(people(b, b) for b in former)])] if former else []


def people_blocks(target: Path) -> dict[str, str]:
    """Id -> text of each block between people's marks; empty where there is no file. Raises UserError where one is damaged."""
    text = target.read_text("utf-8", "replace") if target.is_file() else ""
    found: dict[str, str] = {}
    current, start = "", 0
    for mark in MARK.finditer(text):
        line = text.count("\n", 0, mark.start()) + 1
        if (mark["end"] is None) == bool(current):
            raise UserError(
                f"{target}, line {line}: people's blocks do not nest, and each needs one `<!-- /people -->`"
            )
        if mark["end"]:
            found[current] = text[start : mark.start()].strip("\n")
            current = ""
        elif mark["id"] in found:
            raise UserError(f"{target}, line {line}: the block `{mark['id']}` stands there twice; keep one")
        else:
            current, start = mark["id"], mark.end()
    if current:
        raise UserError(f"{target}: the block `{current}` is not closed; end it with `<!-- /people -->`")
    return found


# ------------------------------------------------------------------ the seven parts


def motivation(people: People) -> str:
    return "\n\n".join(
        [
            "## Motivation",
            people("motivation-why", "What is this dataset for, and which gap does it fill?"),
            people("motivation-who", "Who made it, for whom?"),
            people("motivation-funding", "Who paid for it?"),
        ]
    )


def composition(people: People, stats: dict[str, Any]) -> str:
    faces, photos = stats["distributions"]["face_px"], stats["distributions"]["source_px"]
    captions, claims = stats["captions"], stats["claims"]
    splits = [(s, n["samples"], n["shards"], f"{n['bytes'] / 1e6:,.2f}") for s, n in stats["splits"].items()]
    attributes = []
    for entry in stats["attributes"]:
        commonest = ", ".join(f"{value['value']} {percent(value['share'])}" for value in entry["values"][:6])
        attributes.append((entry["name"], entry["group"], percent(entry["share"]), commonest))
    return "\n\n".join(
        [
            "## Composition",
            "**What is a sample?** A JPEG of one face with its surroundings, a JSON record (source, face, attributes "
            "with their evidence, caption, claims, questions) and the caption as text.",
            f"**How many are there?** {stats['kept']:,}, out of {stats['inputs']:,} inputs.",
            table(("split", "samples", "shards", "MB"), splits),
            "Samples of one person, as far as face embeddings can tell, lie in one split. "
            f"Faces measure {faces['min']:g} to {faces['max']:g} pixels (mean {faces['mean']:g}); the shorter sides of "
            f"their photographs {photos['min']:g} to {photos['max']:g} (mean {photos['mean']:g}).",
            f"**What is said of each?** {stats['attributes_per_sample']} attributes on average; a caption of "
            f"{captions['tokens_mean']} tokens (words and punctuation marks; {captions['tokens_min']} to "
            f"{captions['tokens_max']}) that states {captions['attributes_per_caption']} of them; "
            f"{stats['qa']['per_sample']} questions with answers.",
            table(("attribute", "group", "samples", "commonest values (share of all samples)"), attributes),
            f"**How far can that be trusted?** Of {claims['total']:,} claims in captions {claims['supported']:,} are "
            f"supported by evidence, {claims['contradicted']:,} contradicted, {claims['unverified']:,} unverified. "
            "Attributes describe what a face looks like in one picture; apparent age and apparent gender are not facts "
            "about a person.",
            "**Does it hold what could identify or harm somebody?** Faces, which identify. No face embeddings, no "
            "measurements of skin tone, and nothing that infers ethnicity, religion, orientation or a name.",
            *groups(stats),
            *notes(stats),
            people("composition-gaps", "What is missing, wrong or lopsided in it, and who is hardly in it?"),
        ]
    )


def groups(stats: dict[str, Any]) -> list[str]:
    """Who is in it by apparent group, and which filters removed one group more than the others."""
    rows, warned = balance_rows(stats), warning_lines(stats)
    if not rows:
        return []
    uneven = ["\n".join(["**Filters that removed one group markedly more:**", "", *(f"- {md(w)}" for w in warned)])]
    return [
        f"**Who is in it?** By what the measurements make of the pictures; groups of fewer than "
        f"{stats['fairness']['min_count']} are left out.",
        table(("by", "group", "samples", "share", "attributes a sample", "questions a sample"), rows),
        *(
            uneven
            if warned
            else ["No filter removed one group markedly more than the others (stats.json: `fairness`)."]
        ),
    ]


def notes(stats: dict[str, Any]) -> list[str]:
    lines = [f"- {md(note)}" for note in stats["notes"]]
    return ["\n".join(["**What the build said:**", "", *lines])] if lines else []


def collection(people: People, stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]]) -> str:
    sources = []
    for manifest in unique(manifests):
        counts = stats["datasets"].get(manifest.get("name", ""), {})
        sums = (counts.get(status, 0) for status in ("kept", "dropped", "failed"))
        sources.append((manifest.get("name", ""), *sums, said(manifest, "title")))
    return "\n\n".join(
        [
            "## Collection process",
            "**Where do the photographs come from?**",
            table(("source", "kept", "dropped", "failed", "what it is"), sources),
            people("collection-how", "Who collected them, how, when, and how were they chosen?"),
            "**Are there minors among the people shown?** " + subjects(stats, recipe, manifests),
            people("collection-consent", "Do the people shown know, did they agree, and how can they withdraw?"),
            people("collection-review", "Was there an ethical review, or an assessment of the effect on those shown?"),
        ]
    )


def subjects(stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]]) -> str:
    """Who says that only adults are shown: the builder, a source's manifest, the gate, or nobody."""
    gate = (recipe.get("filters") or {}).get("adult")
    stopped = sum(step["rows"] for step in stats["reasons"] if step["reason"] == "adult")
    if recipe.get("subjects") == "adults":
        return (
            "The builder vouched that the sources show adults only (`subjects: adults`); the adult gate was not asked."
        )
    vouched = [md(m.get("name", "")) for m in unique(manifests) if m.get("subjects") == "adults"]
    text = f"The manifests of {', '.join(vouched)} vouch that these sources show adults only. " if vouched else ""
    if gate is None:
        return (
            text
            + "**The adult gate was switched off"
            + (" for the others" if vouched else "")
            + ", and nobody vouched.**"
        )
    return (
        f"{text}{'For the others nobody' if vouched else 'Nobody'} vouched, so the adult gate decided from apparent "
        f"age: {settings(gate)}. It kept {stopped:,} faces out. It fails closed, and it is an estimate all the same."
    )


def preprocessing(people: People, stats: dict[str, Any], recipe: dict[str, Any]) -> str:
    faces, duplicates = recipe.get("faces") or {}, recipe.get("duplicates") or {}
    filters = []
    for name, limit in (recipe.get("filters") or {}).items():
        threshold = settings(limit) if limit is not None else "off"
        if name == "adult" and recipe.get("subjects") == "adults":
            threshold = "not asked: the builder vouched"
        filters.append((name, threshold, REASON_TEXT.get(name, "")))
    reasons = [(r["reason"], r["status"], r["rows"]) for r in stats["reasons"]]
    models = sorted(leaves((recipe.get("resolved") or recipe).get("models") or {}))
    align = faces.get("align") or {}
    return "\n\n".join(
        [
            "## Preprocessing, cleaning, labelling",
            f"**What was done to the photographs?** Faces were found with `{md(faces.get('engine', ''))}`, filtered, "
            f"cut out ({md(align.get('mode', ''))} alignment, at most {align.get('size', '')} pixels a side, never "
            f"enlarged) and stored as JPEG of quality {align.get('quality', '')}.",
            table(("filter", "threshold", "drops"), filters),
            f"Duplicates: {md(settings(duplicates))}.",
            "**What was left out?**",
            table(("reason", "status", "rows"), reasons),
            "**Who labelled?** Models and the sources' own annotations; each attribute names its evidence. Captions: "
            + "; ".join(f"{md(engine)} ({count:,})" for engine, count in stats["captions"]["engines"].items())
            + ".",
            table(("model", "SHA-256"), models),
            "**Is the raw material still there?** Each sample names its source and the SHA-256 of the source's bytes; "
            "recipe.yaml holds every setting.",
            people("preprocessing-more", "What else was done by hand, before or after?"),
        ]
    )


def uses(people: People) -> str:
    return "\n\n".join(
        [
            "## Uses",
            people("uses-known", "What has it been used for, and what is it fit for?"),
            people("uses-unfit", "What should nobody use it for?"),
            "It ships no embeddings to recognise people by. Attributes are appearances in one picture; they say "
            "nothing about character, health, or fitness for anything.",
        ]
    )


def distribution(people: People, stats: dict[str, Any], manifests: list[dict[str, Any]]) -> str:
    licences = [(name or "not stated", count) for name, count in stats["licences"].items()]
    terms = [
        (m.get("name", ""), said(m, "licence") or UNSAID, said(m, "attribution") or UNSAID) for m in unique(manifests)
    ]
    return "\n\n".join(
        [
            "## Distribution",
            "**Under which licences are the photographs?** Each sample carries its own; "
            f"{stats['samples_with_author']:,} of {stats['kept']:,} name an author to be credited.",
            table(("licence", "samples"), licences),
            table(("source", "licence", "attribution"), terms),
            people("distribution-terms", "Who may have it, where, under which terms?"),
            people("distribution-law", "Do other laws or contracts bind it (export, privacy, biometrics)?"),
        ]
    )


def maintenance(people: People, stats: dict[str, Any], manifests: list[dict[str, Any]]) -> str:
    routes = [(m.get("name", ""), said(m, "removal") or UNSAID) for m in unique(manifests)]
    return "\n\n".join(
        [
            "## Maintenance",
            people("maintenance-contact", "Who keeps it, and how can they be reached?"),
            people("maintenance-removal", "How does somebody shown here get their picture removed, and how fast?"),
            table(("source", "removal route of the source"), routes),
            people("maintenance-versions", "How often will it change, and what happens to earlier versions?"),
            f"Schema {stats['schema_version']}; index.json holds the hash of every file and tells versions apart.",
        ]
    )


# ------------------------------------------------------------------ Markdown


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """A Markdown table; numbers stand right. Without rows: "none"."""
    rows = list(rows)
    if not rows:
        return f"{head[0]}: none."
    right = ["---:" if FIGURE.fullmatch(str(cell)) else "---" for cell in rows[0]]
    cells = ([f"{c:,}" if isinstance(c, int) else md(c) for c in line] for line in (head, right, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def md(text: Any) -> str:
    """Text that Markdown takes as text: on one line, no cell ends, no tags, no people's marks."""
    return " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def settings(mapping: dict[str, Any]) -> str:
    """Thresholds as `min 40, max 90`; what is null has the engine's own value."""
    return ", ".join(f"{k} {f'{v:g}' if isinstance(v, float) else v}" for k, v in mapping.items() if v is not None)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def said(manifest: dict[str, Any], name: str) -> str:
    """A manifest's field as one line, whether it is a text or a mapping of texts."""
    value = manifest.get(name) or ""
    if isinstance(value, dict):
        return "; ".join(str(part) for part in value.values() if part not in (None, "", [], {}))
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def unique(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each manifest once, in order: several sources may share one."""
    return list({str(m.get("name", "")): m for m in manifests}.values())


def leaves(tree: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """(dotted name, value) of the leaves of nested mappings."""
    found: list[tuple[str, str]] = []
    for name, value in tree.items():
        where = f"{above}.{name}" if above else str(name)
        found += leaves(value, where) if isinstance(value, dict) else [(where, str(value))]
    return found
