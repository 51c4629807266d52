"""Probes files at URLs by fetching a few small ranges of them.

PiAPI fetches the file itself, from its own network, so a file that cannot be probed from here may still be valid.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import urlsplit

from piapi_mcp.media.fetch import Fetcher, FetchError
from piapi_mcp.media.image import ImageFacts, image_rejection, read_header
from piapi_mcp.media.mp4 import read_movie
from piapi_mcp.media.parsing import InvalidMediaError, ReadAt
from piapi_mcp.media.sources import MediaUrl
from piapi_mcp.media.video import VideoFacts, facts_from_movie, video_rejection

_T = TypeVar("_T")
_LABEL = "The file at the URL"
_FIRST_RANGE_BYTES = 64 * 1024
_MIN_RANGE_BYTES = 16 * 1024
_MAX_BYTES = 200 * 1024
"""Of all ranges together."""
_MAX_REQUESTS = 6
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class NotProbed:
    """The URL was not probed; PiAPI will check the file itself."""

    reason: str
    """Why the probe failed, in a few words."""


class _RangeMissingError(Exception):
    """The parser needs bytes that have not been fetched yet."""

    def __init__(self, offset: int, length: int) -> None:
        super().__init__()
        self.offset, self.length = offset, length


async def probe_video_url(media: MediaUrl, fetcher: Fetcher) -> VideoFacts | NotProbed:
    """Probe the MP4 file at a URL; its frame count is exact only if the boxes are unambiguous.

    Raises:
        InputRejectedError: It was fetched, and is not an MP4 video.
    """

    def parse(read_at: ReadAt, size_bytes: int) -> VideoFacts:
        movie = read_movie(read_at, size_bytes)
        facts = facts_from_movie(movie, size_bytes)
        return replace(facts, frames_are_exact=facts.frames_are_exact and not movie.is_truncated)

    try:
        return await _probe(media.url, fetcher, parse)
    except InvalidMediaError as error:
        raise video_rejection(_LABEL, error) from None


async def probe_image_url(media: MediaUrl, fetcher: Fetcher) -> ImageFacts | NotProbed:
    """Probe the image at a URL; whether it is complete is not checked.

    Raises:
        InputRejectedError: It was fetched, and is not a JPEG or PNG image.
    """

    def parse(read_at: ReadAt, size_bytes: int) -> ImageFacts:
        header = read_header(read_at)
        return ImageFacts(header.width_px, header.height_px, header.format, size_bytes)

    try:
        return await _probe(media.url, fetcher, parse)
    except InvalidMediaError as error:
        raise image_rejection(_LABEL, error) from None


async def identify_signed_url(media: MediaUrl, fetcher: Fetcher) -> str | None:
    """Return what a URL with a query leads to: the URL without the query, and a digest of size, ETag, begin and end.

    A link that is signed anew has another query and leads to the same file. None where the URL has no query, or where
    the file cannot be read in ranges: then only the same URL is the same file.
    """
    parts = urlsplit(media.url)
    if not parts.query:
        return None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            first = await fetcher.read_range(media.url, 0, _MIN_RANGE_BYTES)
            if first.size_bytes is None or first.content_type == "text/html":
                return None
            offset = max(0, first.size_bytes - _MIN_RANGE_BYTES)
            last = await fetcher.read_range(media.url, offset, _MIN_RANGE_BYTES)
    except (TimeoutError, FetchError):
        return None
    digest = hashlib.sha256(f"{first.size_bytes} {first.etag} ".encode() + first.data + last.data).hexdigest()
    return f"{parts.scheme}://{parts.netloc}{parts.path} {digest}"


async def _probe(url: str, fetcher: Fetcher, parse: Callable[[ReadAt, int], _T]) -> _T | NotProbed:
    """Repeat *parse*, each time after fetching the range that it lacked, until it succeeds."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            first = await fetcher.read_range(url, 0, _FIRST_RANGE_BYTES)
            if first.content_type == "text/html":  # a bot check meant for us, or a wrong link that PiAPI will report
                return NotProbed("the server answered with a web page")
            if first.size_bytes is None:
                return NotProbed("the server does not report its size")
            fetched = _FetchedRanges(first.size_bytes, first.data)
            for _ in range(_MAX_REQUESTS):
                try:
                    return parse(fetched.read_at, fetched.size_bytes)
                except _RangeMissingError as missing:
                    await fetched.fetch(url, fetcher, missing)
    except TimeoutError:
        return NotProbed("the server is too slow")
    except FetchError as error:
        return NotProbed(error.reason)
    return NotProbed("it would need too many requests")


class _FetchedRanges:
    """The ranges of a file that have been fetched so far."""

    def __init__(self, size_bytes: int, first: bytes) -> None:
        self.size_bytes = size_bytes
        self._ranges = [(0, first)]
        self._remaining_bytes = _MAX_BYTES - len(first)

    def read_at(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size_bytes)
        if offset >= end:
            return b""
        for start, data in self._ranges:
            if start <= offset and end <= start + len(data):
                return data[offset - start : end - start]
        raise _RangeMissingError(offset, end - offset)

    async def fetch(self, url: str, fetcher: Fetcher, missing: _RangeMissingError) -> None:
        length = min(max(missing.length, _MIN_RANGE_BYTES), self.size_bytes - missing.offset)
        if length > self._remaining_bytes:
            raise FetchError("its metadata is too large to fetch")
        fetched = await fetcher.read_range(url, missing.offset, length)
        self._remaining_bytes -= len(fetched.data)
        self._ranges.append((missing.offset, fetched.data))
