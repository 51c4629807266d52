"""A small image of a result, to be seen in the conversation; made in a process of its own, see `preview_child`."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from piapi_mcp.errors import PiAPIError
from piapi_mcp.media.fetch import Fetcher

_CHILD = Path(__file__).with_name("preview_child.py")
_LONGEST_S = 3.0
"""An answer is never held up for longer than this."""
_MAX_SOURCE_BYTES = 64 * 1024 * 1024
_MAX_JPEG_BYTES = 60_000
# Nothing else of the environment: there are keys in it.
_ENVIRONMENT = ("SYSTEMROOT", "LD_LIBRARY_PATH")


async def make_preview(fetcher: Fetcher, url: str) -> bytes | None:
    """Return a JPEG of at most 512 px a side and 60 KB of what *url* leads to; None where none can be had in time."""
    try:
        async with asyncio.timeout(_LONGEST_S):
            with tempfile.TemporaryFile() as file:
                await fetcher.download(url, file, max_bytes=_MAX_SOURCE_BYTES)
                file.seek(0)
                return await _draw(file)
    except (PiAPIError, OSError, TimeoutError):
        return None  # a preview is a courtesy: the result itself is not affected


async def _draw(source: BinaryIO) -> bytes | None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-B", str(_CHILD)),
        *(entry for entry in sys.path if entry),
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    try:
        jpeg, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    is_jpeg = jpeg.startswith(b"\xff\xd8\xff") and len(jpeg) <= _MAX_JPEG_BYTES
    return jpeg if child.returncode == 0 and is_jpeg else None
