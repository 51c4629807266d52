"""Counts the frames of the video on standard input and prints them as JSON: a script, run in a process of its own.

FFmpeg reads what strangers made, so it gets no more than that: bytes (no path, no URL), one container format, the
decoders of ordinary videos, little memory and time, and nothing to open, write or connect to. Exits with 3 where FFmpeg
is not installed, and with anything else but 0 where the video cannot be read through.
"""

import contextlib
import importlib
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import InputContainer

_NOT_INSTALLED = 3
_MEMORY_BYTES = 256 << 20
"""On top of what the interpreter and the libraries take."""
_CPU_S = 5
_OPTIONS = {
    "codec_whitelist": "h264,hevc,vp9,libdav1d,av1,mpeg4,aac,mp3,mp3float,opus,ac3,alac,flac",
    "protocol_whitelist": "none",
    "max_streams": "16",
}


def main() -> int:
    """Print the facts and return the exit code."""
    sys.path[:] = sys.argv[1:]  # the parent's: isolated, the interpreter does not look where the user installs
    sys.modules["numpy"] = None  # type: ignore[assignment]  # not needed, and slow to load
    try:
        import av

        for kind in ("audio", "subtitles", "video"):  # else loaded once a file has such a stream: then nothing opens
            importlib.import_module(f"av.{kind}.stream")
    except ImportError:
        return _NOT_INSTALLED
    _limit()
    shown = _read_through(av.open, {})
    stored = _read_through(av.open, {"ignore_editlist": "1"})
    json.dump({**shown, "stored_frames": stored["frames"]}, sys.stdout)
    return 0


def _limit() -> None:
    """Take away what is not needed, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = [
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_FSIZE, 4096),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ]
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 -- no pathlib here
        limits.append((resource.RLIMIT_AS, int(statm.read().split()[0]) * resource.getpagesize() + _MEMORY_BYTES))
    for name, value in limits:
        with contextlib.suppress(OSError, ValueError):  # macOS knows some of them by name only
            resource.setrlimit(name, (value, value))


def _read_through(open_video: "Callable[..., InputContainer]", options: dict[str, str]) -> dict[str, float]:
    sys.stdin.buffer.seek(0)
    with open_video(
        sys.stdin.buffer, "r", format="mp4", options=_OPTIONS | options, metadata_errors="replace"
    ) as container:
        video = max(container.streams.video, key=lambda stream: stream.width * stream.height)
        frames, begin, end = 0, float("inf"), float("-inf")
        for packet in container.demux(video):
            if packet.size and not packet.is_corrupt and not packet.is_discard and packet.pts is not None:
                frames += 1
                begin, end = min(begin, packet.pts), max(end, packet.pts + (packet.duration or 0))
        duration_s = float((end - begin) * (video.time_base or 0)) if frames else 0.0
        return {"width_px": video.width, "height_px": video.height, "frames": frames, "duration_s": duration_s}


if __name__ == "__main__":
    sys.exit(main())
