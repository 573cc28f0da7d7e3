"""What is drawn for people, and the reading of what they answer."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest

from unif2ace_data.curate.review import (
    NO_RECORD,
    Item,
    answered_draw,
    asked_value,
    band,
    check_asked,
    draw_items,
    items_of,
    packed_draw,
    read_answers,
    unpacked_draw,
)
from unif2ace_data.errors import UserError
from unif2ace_data.release.review_form import FORM, LABELLING, TASKS, write_forms
from unif2ace_data.schema import Attribute, Captioner, Claim, Evidence, Sample
from unif2ace_data.taxonomy import load_taxonomy

ROOT = "ab" * 32


def record(
    name: str, value: str, confidence: float = 0.99, validated: bool = True, by: str = "face_landmarker"
) -> Attribute:
    return Attribute(
        name=name, group=load_taxonomy()[name].group, value=value, confidence=confidence, validated=validated,
        evidence=Evidence(by=by),
    )  # fmt: skip


def claim(name: str, value: str, verdict: Any = "supported", negated: bool = False) -> Claim:
    return Claim(attribute=name, value=value, negated=negated, span=[0, 1], verdict=verdict)


def sample(key: str, attributes: list[Attribute], claims: list[Claim], engine: str = "grounded") -> Sample:
    written = Captioner(engine=engine, model="" if engine == "grounded" else "m", revision="", prompt_sha256="")
    return Sample.model_construct(uid=key, attributes=attributes, claims=claims, captioner=written)


def many(count: int) -> list[Sample]:
    """Common things, and a rare one in every tenth sample."""
    found = []
    for i in range(count):
        attributes = [record("smile", ("none", "broad")[i % 2]), record("mouth", "closed", 0.85)]
        claims = [claim("smile", ("none", "broad")[i % 2])]
        if i % 10 == 0:
            claims.append(claim("hair_color", "red", "unverified"))
        found.append(sample(f"{i:032x}", attributes, claims))
    return found


# ------------------------------------------------------------------ items and strata


def test_an_item_knows_its_stratum_and_who_stands_behind_it() -> None:
    one = sample(
        "k",
        [
            record("smile", "broad", 0.95),
            record("mouth", "closed", 0.7, validated=False),
            record("glasses", "none", 0.99),
        ],
        [claim("smile", "broad"), claim("hair_color", "red", "unverified")],
        engine="openai",
    )
    found = {item.attribute: (item.value, item.stratum[1:], item.statements) for item in items_of(one)}
    assert found == {
        "smile": (
            "broad", ("supported", "0.90 to 0.98"), (("face_landmarker", False), ("caption by openai m", False)),
        ),
        "mouth": ("closed", ("not_validated", "under 0.90"), (("face_landmarker", False),)),
        "glasses": ("none", ("measured", "0.98 and over"), (("face_landmarker", False),)),
        "hair_color": ("red", ("unverified", NO_RECORD), (("caption by openai m", False),)),
    }  # fmt: skip


def test_a_denial_and_a_value_no_are_asked_as_the_plain_question() -> None:
    one = sample("k", [record("smiling", "no")], [claim("smiling", "no"), claim("smile", "broad", negated=True)])
    found = {item.attribute: (item.value, item.statements) for item in items_of(one)}
    assert found["smiling"] == ("yes", (("face_landmarker", True), ("caption by grounded", True)))
    assert found["smile"] == ("broad", (("caption by grounded", True),))


def test_a_question_that_names_no_value_asks_about_the_last_one() -> None:
    for entry in load_taxonomy().attributes.values():
        if "{value}" not in entry.yes_no:
            assert len(entry.values) == 2 and entry.values[0] in ("no", "none")
            assert asked_value(entry, entry.values[0]) == (entry.values[1], True)


def test_what_people_have_settled_is_not_asked_again() -> None:
    one = sample(
        "k", [record("smile", "broad", 1.0, by="people:ab")], [claim("smile", "broad"), claim("mouth", "closed")]
    )
    assert [item.attribute for item in items_of(one)] == ["mouth"]


def test_bands_are_closed_below() -> None:
    assert [band(c) for c in (0.0, 0.8999, 0.9, 0.9799, 0.98, 1.0)] == [
        "under 0.90", "under 0.90", "0.90 to 0.98", "0.90 to 0.98", "0.98 and over", "0.98 and over",
    ]  # fmt: skip


# ------------------------------------------------------------------ the draw


def test_every_stratum_has_its_turn_the_rare_one_too() -> None:
    draw = draw_items(ROOT, many(100), 9)
    counts = Counter(item.stratum for item in draw.items)
    assert sorted(counts.values()) == [3, 3, 3] and counts["hair_color", "unverified", NO_RECORD] == 3
    assert draw.sizes == {
        ("smile", "supported", "0.98 and over"): 100,
        ("mouth", "measured", "under 0.90"): 100,
        ("hair_color", "unverified", NO_RECORD): 10,
    }
    more = Counter(item.stratum for item in draw_items(ROOT, many(100), 50).items)
    assert sorted(more.values()) == [10, 20, 20]  # what the rare one has not, the others give


def test_the_draw_is_the_same_however_the_samples_come_and_a_larger_one_holds_it() -> None:
    small, large = draw_items(ROOT, many(60), 12), draw_items(ROOT, many(60)[::-1], 40)
    assert large.items[:12] == small.items
    assert draw_items("cd" * 32, many(60), 12).items != small.items


def test_more_than_there_is_gives_all_of_it_once() -> None:
    draw = draw_items(ROOT, many(20), 1000)
    assert len(draw.items) == len({item.asked for item in draw.items}) == sum(draw.sizes.values()) == 42
    assert draw_items(ROOT, [], 5).items == []


def test_a_draw_is_kept_and_told_from_a_copy_of_the_dataset() -> None:
    draw = draw_items(ROOT, many(30), 10)
    assert unpacked_draw(ROOT, packed_draw(draw)) == draw
    again = answered_draw(ROOT, many(30), {item.asked for item in draw.items})
    assert again.sizes == draw.sizes and {i.asked for i in again.items} == {i.asked for i in draw.items}


# ------------------------------------------------------------------ the forms


def forms(folder: Path, items: list[Item]) -> list[Path]:
    return write_forms(folder, ROOT, "small", items, {item.key: b"\xff\xd8 a jpeg" for item in items})


def test_the_form_is_whole_in_itself_and_leads_nobody(tmp_path: Path) -> None:
    items = draw_items(ROOT, many(30), 9).items
    assert [p.name for p in forms(tmp_path, items)] == [
        "review.html",
        "review.labelstudio.json",
        "review.labelstudio.xml",
    ]
    page, tasks = (tmp_path / FORM).read_text(), (tmp_path / TASKS).read_text()
    assert (
        "default-src 'none'" in page
        and not re.search(r'(src|href)="(?!data:)', page)
        and "//" not in tasks.replace("data:", "")
    )
    for word in ("supported", "unverified", "face_landmarker", "confidence", "grounded", "under 0.90"):
        assert word not in page and word not in tasks
    form = orjson.loads(re.search(r'<script type="application/json" id="form">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert len(form["items"]) == 9 and form["root_sha256"] == ROOT
    keys = [item["key"] for item in form["items"]]
    assert sum(a != b for a, b in pairwise(keys)) == len(set(keys)) - 1  # a sample's items together
    hair = next(item for item in form["items"] if item["attribute"] == "hair_color")
    assert hair["question"] == load_taxonomy()["hair_color"].asks("red")
    assert [v for v, _ in hair["options"]] == [v for v in load_taxonomy()["hair_color"].values if v != "red"]


def test_nothing_in_a_name_becomes_markup(tmp_path: Path) -> None:
    items = draw_items(ROOT, many(3), 2).items
    write_forms(tmp_path, ROOT, "</script><b>x", items, {item.key: b"" for item in items})
    assert "<b>x" not in (tmp_path / FORM).read_text()


# ------------------------------------------------------------------ reading


def written(path: Path, data: Any) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else orjson.dumps(data))
    return path


def form_of(*answers: dict[str, str], **changes: Any) -> dict[str, Any]:
    return {"kind": "unif2ace-review", "root_sha256": ROOT, "reviewer": "ab", "answers": list(answers), **changes}


YES = {"key": "k", "attribute": "smile", "value": "broad", "answer": "yes", "right": ""}
NO = {**YES, "answer": "no", "right": "none"}


def test_the_forms_file_is_read(tmp_path: Path) -> None:
    found = read_answers(written(tmp_path / "a.json", form_of(YES, {**NO, "key": "l"}, YES)))
    assert found.root == ROOT and [(r, a.key, a.answer, a.right) for r, a in found.answers] == [
        ("ab", "k", "yes", ""), ("ab", "l", "no", "none"),
    ]  # fmt: skip


def test_no_to_a_question_that_names_no_value_says_which_is_right(tmp_path: Path) -> None:
    plain = {"key": "k", "attribute": "smiling", "value": "yes", "answer": "no", "right": ""}
    gender = {"key": "k", "attribute": "apparent_gender", "value": "male", "answer": "no", "right": ""}
    found = read_answers(written(tmp_path / "a.json", form_of(plain, gender)))
    assert [a.right for _, a in found.answers] == ["no", ""]  # who is no man need not look like a woman


def test_label_studios_export_is_read(tmp_path: Path) -> None:
    def task(key: str, by: Any, answer: str, right: str = "", **more: Any) -> dict[str, Any]:
        data = {
            "root_sha256": ROOT,
            "key": key,
            "attribute": "smile",
            "value": "broad",
            "image": "data:",
            "options": [],
        }
        result = [
            {"id": "x", "from_name": "answer", "to_name": "image", "type": "choices", "value": {"choices": [answer]}}
        ]
        if right:
            result.append({"from_name": "right", "to_name": "image", "type": "choices", "value": {"choices": [right]}})
        return {"id": 1, "data": data, "annotations": [{"id": 2, "completed_by": by, "result": result, **more}]}

    tasks = [
        task("k", 3, "no", "none"),
        task("l", {"id": 4, "email": "somebody@example.org"}, "no", "none of these, or cannot tell"),
        task("m", 3, "cannot_tell"),
        task("n", 3, "yes", was_cancelled=True),
    ]
    found = read_answers(written(tmp_path / "ls.json", tasks))
    assert [(r, a.key, a.answer, a.right) for r, a in found.answers] == [
        ("ls3", "k", "no", "none"), ("ls4", "l", "no", ""), ("ls3", "m", "cannot_tell", ""),
    ]  # fmt: skip
    config = ElementTree.fromstring(LABELLING)
    answers, right = config.findall(".//Choices")
    assert [c.get("value") for c in answers] == ["yes", "no", "cannot_tell"] and right.get("value") == "$options"
    assert [c.get("name") for c in (answers, right)] == ["answer", "right"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{not json", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "holds no answers"),
        (b"3", "no file of answers"),
        ([{"data": {}}], "no file of answers: data.root_sha256: Field required"),
        ({"kind": "something"}, "no file of answers: kind"),
        (form_of(YES, surprise=1), "surprise: Extra inputs"),
        (form_of(), "holds no answers"),
        (form_of({**YES, "answer": "maybe"}), "answers.0.answer"),
        (form_of({**YES, "key": 3}), "answers.0.key"),
        (form_of({**YES, "attribute": "soul"}), "there is no such attribute"),
        (form_of({**YES, "value": "huge"}), "there is no value 'huge'; here may stand none"),
        (form_of({**NO, "right": "huge"}), "there is no value 'huge'"),
        (form_of({**NO, "right": "broad"}), "wrong and right"),
        (form_of({**YES, "right": "none"}), "goes with the answer no"),
        (form_of({**YES, "value": ""}), "value is empty"),
        (form_of(YES, NO), "in two ways"),
        (form_of(YES, reviewer="Some Body"), "initials are 1 to 12"),
        (form_of(YES, reviewer=""), "initials are 1 to 12"),
    ],
)
def test_what_is_no_file_of_answers_is_one_clear_line(tmp_path: Path, data: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_answers(written(tmp_path / "a.json", data))
    assert caught.value.exit_code == 2 and says in caught.value.message and "\n" not in caught.value.message


def test_a_file_that_is_not_there_and_one_about_two_datasets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_answers(tmp_path / "none.json")
    tasks = [
        {
            "data": {**{k: YES[k] for k in ("key", "attribute", "value")}, "root_sha256": root},
            "annotations": [
                {
                    "completed_by": 1,
                    "result": [{"from_name": "answer", "type": "choices", "value": {"choices": ["yes"]}}],
                }
            ],
        }
        for root in (ROOT, "cd" * 32)
    ]
    with pytest.raises(UserError, match="about several datasets"):
        read_answers(written(tmp_path / "ls.json", tasks))


def test_only_what_was_asked_is_taken(tmp_path: Path) -> None:
    draw = draw_items(ROOT, many(10), 100)
    key = draw.items[0].key
    for change, says in (({"key": "f" * 32}, "was not asked about"), ({"key": key, "value": "slight"}, "smile=slight")):
        found = read_answers(written(tmp_path / "a.json", form_of({**YES, **change})))
        with pytest.raises(UserError, match=says) as caught:
            check_asked(tmp_path / "a.json", found, draw)
        assert caught.value.exit_code == 2
