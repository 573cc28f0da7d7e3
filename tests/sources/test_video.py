"""Video: candidates spread over the clip, any frame again later, upright, and clear errors."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from unif2ace_data.errors import InputError
from unif2ace_data.sources.video import candidate_frames, frame_at


def clip(frames: int, size: tuple[int, int] = (64, 48), format: str = "mp4") -> bytes:
    """A clip whose frame i is a flat grey of 6 * i."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
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


def test_a_clip_whose_middle_is_damaged_gives_the_rest() -> None:
    data = bytearray(clip(40))
    start, end = data.index(b"mdat") + 8, data.index(b"moov")
    third = (end - start) // 3
    data[start + third : start + 2 * third] = bytes(third)
    found = candidate_frames(bytes(data))
    assert found and all(np.array_equal(frame_at(bytes(data), index), rgb) for index, rgb in found)


def test_pixels_that_are_not_square_are_made_so() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 48, 48
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        shade = np.full((48, 48, 3), 90, np.uint8)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(shade, "rgb24")), *stream.encode()]:
            container.mux(packet)
    assert candidate_frames(buffer.getvalue(), 1)[0][1].shape == (48, 64, 3)


def test_sound_alone_holds_no_frames() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(InputError) as caught:
        candidate_frames(buffer.getvalue())
    assert caught.value.code == "no_frames"


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    """A file named .mp4 may hold a playlist; followed, it would bring frames of any file of the machine into the dataset."""
    (tmp_path / "private.ts").write_bytes(clip(20, format="mpegts"))
    lines = (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    )
    for place in (f"file://{tmp_path}/private.ts", f"{tmp_path}/private.ts", "http://127.0.0.1:1/private.ts"):
        with pytest.raises(InputError) as caught:
            candidate_frames(lines.format(place).encode())
        assert caught.value.code == "broken_video"
    with pytest.raises(InputError):
        candidate_frames(f"ffconcat version 1.0\nfile {tmp_path}/private.ts\n".encode())


def test_a_frame_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no frame 9"):
        frame_at(clip(4), 9)
