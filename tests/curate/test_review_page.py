"""The review form in a real browser, where the machine has one; its script is at least parsed where node is."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from unif2ace_data.curate.review import NONE_OF_THESE, Item, read_answers
from unif2ace_data.release.review_form import FORM, write_forms

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = "ab" * 32
STRATUM = ("smile", "supported", "0.98 and over")
ITEMS = [
    Item("a" * 32, "smile", "broad", STRATUM, ()),
    Item("a" * 32, "smiling", "yes", STRATUM, ()),
    Item("b" * 32, "hair_color", "red", STRATUM, ()),
    Item("b" * 32, "mouth", "closed", STRATUM, ()),
]

# Presses keys as a person would, saves, reloads, and leaves what was seen in the page for us to read.
PERSON = """
const press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const seen = () => [$("question").textContent, $("progress").textContent, $("instead").hidden];
const leave = found => { const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out); };
HTMLAnchorElement.prototype.click = function () {};
URL.createObjectURL = blob => { blob.text().then(text => { sessionStorage.setItem("file", text); location.reload(); }); return "#"; };
if (!sessionStorage.getItem("trace")) {
  const trace = [seen()];
  $("save").click(); trace.push($("said").textContent);
  press("n"); trace.push(seen());                    // smile: no …
  press("1"); trace.push(seen());                    // … it is the first of the others; on to the next
  press("n"); trace.push(seen());                    // smiling: no needs no choice
  document.querySelector("[data-answer=yes]").click(); trace.push(seen());
  press("c"); trace.push(seen());
  $("save").click(); trace.push($("said").textContent);
  $("reviewer").value = "Some Body"; $("reviewer").dispatchEvent(new Event("input"));
  $("save").click(); trace.push($("said").textContent);
  $("reviewer").value = "ab"; $("reviewer").dispatchEvent(new Event("input"));
  sessionStorage.setItem("trace", JSON.stringify(trace));
  $("save").click();
} else {
  leave({ trace: JSON.parse(sessionStorage.getItem("trace")), file: sessionStorage.getItem("file"), after: seen(), who: $("reviewer").value });
}
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    write_forms(tmp_path, ROOT, "small", ITEMS, {item.key: b"\xff\xd8" for item in ITEMS})
    return tmp_path / FORM


def script_of(page: Path) -> str:
    found = re.search(r"<script>(.*?)</script>", page.read_text(), re.S)
    assert found
    return found[1]


def test_the_first_choice_after_no_is_in_words(page: Path) -> None:
    assert f'const none = "{NONE_OF_THESE}";' in script_of(page)  # Jinja's own `none` would be null


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_the_script_parses(page: Path) -> None:
    path = page.with_suffix(".js")
    path.write_text(script_of(page))
    done = subprocess.run(["node", "--check", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_a_person_answers_saves_and_comes_back(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    page.write_text(text.replace("</body>", f"<script>{PERSON}</script></body>"))
    found = in_browser(page, tmp_path / "profile")
    trace = found["trace"]
    assert trace[0][0] and trace[0][1:] == ["1 of 4 · 0 answered", True]
    assert trace[1] == "Nothing is answered yet."
    assert trace[2] == [trace[0][0], "1 of 4 · 1 answered", False]
    assert trace[3][1:] == ["2 of 4 · 1 answered", True] and trace[4][1:] == ["3 of 4 · 2 answered", True]
    assert trace[5][1:] == ["4 of 4 · 3 answered", True] and trace[6][1:] == ["4 of 4 · 4 answered", True]
    assert "initials" in trace[7] and "initials" in trace[8]
    assert found["after"][1] == "1 of 4 · 4 answered" and found["who"] == "ab"  # it was kept over the reload
    (tmp_path / "answers.json").write_text(found["file"])
    answers = read_answers(tmp_path / "answers.json")
    assert answers.root == ROOT and [(r, a.attribute, a.answer, a.right) for r, a in answers.answers] == [
        ("ab", "smile", "no", "none"), ("ab", "smiling", "no", "no"), ("ab", "hair_color", "yes", ""),
        ("ab", "mouth", "cannot_tell", ""),
    ]  # fmt: skip


def in_browser(page: Path, profile: Path) -> dict[str, Any]:
    """What the page leaves in #found, opened in the browser and read through its debugging port."""
    assert BROWSER
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with subprocess.Popen([BROWSER, *options, "about:blank"], stderr=subprocess.PIPE, text=True) as browser:
        try:
            assert browser.stderr
            port = next(
                m[1] for line in browser.stderr if (m := re.search(r"DevTools listening on ws://[^:]+:(\d+)/", line))
            )
            return asyncio.run(asyncio.wait_for(left_in(f"http://127.0.0.1:{port}/json/list", page.as_uri()), 240))
        finally:
            browser.kill()


async def left_in(tabs: str, page: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        while not (open_tabs := await (await session.get(tabs)).json(content_type=None)):
            await asyncio.sleep(0.2)
        async with session.ws_connect(open_tabs[0]["webSocketDebuggerUrl"]) as tab:
            await tab.send_json({"id": 1, "method": "Page.navigate", "params": {"url": page}})
            look = {"expression": "document.getElementById('found')?.textContent || ''"}
            while True:
                await tab.send_json({"id": 2, "method": "Runtime.evaluate", "params": look})
                while (answer := await tab.receive_json())["id"] != 2:
                    pass
                if text := answer.get("result", {}).get("result", {}).get("value"):
                    return dict(orjson.loads(text))
                await asyncio.sleep(0.2)
