"""Frames of a video clip (PyAV): a few candidates, evenly spread, and any one of them again later."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np

from unif2ace_data.schema import InputError

COUNT = 8  # candidates a clip; our choice: clips of talking faces are seconds long


def candidate_frames(data: bytes, count: int = COUNT) -> list[tuple[int, np.ndarray]]:
    """(frame index, upright RGB (H, W, 3) uint8) of at most `count` frames, evenly spread over the clip.

    Raises InputError: broken_video, no_frames. The clip is decoded twice (its container's length cannot be trusted):
    once to count, once to pick; memory holds `count` frames.
    """
    total = sum(1 for _ in decoded(data))
    if total == 0:
        raise InputError("no_frames", "the video holds no frame that can be decoded")
    count = min(count, total)
    wanted = {(2 * i + 1) * total // (2 * count) for i in range(count)}
    return [(index, upright(frame)) for index, frame in enumerate(decoded(data)) if index in wanted]


def frame_at(data: bytes, index: int) -> np.ndarray:
    """The frame with this index, upright RGB. Raises InputError."""
    for number, frame in enumerate(decoded(data)):
        if number == index:
            return upright(frame)
    raise InputError("no_frames", f"the video has no frame {index}")


def decoded(data: bytes) -> Iterator[av.VideoFrame]:
    """Frames in order of display. A clip that breaks off gives the frames before the break."""
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.video:
                raise InputError("no_frames", "no video stream inside")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # photos run side by side in processes, and frames must not depend on timing
            count = 0
            try:
                for frame in container.decode(stream):
                    count += 1
                    yield frame
            except av.FFmpegError:
                if count == 0:
                    raise
    except av.FFmpegError as error:
        raise InputError("broken_video", str(error)) from None


def upright(frame: av.VideoFrame) -> np.ndarray:
    """RGB pixels, turned as the container's display matrix says."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
