"""From the caller's words to something that can be sent: a local path, a URL, a data URI or base64.

A file is opened once. What is probed, fingerprinted and sent is the same open file, not a name that may change hands.
"""

import asyncio
import base64
import binascii
import hashlib
import io
import os
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from piapi_mcp.errors import InputRejectedError, quote

_BLOCK_BYTES = 3 * 64 * 1024
"""A multiple of 3, so that the base64 texts of blocks can follow each other; larger ones would stall the event loop."""
_HASH_BLOCK_BYTES = 1 << 20
_SHORTEST_BASE64_CHARS = 64
_LONGEST_PATH_CHARS = 4096
_FORMS = "a full path, an http or https URL, a data URI, or base64"


@dataclass(frozen=True)
class LocalFiles:
    """Which local files may be read."""

    roots: tuple[Path, ...]
    """Everything below these folders."""
    hidden: bool = True
    """Whether also below hidden folders, whose names begin with a dot."""

    @classmethod
    def below(cls, folders: str | None) -> Self:
        """Return what lies below *folders*, separated as in PATH; by default below the home folder, hidden ones not."""
        if folders is None:
            return cls((Path.home().resolve(),), hidden=False)
        return cls(tuple(Path(folder).expanduser().resolve() for folder in folders.split(os.pathsep) if folder))

    def allow(self, path: Path) -> bool:
        """Say whether *path*, without symbolic links in it, may be read."""
        for root in self.roots:
            if path.is_relative_to(root):
                return self.hidden or not any(part.startswith(".") for part in path.relative_to(root).parts)
        return False


@dataclass(frozen=True)
class MediaUrl:
    """Media that lie elsewhere; PiAPI fetches them itself."""

    url: str


class MediaFile:
    """Media in an open file or in memory. Close it, or use it as a context manager."""

    def __init__(self, file: BinaryIO, *, label: str, size_bytes: int) -> None:
        self._file = file
        self.label = label
        """What errors call it."""
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

    async def sha256(self) -> str:
        """Return the digest of its bytes."""
        return await asyncio.to_thread(self._sha256)

    async def base64_blocks(self) -> AsyncIterator[bytes]:
        """Yield its base64 text.

        Raises:
            InputRejectedError: The file was changed since it was opened.
        """
        for offset in range(0, self.size_bytes, _BLOCK_BYTES):
            block = self.read_at(offset, _BLOCK_BYTES)
            if self._version() != self._opened_as or len(block) != min(_BLOCK_BYTES, self.size_bytes - offset):
                raise InputRejectedError(
                    f"{self.label} was changed while it was being sent. Nothing was submitted: the request was broken "
                    "off. Call again once the file is complete."
                )
            yield base64.b64encode(block)

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for offset in range(0, self.size_bytes, _HASH_BLOCK_BYTES):
            digest.update(self.read_at(offset, _HASH_BLOCK_BYTES))
        return digest.hexdigest()

    def _version(self) -> tuple[int, int]:
        """Return what changes when somebody writes to the file; always the same for media in memory."""
        if isinstance(self._file, io.BytesIO):
            return (0, 0)
        status = os.fstat(self._file.fileno())
        return (status.st_size, status.st_mtime_ns)


def open_source(text: str, *, argument: str, local: LocalFiles | None, max_bytes: int) -> MediaFile | MediaUrl:
    """Open what the caller named in *argument*.

    Args:
        text: A local path, a URL, a data URI or base64.
        argument: Name of the argument, for errors.
        local: Which local files may be read; None for none at all.
        max_bytes: Largest size; what is larger is not read.

    Raises:
        InputRejectedError: It cannot be opened, may not be read, or is too large.
    """
    text = text.strip()
    if re.match(r"https?://", text, re.IGNORECASE):
        return _check_url(text, argument)
    if text.startswith("data:"):
        return _decode(text.partition(",")[2], argument, max_bytes)
    if (path := _as_path(text)) is not None:
        return _open_file(path, argument, local, max_bytes)
    if len(text) >= _SHORTEST_BASE64_CHARS and re.fullmatch(r"[A-Za-z0-9+/=\s]+", text[:4096]):
        return _decode(text, argument, max_bytes)
    raise InputRejectedError(
        f"{argument}={quote(text)} is none of what can be used: {_FORMS}. Nothing was submitted; call again with one."
    )


