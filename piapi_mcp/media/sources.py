"""Media sources: what a caller names (a local path, a URL, a data URI or base64), opened so that it can be sent.

A file is opened once. The same open file is probed, fingerprinted and sent, so that another file that takes over its
name in between is never sent.
"""

import asyncio
import base64
import hashlib
import io
import math
import os
import re
import tempfile
from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.formatting import quote
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.local_files import LocalFiles

_BLOCK_BYTES = 3 * 64 * 1024
"""A multiple of 3, so that the base64 texts of the blocks can be concatenated; larger blocks stall the event loop."""
_HASH_BLOCK_BYTES = 1 << 20
_MIN_BASE64_CHARS = 64
_WEB_URL = re.compile(r"https?://", re.IGNORECASE)
_FULL_PATH = re.compile(r"[/~]|\\\\|[A-Za-z]:[\\/]|file:", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\-\s]+")
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_ACCEPTED_FORMS = "a full path, an http or https URL, a data URI, or base64"


@dataclass(frozen=True)
class MediaUrl:
    """Media at a URL; PiAPI fetches them itself."""

    url: str


class MediaFile:
    """Media in an open file or in memory. Close it, or use it as a context manager."""

    def __init__(self, file: BinaryIO, *, label: str, size_bytes: int) -> None:
        self._file = file
        self.label = label
        """How errors refer to it."""
        self.size_bytes = size_bytes
        self._opened_as = self._version()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    @property
    def base64_length(self) -> int:
        """Length of its base64 text in characters."""
        return 4 * ((self.size_bytes + 2) // 3)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to *length* bytes from *offset*."""
        self._file.seek(offset)
        return self._file.read(min(length, max(0, self.size_bytes - offset)))

    @contextmanager
    def as_system_file(self) -> Generator[BinaryIO]:
        """Yield a file that another process can read from its start, a temporary one for media in memory."""
        if not isinstance(self._file, io.BytesIO):
            self._file.seek(0)
            yield self._file
            return
        with tempfile.TemporaryFile() as file:
            file.write(self._file.getbuffer())
            file.seek(0)
            yield file

    async def sha256(self) -> str:
        """Return the SHA-256 digest of its bytes, in hexadecimal."""
        return await asyncio.to_thread(self._sha256)

    async def base64_blocks(self) -> AsyncIterator[bytes]:
        """Yield its base64 text.

        Raises:
            InputRejectedError: The file has changed since it was opened.
        """
        for offset in range(0, self.size_bytes, _BLOCK_BYTES):
            block = self.read_at(offset, _BLOCK_BYTES)
            if self._version() != self._opened_as or len(block) != min(_BLOCK_BYTES, self.size_bytes - offset):
                raise InputRejectedError(
                    f"{self.label} changed while it was being sent. Nothing was submitted: the request was aborted. "
                    "Call again once the file is complete."
                )
            yield base64.b64encode(block)

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for offset in range(0, self.size_bytes, _HASH_BLOCK_BYTES):
            digest.update(self.read_at(offset, _HASH_BLOCK_BYTES))
        return digest.hexdigest()

    def _version(self) -> tuple[int, int]:
        """Return values that change when the file is written to; constant for media in memory."""
        if isinstance(self._file, io.BytesIO):
            return (0, 0)
        status = os.fstat(self._file.fileno())
        return (status.st_size, status.st_mtime_ns)


MediaSource = MediaFile | MediaUrl


@dataclass(frozen=True)
class MediaAccess:
    """What this server may open in order to probe the sources that callers name."""

    local: LocalFiles | None
    """Which local files may be read; None for none at all."""
    fetcher: Fetcher
    """Reads files at URLs."""

    async def open(self, text: str, *, argument: str, max_bytes: int) -> MediaSource:
        """Open a source in a thread, as `open_source`. If the caller is cancelled, no file is left open.

        Raises:
            InputRejectedError: As `open_source`.
        """
        opening = asyncio.ensure_future(
            asyncio.to_thread(open_source, text, argument=argument, local=self.local, max_bytes=max_bytes)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_source)
            raise


def open_source(text: str, *, argument: str, local: LocalFiles | None, max_bytes: int) -> MediaSource:
    """Open the source that the caller named in *argument*. Reads the disk: call it in a thread.

    Args:
        text: A local path, a URL, a data URI or base64.
        argument: Name of the argument, for errors.
        local: Which local files may be read; None for none at all.
        max_bytes: Largest size that is accepted; anything larger is not read.

    Raises:
        InputRejectedError: It cannot be opened, may not be read, or is too large.
    """
    text = text.strip()
    if _WEB_URL.match(text):
        return _check_url(text, argument)
    if text[:5].lower() == "data:":
        return _decode_base64(_data_uri_payload(text, argument), argument, max_bytes)
    if _is_path(text):
        return _open_local_file(text, argument, local, max_bytes)
    if len(text) >= _MIN_BASE64_CHARS and _BASE64.fullmatch(text[:4096]):
        return _decode_base64(text, argument, max_bytes)
    raise InputRejectedError(
        f"{argument}={quote(text)} is not a source that can be used: {_ACCEPTED_FORMS}. Nothing was submitted; call "
        "again with one of these."
    )


def _close_source(opening: "asyncio.Future[MediaSource]") -> None:
    if not opening.cancelled() and opening.exception() is None and isinstance(media := opening.result(), MediaFile):
        with media:
            opening.add_done_callback(_close_source)


def _check_url(url: str, argument: str) -> MediaUrl:
    try:
        parts = urlsplit(url)
        is_usable = bool(parts.hostname) and parts.username is None and re.fullmatch(r"[!-~]+", url)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InputRejectedError(
            f"{argument} is a URL that cannot be used: it needs a host, no spaces, and no user name or password. "
            "Nothing was submitted; call again with a plain link to the file."
        )
    return MediaUrl(url)


def _is_path(text: str) -> bool:
    """Return whether *text* has the form of a full path, on any operating system, or of a file URL."""
    if text.startswith("/9j/") and "." not in text:  # the base64 of every JPEG begins like this and has no dot
        return False
    return bool(_FULL_PATH.match(text))


def _open_local_file(text: str, argument: str, local: LocalFiles | None, max_bytes: int) -> MediaFile:
    if local is None:
        raise InputRejectedError(
            f"{argument} names a local file, and this server reads none. Nothing was submitted; call again with a URL."
        )
    path, file = local.open(text, argument=argument)
    with ExitStack() as stack:
        stack.enter_context(file)
        size_bytes = os.fstat(file.fileno()).st_size
        _check_size(size_bytes, argument, max_bytes)
        stack.pop_all()
    return MediaFile(file, label=quote(path.name), size_bytes=size_bytes)


def _data_uri_payload(uri: str, argument: str) -> str:
    """Return the base64 text in a data URI."""
    media_type, comma, data = uri.partition(",")
    if not comma or not media_type.lower().endswith(";base64"):
        raise InputRejectedError(
            f"{argument} is a data URI without base64 (data:video/mp4;base64,...). Nothing was submitted; "
            f"call again with {_ACCEPTED_FORMS}."
        )
    return unquote(data) if "%" in data else data


def _decode_base64(text: str, argument: str, max_bytes: int) -> MediaFile:
    """Decode base64 in either alphabet, with or without line breaks."""
    if len(text) > 2 * max_bytes:  # rejected before memory is spent on decoding
        _check_size(len(text) * 3 // 4, argument, max_bytes)
    if "-" in text or "_" in text:
        text = text.translate(_STANDARD_ALPHABET)
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise InputRejectedError(
            f"{argument} is not valid base64. Nothing was submitted; call again with {_ACCEPTED_FORMS}."
        ) from None
    _check_size(len(data), argument, max_bytes)
    return MediaFile(io.BytesIO(data), label=argument, size_bytes=len(data))


def _check_size(size_bytes: int, argument: str, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        size_mb = (
            math.ceil(size_bytes / 2**20 * 100) / 100
        )  # rounded up, so that a file one byte too large also looks too large
        raise InputRejectedError(
            f"{argument} is {size_mb:g} MB; PiAPI accepts at most {max_bytes / 2**20:g} MB. "
            "Nothing was submitted; make the file smaller first."
        )
