"""Frames of a clip (PyAV): a few candidates, evenly spread, and any one of them again later."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from unif2ace_data.errors import InputError

LOOKED_AT = 3000  # frames; our choice: a sample is one frame, and of a long video two minutes offer enough of them
MAX_PIXELS = 8192 * 8192
# Containers that hold their own frames. Playlists are left out: they make the reader open other files and addresses.
FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,asf,ogg"


def candidate_frames(data: bytes, count: int = 8) -> list[tuple[int, np.ndarray]]:
    """At most `count` (frame index, upright RGB (H, W, 3) uint8), evenly spread over the clip.

    The index counts decoded frames in display order, so that `frame_at` finds the same pixels again. The clip is decoded
    once, up to the last candidate; memory holds `count` frames. Raises InputError: no_frames, broken_video,
    too_many_pixels.
    """
    total = min(packets(data), LOOKED_AT)
    count = max(1, min(count, total))
    wanted = {(2 * i + 1) * total // (2 * count) for i in range(count)}
    found: list[tuple[int, np.ndarray]] = []
    latest: Frame | None = None
    for frame in frames(data):
        if frame.index in wanted:
            found.append((frame.index, upright(frame)))
        latest = frame
        if frame.index >= max(wanted):
            break
    if not found and latest is not None:  # fewer frames can be decoded than the container promises
        found.append((latest.index, upright(latest)))
    if not found:
        raise InputError("no_frames", "the video holds no frame that can be decoded")
    return found


def frame_at(data: bytes, index: int) -> np.ndarray:
    """The frame with this index, upright RGB (H, W, 3) uint8. Raises InputError: no_frames, broken_video, too_many_pixels."""
    for frame in frames(data):
        if frame.index == index:
            return upright(frame)
    raise InputError("no_frames", f"the video has no frame {index}")


@dataclass(slots=True)
class Frame:
    """`aspect`: width of a pixel over its height."""

    index: int
    pixels: av.VideoFrame
    aspect: float


def packets(data: bytes) -> int:
    """How many frames the container promises: packets are counted, nothing is decoded."""
    with opened(data) as container:
        try:
            return sum(1 for packet in container.demux(video_stream(container)) if packet.size)
        except av.FFmpegError:
            return LOOKED_AT


def frames(data: bytes) -> Iterator[Frame]:
    """In display order. Packets that cannot be decoded are passed over; a clip may break off."""
    with opened(data) as container:
        stream = video_stream(container)
        stream.thread_type = "NONE"  # one process works on one input, and frames must not depend on timing
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        index, demuxed, more = 0, container.demux(stream), True
        while more:
            try:
                packet = next(demuxed)
                more = packet.size > 0  # the last one is empty: it makes the decoder give what it holds back
                decoded = packet.decode()
            except StopIteration:
                return
            except av.FFmpegError:
                decoded = []
            for pixels in decoded:
                yield Frame(index, pixels, aspect)
                index += 1


def opened(data: bytes) -> av.container.InputContainer:
    try:
        return av.open(io.BytesIO(data), options={"format_whitelist": FORMATS, "protocol_whitelist": "none"})
    except (av.FFmpegError, ValueError) as error:
        raise InputError("broken_video", f"no video container that can be opened ({error})") from None


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise InputError("no_frames", "there is no video stream in it")
    if stream.width * stream.height > MAX_PIXELS:
        raise InputError("too_many_pixels", f"{stream.width} x {stream.height} pixels a frame")
    return stream


def upright(frame: Frame) -> np.ndarray:
    """RGB pixels, square ones, turned as the container's display matrix says."""
    width = max(1, round(frame.pixels.width * frame.aspect))
    rgb = frame.pixels.to_ndarray(format="rgb24", width=width, height=frame.pixels.height)
    return np.ascontiguousarray(np.rot90(rgb, round(frame.pixels.rotation / 90) % 4))