def _check_url(url: str, argument: str) -> MediaUrl:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.username is None and re.fullmatch(r"[!-~]+", url)
    except ValueError:
        usable = False
    if not usable:
        raise InputRejectedError(
            f"{argument} is a URL that cannot be used: it needs a host, no spaces, and no user name or password. "
            "Nothing was submitted; call again with a plain link to the file."
        )
    return MediaUrl(url)


def _as_path(text: str) -> Path | None:
    """Return *text* as a path where it is written as a full one; base64 of a JPEG begins with /9j/."""
    if text.startswith("file://"):
        path = unquote(urlsplit(text).path)
        return Path(path[1:] if re.match(r"/[A-Za-z]:", path) else path)
    if text.startswith("/9j/") and len(text) > _LONGEST_PATH_CHARS:
        return None
    is_path = text.startswith(("/", "~", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", text)
    return Path(text).expanduser() if is_path and "\0" not in text else None


def _open_file(path: Path, argument: str, local: LocalFiles | None, max_bytes: int) -> MediaFile:
    if local is None:
        raise InputRejectedError(
            f"{argument} names a local file, and this server reads none. Nothing was submitted; call again with a URL."
        )
    try:
        real = path.resolve()
        if not local.allow(real):
            raise InputRejectedError(
                f"{argument}={quote(path)} lies outside the folders that may be read. Nothing was submitted. Copy the "
                "file into the home folder (hidden folders excluded), or add its folder to PIAPI_ALLOWED_DIRS."
            )
        return _open_regular(real, path, argument, max_bytes)
    except FileNotFoundError:
        raise InputRejectedError(
            f"{argument}={quote(path)} does not exist.{_near_names(path)} Nothing was submitted; call again with the "
            "full path of a file."
        ) from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a circle of links"
        raise InputRejectedError(
            f"{argument}={quote(path)} cannot be read ({reason}). Nothing was submitted; call again with another file."
        ) from None


def _open_regular(real: Path, path: Path, argument: str, max_bytes: int) -> MediaFile:
    # Not blocking on a pipe, not following a link that was put there since the path was resolved.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(real, flags)
    try:
        status = os.fstat(descriptor)
        _check_regular(status.st_mode, path, argument)
        _check_size(status.st_size, argument, max_bytes)
        file = os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise
    return MediaFile(file, label=quote(path.name), size_bytes=status.st_size)


def _check_regular(mode: int, path: Path, argument: str) -> None:
    if not stat.S_ISREG(mode):
        raise InputRejectedError(f"{argument}={quote(path)} is no file. Nothing was submitted; call again with a file.")


def _near_names(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        names = []
    near = get_close_matches(path.name, names, n=3)
    return f" Near names there: {', '.join(map(quote, near))}." if near else ""


def _decode(text: str, argument: str, max_bytes: int) -> MediaFile:
    _check_size(len(text) * 3 // 4 - 2, argument, max_bytes)  # before memory is spent on it
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputRejectedError(
            f"{argument} is no valid base64. Nothing was submitted; call again with {_FORMS}."
        ) from None
    _check_size(len(data), argument, max_bytes)
    return MediaFile(io.BytesIO(data), label=argument, size_bytes=len(data))


def _check_size(size_bytes: int, argument: str, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise InputRejectedError(
            f"{argument} is {size_bytes / 2**20:.1f} MB; PiAPI accepts at most {max_bytes / 2**20:.0f} MB. "
            "Nothing was submitted; make the file smaller first."
        )
