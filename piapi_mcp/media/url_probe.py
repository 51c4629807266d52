"""Looks at what lies behind a URL: a few small parts of it, enough to say what it is.

PiAPI fetches the file itself, from elsewhere: what cannot be looked at from here may still be fine there.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from piapi_mcp.media.fetch import Fetcher, FetchError
from piapi_mcp.media.image import ImageFacts, not_an_image, read_header
from piapi_mcp.media.mp4 import read_movie
from piapi_mcp.media.reading import BrokenFileError, ReadAt
from piapi_mcp.media.sources import MediaUrl
from piapi_mcp.media.video import VideoFacts, facts_of, not_a_video

_T = TypeVar("_T")
_LABEL = "The file at the URL"
_FIRST_BYTES = 64 * 1024
_LEAST_BYTES = 16 * 1024
_MAX_BYTES = 200 * 1024
"""Of all parts together."""
_MAX_REQUESTS = 6
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class NotChecked:
    """Nobody looked; PiAPI will see."""

    reason: str
    """What was in the way, in a few words."""


class _MissingError(Exception):
    """A reader wants bytes that were not fetched yet."""

    def __init__(self, offset: int, length: int) -> None:
        super().__init__()
        self.offset, self.length = offset, length


async def probe_video_url(media: MediaUrl, fetcher: Fetcher) -> VideoFacts | NotChecked:
    """Return what the MP4 file at a URL is; its frames are exact only where the boxes leave no doubt.

    Raises:
        InputRejectedError: It was read, and is no MP4 video.
    """

    def read(read_at: ReadAt, size_bytes: int) -> VideoFacts:
        movie = read_movie(read_at, size_bytes)
        facts = facts_of(movie, size_bytes)
        return replace(facts, frames_are_exact=facts.frames_are_exact and not movie.is_truncated)

    try:
        return await _look(media.url, fetcher, read)
    except BrokenFileError as error:
        raise not_a_video(_LABEL, error) from None


async def probe_image_url(media: MediaUrl, fetcher: Fetcher) -> ImageFacts | NotChecked:
    """Return what the image at a URL is; whether it is whole is not looked at.

    Raises:
        InputRejectedError: It was read, and is no JPEG or PNG image.
    """

    def read(read_at: ReadAt, size_bytes: int) -> ImageFacts:
        header = read_header(read_at)
        return ImageFacts(header.width_px, header.height_px, header.format, size_bytes)

    try:
        return await _look(media.url, fetcher, read)
    except BrokenFileError as error:
        raise not_an_image(_LABEL, error) from None


async def _look(url: str, fetcher: Fetcher, read: Callable[[ReadAt, int], _T]) -> _T | NotChecked:
    """Call *read* with what was fetched, again and again, until it lacks nothing."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            first = await fetcher.read_range(url, 0, _FIRST_BYTES)
            if first.content_type == "text/html":  # for us: a wall against robots, or a mistake that PiAPI will tell
                return NotChecked("the server answered with a web page")
            if first.size_bytes is None:
                return NotChecked("the server does not tell its size")
            known = _Known(first.size_bytes, first.data)
            for _ in range(_MAX_REQUESTS):
                try:
                    return read(known.read_at, known.size_bytes)
                except _MissingError as missing:
                    await known.fetch(url, fetcher, missing)
    except TimeoutError:
        return NotChecked("the server is slow")
    except FetchError as error:
        return NotChecked(error.reason)
    return NotChecked("it would take too many requests")


class _Known:
    """The parts of a file that were fetched."""

    def __init__(self, size_bytes: int, begin: bytes) -> None:
        self.size_bytes = size_bytes
        self._parts = [(0, begin)]
        self._left_bytes = _MAX_BYTES - len(begin)

    def read_at(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size_bytes)
        if offset >= end:
            return b""
        for start, data in self._parts:
            if start <= offset and end <= start + len(data):
                return data[offset - start : end - start]
        raise _MissingError(offset, end - offset)

    async def fetch(self, url: str, fetcher: Fetcher, missing: _MissingError) -> None:
        length = min(max(missing.length, _LEAST_BYTES), self.size_bytes - missing.offset)
        if length > self._left_bytes:
            raise FetchError("what describes it is too large to fetch")
        part = await fetcher.read_range(url, missing.offset, length)
        self._left_bytes -= len(part.data)
        self._parts.append((missing.offset, part.data))
