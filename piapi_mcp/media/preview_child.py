"""Makes a small JPEG of the image or video on standard input: a script, run in a process of its own.

Decoders read what came from elsewhere, so they get bytes only, few formats, and little memory and time. Exits with
anything but 0 where there is nothing to show.
"""

import contextlib
import importlib
import io
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from PIL.Image import Image

_MEMORY_BYTES = 768 << 20
"""On top of what the interpreter and the libraries take; an image of 8192x8192 px needs a third of it."""
_CPU_S = 4
_LONG_SIDE_PX = 512
_MAX_JPEG_BYTES = 60_000
_MAX_PIXELS = 80_000_000
_DECODERS = ("h264", "hevc", "vp9", "libdav1d", "av1", "mpeg4")


def main() -> int:
    """Write the JPEG and return the exit code."""
    sys.path[:] = sys.argv[1:]  # the parent's: isolated, the interpreter does not look where the user installs
    sys.modules["numpy"] = None  # type: ignore[assignment]  # not needed, and slow to load
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS // 2  # twice that is an error
    is_video = sys.stdin.buffer.read(12)[4:8] == b"ftyp"
    sys.stdin.buffer.seek(0)
    if is_video:
        importlib.import_module("av.video.stream")  # loaded before there are limits
    else:
        Image.init()
    _limit()
    image = _first_frame() if is_video else _image()
    sys.stdout.buffer.write(_jpeg(image))
    return 0


def _limit() -> None:
    """Take away what is not needed, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = [(resource.RLIMIT_CPU, _CPU_S), (resource.RLIMIT_FSIZE, 1 << 20), (resource.RLIMIT_CORE, 0)]
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 -- no pathlib here
        limits.append((resource.RLIMIT_AS, int(statm.read().split()[0]) * resource.getpagesize() + _MEMORY_BYTES))
    for name, value in limits:
        with contextlib.suppress(OSError, ValueError):  # macOS knows some of them by name only
            resource.setrlimit(name, (value, value))


def _image() -> "Image":
    from PIL import Image

    image = Image.open(sys.stdin.buffer, formats=["JPEG", "PNG", "WEBP"])
    image.draft("RGB", (_LONG_SIDE_PX, _LONG_SIDE_PX))  # a JPEG is decoded no larger than needed
    return image.convert("RGB")


def _first_frame() -> "Image":
    import av

    options = {"protocol_whitelist": "none", "max_streams": "16", "codec_whitelist": ",".join(_DECODERS)}
    with av.open(sys.stdin.buffer, "r", format="mp4", options=options) as container:
        video = container.streams.video[0]
        if video.codec_context.name not in _DECODERS:
            raise ValueError(video.codec_context.name)
        video.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        frame = next(container.decode(video))
        return cast("Image", frame.to_image())


def _jpeg(image: "Image") -> bytes:
    """Return the image as a JPEG within the limits; a better one where there is room for it."""
    image.thumbnail((_LONG_SIDE_PX, _LONG_SIDE_PX))
    for quality in (85, 70, 50, 30, 10):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= _MAX_JPEG_BYTES:
            return buffer.getvalue()
    raise ValueError


if __name__ == "__main__":
    sys.exit(main())
