"""Real videos and images, made on the spot with PyAV and Pillow; nothing here comes from the package under test."""

import io
from fractions import Fraction
from typing import Literal, cast

import av
from PIL import Image, ImageDraw


def make_clip(
    *,
    width: int = 160,
    height: int = 90,
    frames: int = 24,
    fps: int = 24,
    codec: Literal["libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4"] = "libx264",
    audio: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return an MP4 of *frames* moving pictures, with a quiet tone if *audio*; *options* go to the muxer."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=options or {}) as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        tone = container.add_stream("aac", rate=48_000, layout="mono") if audio else None
        for number in range(frames):
            picture = Image.new("RGB", (width, height), (number * 7 % 256, 64, 128))
            ImageDraw.Draw(picture).ellipse((number % width, 4, number % width + 24, 28), fill="white")
            frame = cast("av.VideoFrame", av.VideoFrame.from_image(picture))
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if tone is not None:
            for start in range(0, 48_000 * frames // fps, 1024):
                sound = av.AudioFrame(format="s16", layout="mono", samples=1024)
                sound.planes[0].update(bytes(2048))
                sound.rate, sound.pts, sound.time_base = 48_000, start, Fraction(1, 48_000)
                container.mux(tone.encode(sound))
            container.mux(tone.encode(None))
    return buffer.getvalue()


def make_image(*, width: int = 64, height: int = 48, image_format: str = "PNG") -> bytes:
    """Return a picture with a shape on it, as PNG, JPEG or another format that Pillow writes."""
    picture = Image.new("RGB", (width, height), (20, 120, 200))
    ImageDraw.Draw(picture).ellipse((width // 4, height // 4, width // 2, height // 2), fill="white")
    buffer = io.BytesIO()
    picture.save(buffer, image_format)
    return buffer.getvalue()
