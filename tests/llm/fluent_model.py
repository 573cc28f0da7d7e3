"""A model that answers every prompt of the toolkit sensibly, from the prompt alone: for tests of the way, not of a model.

It writes a draft from the photograph's bytes (as random as a first look), takes the measured facts over when it refines,
and lists, asks and answers from what the prompts hold.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import orjson
from scripted_server import Reply, completion

HAIR = ["The hair is brown.", "The hair is black.", "Gray hair frames the face.", "The hair is blond."]
MOUTH = ["The mouth is closed.", "The lips are parted.", "A broad smile shows the teeth.", "There is no smile."]
LOOK = ["The eyes look straight into the camera.", "The gaze goes past the camera."]


def fluent(body: dict[str, Any], number: int = 0) -> Reply:
    stage = body["response_format"]["json_schema"]["name"]
    content = body["messages"][1]["content"]
    prompt = content[-1]["text"]
    return completion(orjson.dumps(ANSWERS[stage](prompt, content)).decode())


def draft(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    picture = base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])
    mark = hashlib.sha256(picture).digest()
    said = [texts[mark[i] % len(texts)] for i, texts in enumerate((HAIR, MOUTH, LOOK))]
    return {"caption": f"A person is seen from close by. {' '.join(said)}"}


def refine(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    text = prompt.split("Description: ")[1].split("\n")[0]
    facts = dict(re.findall(r"^- ([a-z ]+): (.+)$", prompt, re.MULTILINE))
    extra = [f"The person wears {facts['glasses']}."] if "glasses" in facts else []
    return {"caption": " ".join([text, *extra])}


def claims(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    text = prompt.split("Description: ")[1]
    return {
        "claims": [{"states": "mouth=closed", "negated": False, "quote": "mouth is closed"}]
        if "mouth is closed" in text
        else []
    }


def repair(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"caption": prompt.split("Description: ")[1].split("\n")[0]}  # it insists


def recheck(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"answers": ["cannot_tell"] * len(re.findall(r"^\d+\. ", prompt, re.MULTILINE))}


def facts_in(prompt: str) -> dict[str, str]:
    return dict(re.findall(r"^- ([a-z ]+): (.+)$", prompt, re.MULTILINE))


def qa(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    facts, questions = facts_in(prompt), []
    if "mouth" in facts:
        other = "parted" if facts["mouth"] == "closed" else "closed"
        shape = {"kind": "choice_2_3", "states": f"mouth={facts['mouth']}", "answer": facts["mouth"]}
        questions.append(
            {**shape, "question": "How does the person hold the mouth?", "options": [facts["mouth"], other]}
        )
        # The same again in other words, one that gives itself away, and one that may not be asked.
        questions.append({**shape, "question": "Is the mouth closed or parted?", "options": [other, facts["mouth"]]})
    if "emotion" in facts:
        shape = {"kind": "open", "options": [], "answer": facts["emotion"]}
        questions.append(
            {**shape, "states": f"emotion={facts['emotion']}", "question": "Which feeling does the face show?"}
        )
    questions.append(
        {
            "kind": "open",
            "states": "young=no",
            "question": "Of which ethnicity is the person?",
            "options": [],
            "answer": "unknown",
        }
    )
    return {"questions": questions}


def numbered(prompt: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in prompt.splitlines():
        if match := re.match(r"^\d+\. (.+)$", line):
            found.append((match[1], []))
        elif found and (match := re.match(r"^   [A-D]\. (.+)$", line)):
            found[-1][1].append(match[1])
    return found


def qa_derive(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    values = set(facts_in(prompt).values())
    answers = []
    for _, options in numbered(prompt):
        right = ["ABCD"[i] for i, option in enumerate(options) if option in values]
        answers.append(
            right[0] if len(right) == 1 else "several" if right else facts_in(prompt).get("emotion", "cannot_tell")
        )
    return {"answers": answers}


def qa_blind(prompt: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"answers": ["cannot_tell" for _ in numbered(prompt)]}


ANSWERS = {f.__name__: f for f in (draft, refine, claims, repair, recheck, qa, qa_derive, qa_blind)}
