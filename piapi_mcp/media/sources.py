"""From the caller's words to something that can be sent: a local path, a URL, a data URI or base64.

A file is opened once. What is probed, fingerprinted and sent is the same open file, not a name that may change hands.
"""

import asyncio
import base64
import hashlib
import io
import math
import os
import re
import stat
import tempfile
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from piapi_mcp.errors import InputRejectedError, SettingsError
from piapi_mcp.formatting import quote
from piapi_mcp.media.fetch import Fetcher

_BLOCK_BYTES = 3 * 64 * 1024
"""A multiple of 3, so that the base64 texts of blocks can follow each other; larger ones would stall the event loop."""
_HASH_BLOCK_BYTES = 1 << 20
_SHORTEST_BASE64_CHARS = 64
_MAX_NAMES = 2000
"""How many names of a folder are looked at to find near ones."""
_WEB_URL = re.compile(r"https?://", re.IGNORECASE)
_FULL_PATH = re.compile(r"[/~]|\\\\|[A-Za-z]:[\\/]|file:", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\-\s]+")
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_MEDIA_NAME = re.compile(r"[^.].*\.(mp4|m4v|mov|webm|mkv|avi|jpe?g|png|webp|gif)", re.IGNORECASE)
_FORMS = "a full path, an http or https URL, a data URI, or base64"


@dataclass(frozen=True)
class LocalFiles:
    """Which local files may be read."""

    roots: tuple[Path, ...]
    """Everything below these folders."""
    hidden: bool = True
    """Whether also below hidden folders, whose names begin with a dot."""

    @property
    def name(self) -> str:
        """What errors call these folders; their paths are the operator's affair."""
        return "a folder that PIAPI_ALLOWED_DIRS names" if self.hidden else "the home folder, not a hidden one"

    @classmethod
    def below(cls, folders: str | None) -> Self:
        """Return what lies below *folders*, separated as in PATH; by default below the home folder, hidden ones not.

        Raises:
            SettingsError: A home folder is meant that is not known.
        """
        names = ["~"] if folders is None else folders.split(os.pathsep)
        try:
            roots = tuple(Path(name).expanduser().resolve() for name in names if name)
        except (RuntimeError, ValueError, OSError):
            raise SettingsError(
                "The folders that may be read are not known. Nothing was submitted; set PIAPI_ALLOWED_DIRS to their "
                "full paths."
            ) from None
        return cls(roots, hidden=folders is not None)

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

    @contextmanager
    def as_system_file(self) -> Generator[BinaryIO]:
        """Give it to another process to read, from its start; media in memory is written to a temporary file for it."""
        if not isinstance(self._file, io.BytesIO):
            self._file.seek(0)
            yield self._file
            return
        with tempfile.TemporaryFile() as file:
            file.write(self._file.getbuffer())
            file.seek(0)
            yield file

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
    """Open what the caller named in *argument*. Reads the disk: call it in a thread.

    Args:
        text: A local path, a URL, a data URI or base64.
        argument: Name of the argument, for errors.
        local: Which local files may be read; None for none at all.
        max_bytes: Largest size; what is larger is not read.

    Raises:
        InputRejectedError: It cannot be opened, may not be read, or is too large.
    """
    text = text.strip()
    if _WEB_URL.match(text):
        return _check_url(text, argument)
    if text[:5].lower() == "data:":
        return _decode(_data_of(text, argument), argument, max_bytes)
    if _is_path(text):
        return _open_file(text, argument, local, max_bytes)
    if len(text) >= _SHORTEST_BASE64_CHARS and _BASE64.fullmatch(text[:4096]):
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


def _is_path(text: str) -> bool:
    """Say whether *text* is written as a full path, whatever the system, or as a file URL."""
    if text.startswith("/9j/") and "." not in text:  # so begins the base64 of every JPEG, which has no dot
        return False
    return bool(_FULL_PATH.match(text))


def _path_of(text: str) -> Path:
    """Return the path that *text* is.

    Raises:
        ValueError: It cannot be one on this system; the text says why.
        RuntimeError: It begins with the home folder of an unknown user.
    """
    if text[:5].lower() == "file:":
        parts = urlsplit(text)
        if parts.netloc.lower() not in ("", "localhost"):
            raise ValueError("it lies on another machine")
        text = re.sub(r"^/(?=[A-Za-z]:)", "", unquote(parts.path))
    path = Path(text).expanduser()
    if "\0" in text or not path.is_absolute():
        raise ValueError("it is no full path on this system")
    return path


