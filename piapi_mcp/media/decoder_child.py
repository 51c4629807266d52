"""Decodes the media file on standard input: a script, run in a process of its own by `decoder`.

FFmpeg and Pillow parse files from strangers here, so this process gets no more than it needs: bytes (no path, no URL),
few formats and decoders, little memory and time, and an environment without secrets. It imports nothing of the package.

Arguments: the job (`count-frames` or `draw-preview`), then the entries of the parent's `sys.path`. The result goes to
standard output. The exit code is 3 if a library is not installed; any other but 0 means that the file is unreadable.
"""

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from PIL.Image import Image

_NOT_INSTALLED = 3
_VIDEO_DECODERS = ("h264", "hevc", "vp9", "libdav1d", "av1", "mpeg4")
_AUDIO_DECODERS = ("aac", "mp3", "mp3float", "opus", "ac3", "alac", "flac")
_DEMUXER_OPTIONS = {"protocol_whitelist": "none", "max_streams": "16"}
_PREVIEW_SIDE_PX = 512
_MAX_PREVIEW_BYTES = 60_000
_MAX_PIXELS = 80_000_000


class _Limits(NamedTuple):
    memory_bytes: int
    """On top of what the interpreter and the libraries have mapped by then."""
    cpu_s: int
    output_bytes: int


class _Job(NamedTuple):
    load: Callable[[], None]
    """Imports everything that the job needs, before the limits apply: afterwards no file can be opened."""
    limits: _Limits
    run: Callable[[], bytes]


def main() -> int:
    """Write the result of the job and return the exit code."""
    name, sys.path[:] = sys.argv[1], sys.argv[2:]  # isolated, the interpreter does not search where users install
    sys.modules["numpy"] = None  # type: ignore[assignment]  # not needed, and slow to load
    job = _JOBS[name]
    try:
        job.load()
    except ImportError:
        return _NOT_INSTALLED
    _set_limits(job.limits)
    sys.stdout.buffer.write(job.run())
    return 0


def _set_limits(limits: _Limits) -> None:
    """Apply *limits* and forbid opening files and sockets, as far as the operating system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    values = [
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ]
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 -- no pathlib here
        mapped_bytes = int(statm.read().split()[0]) * resource.getpagesize()
        values.append((resource.RLIMIT_AS, mapped_bytes + limits.memory_bytes))
    for name, value in values:
        with contextlib.suppress(OSError, ValueError):  # macOS defines some of them without supporting them
            resource.setrlimit(name, (value, value))


def _load_demuxer() -> None:
    for kind in ("audio", "subtitles", "video"):  # PyAV otherwise imports these once a file has such a stream
        importlib.import_module(f"av.{kind}.stream")


def _count_frames() -> bytes:
    """Return the size of the video and its frames, stored and shown, as JSON."""
    shown = _demux({})
    stored = _demux({"ignore_editlist": "1"})
    return json.dumps({**shown, "stored_frames": stored["shown_frames"]}).encode()


def _demux(options: dict[str, str]) -> dict[str, int]:
    """Read every packet of the largest video stream, without decoding any."""
    import av

    sys.stdin.buffer.seek(0)
    decoders = {"codec_whitelist": ",".join(_VIDEO_DECODERS + _AUDIO_DECODERS)}
    with av.open(
        sys.stdin.buffer, "r", format="mp4", options=_DEMUXER_OPTIONS | decoders | options, metadata_errors="replace"
    ) as container:
        video = max(container.streams.video, key=lambda stream: stream.width * stream.height)
        frames = sum(
            bool(packet.size and not packet.is_corrupt and not packet.is_discard and packet.pts is not None)
            for packet in container.demux(video)
        )
        return {"width_px": video.width, "height_px": video.height, "shown_frames": frames}


def _load_preview_libraries() -> None:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS // 2  # Pillow raises an error at twice this number
    if _is_video():
        _load_demuxer()
        Image.preinit()
    else:
        Image.init()


def _draw_preview() -> bytes:
    """Return the image, or the first frame of the video, as a small JPEG; of better quality where space permits."""
    image = _first_frame() if _is_video() else _read_image()
    image.thumbnail((_PREVIEW_SIDE_PX, _PREVIEW_SIDE_PX))
    for quality in (85, 70, 50, 30, 10):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= _MAX_PREVIEW_BYTES:
            return buffer.getvalue()
    raise ValueError("no quality is small enough")


def _is_video() -> bool:
    sys.stdin.buffer.seek(0)
    is_video = sys.stdin.buffer.read(12)[4:8] == b"ftyp"
    sys.stdin.buffer.seek(0)
    return is_video


def _read_image() -> "Image":
    from PIL import Image

    image = Image.open(sys.stdin.buffer, formats=["JPEG", "PNG", "WEBP"])
    image.draft("RGB", (_PREVIEW_SIDE_PX, _PREVIEW_SIDE_PX))  # decodes a JPEG no larger than needed
    return image.convert("RGB")


def _first_frame() -> "Image":
    import av

    decoders = {"codec_whitelist": ",".join(_VIDEO_DECODERS)}
    with av.open(sys.stdin.buffer, "r", format="mp4", options=_DEMUXER_OPTIONS | decoders) as container:
        video = container.streams.video[0]
        if video.codec_context.name not in _VIDEO_DECODERS:  # PyAV does not apply the whitelist when it decodes
            raise ValueError(video.codec_context.name)
        video.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        frame = next(container.decode(video))
        return cast("Image", frame.to_image())


_JOBS = {
    "count-frames": _Job(
        _load_demuxer,
        _Limits(memory_bytes=256 << 20, cpu_s=5, output_bytes=4096),
        _count_frames,
    ),
    "draw-preview": _Job(
        _load_preview_libraries,
        _Limits(memory_bytes=768 << 20, cpu_s=4, output_bytes=1 << 20),  # 8192x8192 px need a third of the memory
        _draw_preview,
    ),
}

if __name__ == "__main__":
    sys.exit(main())
