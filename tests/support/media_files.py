"""Real videos and images, made with PyAV and Pillow; nothing here comes from the package under test."""

import io
import struct
import tempfile
import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import av
from PIL import Image, ImageDraw

Codec = Literal["libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4"]
_FAST: dict[Codec, dict[str, str]] = {
    "libx264": {"preset": "veryfast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=error"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12"},
    "mpeg4": {},
}


@dataclass(frozen=True)
class Clip:
    """A video to make."""

    width: int = 160
    height: int = 90
    frames: int = 24
    fps: int = 24
    codec: Codec = "libx264"
    audio: bool = False
    """Whether it has a (silent) sound track."""
    options: tuple[tuple[str, str], ...] = ()
    """Names and values, for the muxer."""
    times: tuple[int, ...] | None = None
    """When each frame is shown, in units of 1/fps; by default one after the other."""
    rotation_degrees: int = 0
    """How far players rotate the image, counter-clockwise."""


def make_clip(**wanted: Any) -> bytes:
    """Return an MP4 as `Clip` describes it, except that *options* is a dictionary. Equal clips are made once."""
    options: dict[str, str] = wanted.pop("options", None) or {}
    return _make_clip(Clip(options=tuple(options.items()), **wanted))


@cache
def _make_clip(clip: Clip) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"  # on disk: to put the index first, the muxer reads the file again
        _write_clip(path, clip)
        return path.read_bytes()


def _write_clip(path: Path, clip: Clip) -> None:
    with av.open(str(path), "w", format="mp4", options=dict(clip.options)) as container:
        video = container.add_stream(clip.codec, rate=clip.fps, options=_FAST[clip.codec])
        video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
        if clip.rotation_degrees:
            video.set_display_rotation(clip.rotation_degrees)
        tone = container.add_stream("aac", rate=48_000, layout="mono") if clip.audio else None
        for number in range(clip.frames):
            image = Image.new("RGB", (clip.width, clip.height), (number * 7 % 256, 64, 128))
            ImageDraw.Draw(image).ellipse((number % clip.width, 4, number % clip.width + 24, 28), fill="white")
            frame = cast("av.VideoFrame", av.VideoFrame.from_image(image))
            frame.pts, frame.time_base = (clip.times or range(clip.frames))[number], Fraction(1, clip.fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if tone is not None:
            for start in range(0, 48_000 * clip.frames // clip.fps, 1024):
                sound = av.AudioFrame(format="s16", layout="mono", samples=1024)
                sound.planes[0].update(bytes(2048))
                sound.rate, sound.pts, sound.time_base = 48_000, start, Fraction(1, 48_000)
                container.mux(tone.encode(sound))
            container.mux(tone.encode(None))


@cache
def make_image(*, width: int = 64, height: int = 48, image_format: str = "PNG") -> bytes:
    """Return an image with a shape on it, in any format that Pillow writes. Equal images are made once."""
    image = Image.new("RGB", (width, height), (20, 120, 200))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill="white")
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def make_raw_png(width: int, height: int, pixels: bytes, *, bits: int = 8, color_type: int = 2) -> bytes:
    """Return a PNG whose header claims any size and format, by default RGB, whatever *pixels* holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
