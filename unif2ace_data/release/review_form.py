"""The drawn items as something to answer: one HTML page that needs no network, or tasks for Label Studio.

Neither shows what the dataset says of an item (verdict, confidence, who measured it): whoever looks shall not be led.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.curate.review import INITIALS, KIND, NONE_OF_THESE, Item, other_values
from unif2ace_data.release.page import page_template
from unif2ace_data.shards import write_bytes
from unif2ace_data.taxonomy import load_taxonomy

FORM, TASKS, CONFIG = "review.html", "review.labelstudio.json", "review.labelstudio.xml"

LABELLING = f"""<View>
  <Header value="$question"/>
  <Image name="image" value="$image"/>
  <Choices name="answer" toName="image" choice="single-radio" required="true" showInLine="true">
    <Choice value="yes" hotkey="y"/>
    <Choice value="no" hotkey="n"/>
    <Choice value="cannot_tell" hotkey="c"/>
  </Choices>
  <View visibleWhen="choice-selected" whenTagName="answer" whenChoiceValue="no">
    <Header value="What is right? (nothing chosen counts as: {NONE_OF_THESE})"/>
    <Choices name="right" toName="image" choice="single-radio" value="$options"/>
  </View>
</View>
"""


def write_forms(folder: Path, root: str, name: str, items: Sequence[Item], pictures: Mapping[str, bytes]) -> list[Path]:
    """Write the form, the tasks and their labelling config into `folder`; `pictures`: sample key -> JPEG.

    The items of one sample stand together, in the order in which the draw first met it.
    """
    together = grouped(items)
    template = page_template("review")
    uris = {key: data_uri(jpeg) for key, jpeg in pictures.items()}
    form = {
        "kind": KIND,
        "root_sha256": root,
        "initials": INITIALS.pattern,
        "items": [{**asked(item), "picture": list(uris).index(item.key)} for item in together],
    }
    page = template.render(
        name=name, root=root, form=form, pictures=list(uris.values()), count=len(together), none_of_these=NONE_OF_THESE
    )
    tasks = [
        {
            "data": {
                **asked(item),
                "options": [{"value": v} for v in [*other_values(item.attribute, item.value), NONE_OF_THESE]],
                "root_sha256": root,
                "image": uris[item.key],
            }
        }
        for item in together
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / FORM, page.encode())
    write_bytes(folder / TASKS, orjson.dumps(tasks, option=orjson.OPT_INDENT_2) + b"\n")
    write_bytes(folder / CONFIG, LABELLING.encode())
    return [folder / FORM, folder / TASKS, folder / CONFIG]


def grouped(items: Sequence[Item]) -> list[Item]:
    place: dict[str, int] = {}
    for item in items:
        place.setdefault(item.key, len(place))
    return sorted(items, key=lambda item: place[item.key])  # stable: within a sample as they were drawn


def asked(item: Item) -> dict[str, Any]:
    """The question as people get it. `options`: (value, its words) of what may be right instead; of a question that names
    no value there is nothing to choose."""
    entry = load_taxonomy()[item.attribute]
    options = other_values(item.attribute, item.value) if "{value}" in entry.yes_no else []
    return {
        "key": item.key,
        "attribute": item.attribute,
        "value": item.value,
        "question": entry.asks(item.value),
        "which": entry.which,
        "options": [[value, entry.said(value)] for value in options],
    }


def data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
