"""One sample in the terminal: picture in half blocks, caption, claims with their evidence, questions, facts."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unif2ace_data.release.report import pieces_of, table_of
from unif2ace_data.release.stats import plain
from unif2ace_data.schema import Sample

STYLES = {"supported": "green", "unverified": "yellow", "contradicted": "red", "": "dim"}


def render_sample(sample: Sample, jpeg: bytes, width: int) -> Group:
    """The sample as something rich prints, `width` columns wide. A picture that does not decode is said to be so."""
    side = max(16, min(width // 2, 48))
    head = Table.grid(padding=(0, 2))
    head.add_row(picture(jpeg, side), facts(sample))
    caption = Panel(caption_text(sample), title="caption", title_align="left")
    return Group(head, caption, claims_table(sample), *((questions_table(sample),) if sample.qa else ()))


def picture(jpeg: bytes, columns: int) -> Text:
    """The picture, `columns` wide: each character cell shows two pixels, one above the other."""
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.draft("RGB", (2 * columns, 2 * columns))
            rows = max(2, round(columns * image.height / image.width / 2) * 2)
            pixels = np.asarray(image.convert("RGB").resize((columns, rows), Image.Resampling.LANCZOS))
    except (OSError, ValueError) as error:
        return Text(f"the picture does not decode: {error}", style="red")
    text = Text(no_wrap=True)
    for above, below in zip(pixels[0::2], pixels[1::2], strict=True):
        for upper, lower in zip(above, below, strict=True):
            text.append("▀", f"{hex_of(upper)} on {hex_of(lower)}")
        text.append("\n")
    return text


def hex_of(pixel: np.ndarray) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in pixel)


def facts(sample: Sample) -> Table:
    face, image, source = sample.face, sample.image, sample.source
    rows = {
        "key": sample.uid,
        "split": sample.split,
        "source": source.id,
        "licence": source.licence or "not stated",
        "author": source.author,
        "url": source.url,
        "photo": f"{image.source_width} x {image.source_height}",
        "crop": f"{image.width} x {image.height}, {image.align}"
        + (f", {image.padded:.0%} padded" if image.padded else ""),
        "face": f"{face.face_px:g} px, score {face.score:.2f}",
        "pose": f"yaw {face.yaw:.0f}, pitch {face.pitch:.0f}, roll {face.roll:.0f} degrees",
        "quality": f"sharpness {face.sharpness:.0f}, brightness {face.brightness:.0f}",
        "captioner": " ".join(
            filter(None, (sample.captioner.engine, sample.captioner.model, sample.captioner.revision))
        ),
        "questions": str(len(sample.qa)) if sample.qa else "",
    }
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            grid.add_row(name, Text(plain(value)))
    return grid


def caption_text(sample: Sample) -> Text:
    """The caption; what is claimed is underlined in the colour of its verdict."""
    text = Text()
    for piece in pieces_of(sample):
        text.append(plain(piece.text), f"underline {STYLES[piece.verdict]}" if piece.verdict else None)
    return text


def claims_table(sample: Sample) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("attribute", "value", "claim", "confidence", "evidence"):
        table.add_column(name, overflow="fold")
    for line in table_of(sample):
        cells = (line.attribute, line.value, line.verdict or "not stated", line.confidence, line.evidence)
        table.add_row(*(Text(plain(cell), STYLES[line.verdict] if i == 2 else "") for i, cell in enumerate(cells)))
    return table


def questions_table(sample: Sample) -> Table:
    """The questions with their options, the right one in colour."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("question", "answer", "about"):
        table.add_column(name, overflow="fold")
    for qa in sample.qa:
        answer = Text()
        for place, option in enumerate(qa.options):
            answer.append(plain(f"{'ABCD'[place]} {option}\n"), STYLES[qa.verdict] if option == qa.answer else "dim")
        if not qa.options:
            answer.append(plain(qa.answer), STYLES[qa.verdict])
        table.add_row(Text(plain(qa.question)), answer, Text(plain(f"{qa.attribute}, {qa.kind}"), "dim"))
    return table
