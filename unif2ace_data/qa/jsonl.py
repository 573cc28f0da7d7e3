"""Questions as JSON lines in the layout of FaceBench's, so that what reads one reads the other.

One line a question: question_id, question_type, image_id, text, options, conditions (none: no question follows from
another), gt_answer, and metadata with image_source, view, attribute and split. TFQ is true/false, SCQ a choice with one
right option (FaceBench's MCQ may have several; none of ours does), OEQ an open question.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.qa.phrasings import phrasings
from unif2ace_data.release.read import sample_records, shard_paths
from unif2ace_data.schema import NOT_VISIBLE
from unif2ace_data.shards import writing

TYPES = {"true_false": "TFQ", "choice_2_3": "SCQ", "choice_4": "SCQ", "open": "OEQ"}
UNSEEN = "Information not visible"  # FaceBench's words for the option


def write_jsonl(out: Path, target: Path) -> int:
    """Write every question of the dataset at `out` to `target`, which appears whole or not at all; how many there were.

    Lines stand in the order of the shards and of the questions in a sample. UserError where `target` cannot be written.
    """
    count = 0
    with writing(target) as file:
        for shard in shard_paths(out):
            for line in itertools.chain.from_iterable(map(lines, sample_records(shard))):
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
    return count


def lines(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One dict for each question of a sample's record."""
    for number, qa in enumerate(record["qa"]):
        yield {
            "question_id": f"{record['uid']}_q{number}",
            "question_type": TYPES[qa["kind"]],
            "image_id": f"{record['uid']}.jpg",
            "text": qa["question"],
            "options": [shown(option) for option in qa["options"]],
            "conditions": {},
            "gt_answer": UNSEEN if qa["value"] == NOT_VISIBLE and qa["options"] else shown(qa["answer"]),
            "metadata": {
                "image_source": record["source"]["dataset"],
                "view": qa["category"].capitalize(),
                "attribute": qa["attribute"],
                "split": record["split"],
            },
        }


def shown(text: str) -> str:
    """The text as FaceBench has it: its words where something cannot be seen, Yes and No with a capital."""
    if text == phrasings().not_visible.option:
        return UNSEEN
    return text.capitalize() if text in ("yes", "no") else text
