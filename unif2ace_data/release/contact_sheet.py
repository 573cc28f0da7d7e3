"""A contact sheet: pictures in rows with their captions wrapped under them, in Pillow's own font."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

from unif2ace_data.errors import InputError

GAP, FONT_SIZE, LEADING = 16, 14, 1.35
INK, PAPER = (38, 40, 44), (255, 255, 255)


def contact_sheet(samples: list[tuple[bytes, str]], columns: int, width: int) -> Image.Image:
    """RGB image, `width` pixels wide, of (JPEG, caption) pairs in `columns` columns; rows are as high as their longest.

    Captions lose what the font cannot draw. Raises InputError where a picture does not decode, and ValueError for no
    samples or no room.
    """
    side = (width - GAP * (columns + 1)) // columns if columns > 0 else 0
    if not samples or side < 32:
        raise ValueError(f"a contact sheet needs samples and 32 pixels a picture, not {len(samples)} and {side}")
    font = ImageFont.load_default(FONT_SIZE)
    line_height = round(FONT_SIZE * LEADING)
    rows = [samples[i : i + columns] for i in range(0, len(samples), columns)]
    texts = [[wrapped(caption, font, side) for _, caption in row] for row in rows]
    heights = [side + GAP // 2 + line_height * max(map(len, row)) for row in texts]
    sheet = Image.new("RGB", (width, GAP + sum(height + GAP for height in heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, lines, height in zip(rows, texts, heights, strict=True):
        for column, (jpeg, _) in enumerate(row):
            left = GAP + column * (side + GAP)
            sheet.paste(square(jpeg, side), (left, top))
            for i, line in enumerate(lines[column]):
                draw.text((left, top + side + GAP // 2 + i * line_height), line, INK, font)
        top += height + GAP
    return sheet


def square(jpeg: bytes, side: int) -> Image.Image:
    """The picture fitted into a square of paper."""
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            small = image.convert("RGB")
    except (OSError, ValueError) as error:
        raise InputError("not_decodable", f"contact sheet: a picture does not decode ({error})") from None
    scale = side / max(small.size)
    small = small.resize(
        (max(1, round(small.width * scale)), max(1, round(small.height * scale))), Image.Resampling.LANCZOS
    )
    paper = Image.new("RGB", (side, side), PAPER)
    paper.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return paper


def wrapped(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines no wider than `width` pixels; a word that is wider itself is cut."""
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
