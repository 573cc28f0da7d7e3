"""One sample in the terminal, and the contact sheet."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont
from rich.console import Console
from small_dataset import jpeg, sample

from unif2ace_data.errors import InputError
from unif2ace_data.release.contact_sheet import contact_sheet, wrapped
from unif2ace_data.release.show import picture, render_sample
from unif2ace_data.schema import Sample


def printed(sample: Sample, data: bytes, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(render_sample(sample, data, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_sample_shows_its_picture_caption_claims_and_source() -> None:
    text = printed(sample("a"), jpeg())
    for words in ("▀", "A person with grey hair", "supported", "face_landmarker ab12, 0.41", "not stated", "CC0-1.0"):
        assert words in text
    assert sample("a").uid in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, printed(sample("a"), jpeg(), width).splitlines())) <= width


def test_half_blocks_show_two_rows_of_pixels_in_one() -> None:
    text = picture(jpeg(64, (255, 0, 0)), 8)
    assert text.plain == ("▀" * 8 + "\n") * 4
    assert {str(span.style) for span in text.spans} == {"#fe0000 on #fe0000"}


def test_a_picture_that_does_not_decode_is_said_to_be_so() -> None:
    assert "does not decode" in printed(sample("a"), b"no picture")


def test_a_caption_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in printed(sample("a", caption="\x1b[2Jgone", claims=[]), jpeg())


def test_a_contact_sheet_has_its_pictures_in_place() -> None:
    sheet = contact_sheet(
        [(jpeg(64, (0, 0, 255)), "A caption."), (jpeg(64, (0, 255, 0)), "")] * 2, columns=2, width=400
    )
    assert sheet.size[0] == 400
    pixels = np.asarray(sheet)
    assert (pixels[100, 100] > 200).tolist() == [False, False, True]
    assert (pixels[100, 300] > 200).tolist() == [False, True, False]


def test_a_contact_sheet_of_nothing_or_with_a_broken_picture_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs samples"):
        contact_sheet([], 2, 400)
    with pytest.raises(InputError, match="does not decode"):
        contact_sheet([(b"no picture", "")], 2, 400)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_wrapped_lines_hold_all_words_and_fit(caption: str) -> None:
    font = ImageFont.load_default(14)
    lines = wrapped(caption, font, 120)
    assert "".join("".join(lines).split()) == "".join(caption.split())
    assert all(font.getlength(line) <= 120 or len(line) == 1 for line in lines)
