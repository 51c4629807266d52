"""Counts frames and draws previews with FFmpeg and Pillow, in a contained process; see `decoder_child`."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from piapi_mcp.errors import PiAPIError
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.sources import MediaFile

_CHILD = Path(__file__).with_name("decoder_child.py")
_NOT_INSTALLED = 3
_COUNT_TIMEOUT_S = 10.0
_MAX_COUNT_BYTES = 4096
_PREVIEW_TIMEOUT_S = 3.0
"""For download and drawing together: an answer is never delayed for longer than this."""
_MAX_PREVIEW_SOURCE_BYTES = 64 * 1024 * 1024
_MAX_PREVIEW_BYTES = 60_000
_ENVIRONMENT = ("SYSTEMROOT", "LD_LIBRARY_PATH")
"""The variables that the child gets. No others, because the environment may contain keys."""


class DecodingError(Exception):
    """The file cannot be decoded: it is damaged, or would take too much time or memory."""


@dataclass(frozen=True)
class FrameCount:
    """The result of demuxing a whole video."""

    width_px: int
    height_px: int
    stored_frames: int
    """Frames whose data is complete."""
    shown_frames: int


def count_frames(media: MediaFile) -> FrameCount | None:
    """Demux *media* and return its frame count; None if no decoder can run here. Blocks: call it in a thread.

    Raises:
        DecodingError: It cannot be demuxed.
    """
    with media.as_system_file() as source:
        output = _run_child("count-frames", source, timeout_s=_COUNT_TIMEOUT_S, max_output_bytes=_MAX_COUNT_BYTES)
    return None if output is None else _parse_count(output)


async def make_preview(fetcher: Fetcher, url: str) -> bytes | None:
    """Return a JPEG of at most 512 px a side and 60 KB of the media at *url*, or None if that fails or takes too long.

    A preview is optional, so its failure is not an error: the result itself is not affected.
    """
    deadline = time.monotonic() + _PREVIEW_TIMEOUT_S
    try:
        async with asyncio.timeout(_PREVIEW_TIMEOUT_S):
            with ExitStack() as stack:
                file = stack.enter_context(tempfile.TemporaryFile())
                await fetcher.download(url, file, max_bytes=_MAX_PREVIEW_SOURCE_BYTES)
                drawing = asyncio.ensure_future(asyncio.to_thread(_draw_preview, file, deadline))
                # A cancelled caller stops waiting at once; the file stays open until the thread is done with it.
                closing = stack.pop_all()
                drawing.add_done_callback(lambda _: closing.close())
            return await asyncio.shield(drawing)
    except (PiAPIError, OSError, TimeoutError):
        return None


def _draw_preview(source: BinaryIO, deadline: float) -> bytes | None:
    source.seek(0)
    timeout_s = deadline - time.monotonic()
    try:
        jpeg = _run_child("draw-preview", source, timeout_s=timeout_s, max_output_bytes=_MAX_PREVIEW_BYTES)
    except DecodingError:
        return None
    return jpeg if jpeg is not None and jpeg.startswith(b"\xff\xd8\xff") else None


def _run_child(
    job: Literal["count-frames", "draw-preview"], source: BinaryIO, *, timeout_s: float, max_output_bytes: int
) -> bytes | None:
    """Return what the child writes for *source*; None if it cannot be started or a library is not installed.

    Raises:
        DecodingError: It fails, takes longer than *timeout_s*, or writes more than *max_output_bytes*.
    """
    command = [sys.executable, "-I", "-S", "-B", str(_CHILD), job, *(entry for entry in sys.path if entry)]
    try:
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603 -- our own script
                command,
                stdin=source,
                stdout=output,  # a file, not a pipe: the size of files is limited
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                timeout=timeout_s,
                check=False,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            output.seek(0)
            written = output.read(max_output_bytes + 1)
    except subprocess.TimeoutExpired:
        raise DecodingError from None
    except OSError:  # processes cannot be started here
        return None
    if done.returncode == _NOT_INSTALLED:
        return None
    if done.returncode or len(written) > max_output_bytes:
        raise DecodingError
    return written


def _parse_count(output: bytes) -> FrameCount:
    """Return the child's result; it is as untrusted as the file that the child read."""
    try:
        result = json.loads(output)
        return FrameCount(
            width_px=int(result["width_px"]),
            height_px=int(result["height_px"]),
            stored_frames=int(result["stored_frames"]),
            shown_frames=int(result["shown_frames"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise DecodingError from None