def _open_file(text: str, argument: str, local: LocalFiles | None, max_bytes: int) -> MediaFile:
    if local is None:
        raise InputRejectedError(
            f"{argument} names a local file, and this server reads none. Nothing was submitted; call again with a URL."
        )
    try:
        path = _path_of(text)
        # A Windows share is not even asked for before it is allowed: whoever is asked learns who is asking.
        path = path if path.drive.startswith("\\\\") and not local.allow(path) else path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(text, argument, error) from None
    if not local.allow(path):
        raise InputRejectedError(
            f"{argument}={quote(text)} lies outside the folders that may be read. Nothing was submitted. Copy the "
            f"file into {local.name}, or have the operator add its folder to PIAPI_ALLOWED_DIRS."
        )
    try:
        return _open_regular(path, text, argument, max_bytes)
    except FileNotFoundError:
        near = _near_names(path) if local.allow(path.parent) else ""
        raise InputRejectedError(
            f"{argument}={quote(text)} does not exist.{near} Nothing was submitted; call again with the full path "
            "of a file."
        ) from None
    except OSError as error:
        raise _unreadable(text, argument, error) from None


def _unreadable(text: str, argument: str, error: Exception) -> InputRejectedError:
    # Not the error's whole text: it may name paths that the caller did not.
    reason = error.strerror if isinstance(error, OSError) else str(error) if type(error) is ValueError else None
    return InputRejectedError(
        f"{argument}={quote(text)} cannot be read ({reason or 'it is no valid path'}). Nothing was submitted; "
        "call again with another file."
    )


def _open_regular(path: Path, text: str, argument: str, max_bytes: int) -> MediaFile:
    # Looked at before it is opened, as opening a device may set it going; and again once it is open, as it may have
    # been replaced in between, for which reason opening neither waits for a pipe nor follows a link.
    _require_regular(path.lstat(), text, argument)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        _require_regular(status, text, argument)
        _check_size(status.st_size, argument, max_bytes)
        file = os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise
    return MediaFile(file, label=quote(path.name), size_bytes=status.st_size)


def _require_regular(status: os.stat_result, text: str, argument: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputRejectedError(f"{argument}={quote(text)} is no file. Nothing was submitted; call again with a file.")


def _near_names(path: Path) -> str:
    """Name the media in the same folder that may have been meant."""
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), _MAX_NAMES)]
    except OSError:
        return ""
    near = get_close_matches(path.name, filter(_MEDIA_NAME.fullmatch, names), n=3)
    return f" Near names there: {', '.join(map(quote, near))}." if near else ""


def _data_of(uri: str, argument: str) -> str:
    """Return the base64 in a data URI."""
    kind, comma, data = uri.partition(",")
    if not comma or not kind.lower().endswith(";base64"):
        raise InputRejectedError(
            f"{argument} is a data URI without base64 (data:video/mp4;base64,...). Nothing was submitted; "
            f"call again with {_FORMS}."
        )
    return unquote(data) if "%" in data else data


def _decode(text: str, argument: str, max_bytes: int) -> MediaFile:
    """Decode base64 of either alphabet, broken into lines or not."""
    if len(text) > 2 * max_bytes:  # before memory is spent on it
        _check_size(len(text) * 3 // 4, argument, max_bytes)
    if "-" in text or "_" in text:
        text = text.translate(_STANDARD_ALPHABET)
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise InputRejectedError(
            f"{argument} is no valid base64. Nothing was submitted; call again with {_FORMS}."
        ) from None
    _check_size(len(data), argument, max_bytes)
    return MediaFile(io.BytesIO(data), label=argument, size_bytes=len(data))


def _check_size(size_bytes: int, argument: str, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        size_mb = math.ceil(size_bytes / 2**20 * 100) / 100  # upwards: what is a byte too large is to look too large
        raise InputRejectedError(
            f"{argument} is {size_mb:g} MB; PiAPI accepts at most {max_bytes / 2**20:g} MB. "
            "Nothing was submitted; make the file smaller first."
        )


MediaSource = MediaFile | MediaUrl
"""What a caller named, opened."""


@dataclass(frozen=True)
class MediaAccess:
    """What may be opened here on behalf of a caller."""

    local: LocalFiles | None
    """Local files; None for none at all."""
    fetcher: Fetcher
    """Files behind URLs."""

    async def open(self, text: str, *, argument: str, max_bytes: int) -> MediaSource:
        """Open what the caller named in *argument*, in a thread; a caller that is cancelled leaves nothing open.

        Raises:
            InputRejectedError: As `open_source`.
        """
        opening = asyncio.ensure_future(
            asyncio.to_thread(open_source, text, argument=argument, local=self.local, max_bytes=max_bytes)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise


def _close(opening: asyncio.Future[MediaSource]) -> None:
    if not opening.cancelled() and opening.exception() is None and isinstance(media := opening.result(), MediaFile):
        with media:
            pass
