"""Video: candidates spread over the clip, any frame again later, upright, and clear errors."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from unif2ace_data.schema import InputError
from unif2ace_data.sources.video import candidate_frames, frame_at


def clip(frames: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """An MP4 whose frame i is a flat grey of 6 * i."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = size
        for i in range(frames):
            shade = np.full((size[1], size[0], 3), 6 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(shade, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


def test_candidates_are_spread_evenly_and_come_again() -> None:
    data = clip(40)
    found = candidate_frames(data, 8)
    assert [i for i, _ in found] == [2, 7, 12, 17, 22, 27, 32, 37]
    for index, rgb in found:
        assert rgb.shape == (48, 64, 3) and abs(float(rgb.mean()) - 6 * index) < 6
        assert np.array_equal(frame_at(data, index), rgb)


def test_a_turned_clip_comes_out_upright() -> None:
    """Phones write the picture as the sensor lies, and in the track header how to turn it for display."""
    left_dark = io.BytesIO()
    with av.open(left_dark, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, 32:] = 230
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")), *stream.encode()]:
            container.mux(packet)
    data = bytearray(left_dark.getvalue())
    matrix = data.index(b"tkhd") + 4 + 40
    clockwise = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    data[matrix : matrix + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in clockwise)
    ((_, rgb),) = candidate_frames(bytes(data), 1)
    assert rgb.shape == (64, 48, 3)
    assert rgb[:20].mean() < 40 < 200 < rgb[-20:].mean()  # the dark left edge is now at the top


def test_a_short_clip_gives_all_its_frames() -> None:
    assert [i for i, _ in candidate_frames(clip(3), 8)] == [0, 1, 2]


def test_a_clip_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    data = clip(40)
    mdat = data.index(b"mdat")
    moov = data.index(b"moov")
    assert mdat < moov  # the index stands behind the frames: without it nothing can be decoded
    with pytest.raises(InputError) as caught:
        candidate_frames(data[:moov])
    assert caught.value.code == "broken_video"


@pytest.mark.parametrize("data", [b"", b"not a video", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"])
def test_what_is_no_video_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        candidate_frames(data)
    assert caught.value.code in ("broken_video", "no_frames")


def test_a_frame_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no frame 9"):
        frame_at(clip(4), 9)
