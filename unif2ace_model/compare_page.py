"""The page of a comparison: the verdict, every measurement with its interval, learning curves, and what both models say.

Whole in itself, as the builder's pages are. It shows held-out faces, so it is as private as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from unif2ace_data.release.page import page_template
from unif2ace_data.release.report import data_uri
from unif2ace_data.shards import write_bytes
from unif2ace_model.compare_metrics import EXAMPLES
from unif2ace_model.compare_plan import SIDES, Plan, encoded, held_records, with_shared
from unif2ace_model.compare_report import UNIT_TOLD, amount
from unif2ace_model.compare_run import read_result
from unif2ace_model.evaluate import samples_of
from unif2ace_model.evaluate_qa import says

COLOURS = {"a": "#8a6d3b", "b": "#1f8a94"}
FACE_SIDE = 160  # pixels
CURVES = {"answer_nll": "answers, nats a token", "caption_nll": "stored captions, nats a token"}


def write_page(target: Path, out: Path, plan: Plan, report: dict[str, Any]) -> None:
    """Raises UserError where the disk does not take it."""
    attributes = [row for row in report["exploratory"] if row["name"].startswith("accuracy@")]
    html = page_template("compare", Path(__file__).parent).render(
        report=report,
        families=[
            ("Primary", "Declared beforehand; they decide", report["primary"]),
            ("Secondary", "Declared beforehand; they do not decide", report["secondary"]),
            (
                "Exploratory",
                "Not declared: they raise questions and answer none",
                [row for row in report["exploratory"] if row not in attributes],
            ),
        ],
        curves=[html_of(curve(report, name, title)) for name, title in CURVES.items()],
        by_attribute=html_of(by_attribute(attributes)) if attributes else "",
        examples=examples(out, plan, report),
        amount=amount,
        unit=lambda row: UNIT_TOLD.get(row["unit"], row["unit"]),
        plotly_js=get_plotlyjs(),
    )
    write_bytes(target, html.encode("utf-8", "replace"))


# ------------------------------------------------------------------ charts


def curve(report: dict[str, Any], name: str, title: str) -> go.Figure:
    """On held-out samples, along the training: the mean of each variant's runs, and the lowest and highest of them."""
    figure = go.Figure()
    for side in SIDES:
        runs = [run["curve"] for run in report["runs"] if run["side"] == side]
        points = min(map(len, runs))  # of a few steps a run may have a checkpoint fewer than another
        runs = [one[-points:] for one in runs]
        steps = np.mean([[point["step"] for point in one] for one in runs], axis=0)
        values = np.array([[point[name] for point in one] for one in runs])
        colour, label = COLOURS[side], side.upper()
        band = np.concatenate([values.max(0), values.min(0)[::-1]])
        figure.add_scatter(
            x=np.concatenate([steps, steps[::-1]]), y=band, fill="toself", fillcolor=colour, opacity=0.18,
            line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(x=steps, y=values.mean(0), name=label, line={"color": colour}, mode="lines+markers")
    return laid_out(figure, title, "steps of training", 300)


def by_attribute(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Questions answered rightly, B less A in points, attribute by attribute, with the intervals over pairs."""
    rows = sorted(rows, key=lambda row: row["difference"])
    names = [row["name"].partition("@")[2].replace("_", " ") for row in rows]
    mean = np.array([100 * row["difference"] for row in rows])
    ends = [row["interval"] or {"low": row["difference"], "high": row["difference"]} for row in rows]
    figure = go.Figure()
    figure.add_scatter(
        x=mean,
        y=names,
        mode="markers",
        marker={"color": COLOURS["b"], "size": 8},
        error_x={
            "array": [100 * end["high"] - m for end, m in zip(ends, mean, strict=True)],
            "arrayminus": [m - 100 * end["low"] for end, m in zip(ends, mean, strict=True)],
            "color": COLOURS["b"],
            "thickness": 1,
        },
    )
    figure.add_vline(x=0, line={"color": "#888", "width": 1})
    return laid_out(figure, "questions answered rightly, B less A", "points", 120 + 22 * len(rows))


def laid_out(figure: go.Figure, title: str, below: str, height: int) -> go.Figure:
    grey = "rgba(128,128,128,.25)"
    figure.update_layout(
        title={"text": title, "font": {"size": 14}}, height=height, margin={"l": 10, "r": 10, "t": 40, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": "#888"}, hovermode="closest",
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
        xaxis={"title": {"text": below}, "gridcolor": grey, "zeroline": False, "automargin": True},
        yaxis={"gridcolor": grey, "zeroline": False, "automargin": True},
    )  # fmt: skip
    return figure


def html_of(figure: go.Figure) -> str:
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    )


# ------------------------------------------------------------------ side by side


def examples(out: Path, plan: Plan, report: dict[str, Any]) -> list[dict[str, Any]]:
    """The first held-out samples: their face, questions with both models' answers, captions. Of the first pair of runs."""
    seed = report["pairs"][0]
    said = {side: (read_result(out, plan, side, seed) or {})["examples"] for side in SIDES}
    shards = Path(plan.evaluation.path)
    records = held_records(encoded(shards, with_shared(out, plan.preset)), plan.split, plan.limit)[:EXAMPLES]
    found = []
    for place, (record, (_, jpeg)) in enumerate(zip(records, samples_of(shards, records), strict=True)):
        answers = zip(record.qa, *(said[side]["answers"][place] for side in SIDES), strict=True)
        found.append(
            {
                "picture": data_uri(jpeg, FACE_SIDE),
                "key": record.uid,
                "stored": record.caption,
                "captions": {side: said[side]["captions"][place] for side in SIDES},
                "questions": [
                    {
                        "question": qa["question"],
                        "right": qa["answer"],
                        "said": [(text, right(text, qa)) for text in texts],
                    }
                    for qa, *texts in answers
                ],
            }
        )
    return found


def right(text: str, qa: dict[str, Any]) -> bool:
    return bool(text == qa["answer"] if qa["options"] else says(text, qa))
