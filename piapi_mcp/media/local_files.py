"""Local files that callers may name: below which folders they must be, and how they are opened safely."""

import os
import re
import stat
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from piapi_mcp.errors import InputRejectedError, SettingsError
from piapi_mcp.formatting import quote

_MAX_NAMES = 2000
"""How many names in a folder are compared with the name of a missing file."""
_MEDIA_NAME = re.compile(r"[^.].*\.(mp4|m4v|mov|webm|mkv|avi|jpe?g|png|webp|gif)", re.IGNORECASE)


@dataclass(frozen=True)
class LocalFiles:
    """The local files that may be read."""

    roots: tuple[Path, ...]
    """Everything below these folders."""
    includes_hidden: bool = True
    """Whether this includes hidden folders, whose names begin with a dot."""

    @property
    def name(self) -> str:
        """How errors refer to these folders, without disclosing the operator's paths."""
        return (
            "a folder listed in PIAPI_ALLOWED_DIRS"
            if self.includes_hidden
            else "a folder of the home folder that is not hidden"
        )

    @classmethod
    def below(cls, folders: str | None) -> Self:
        """Return the files below *folders*, separated as in PATH; by default those below the home folder, not hidden.

        Raises:
            SettingsError: A home folder in *folders* cannot be determined.
        """
        names = ["~"] if folders is None else folders.split(os.pathsep)
        try:
            roots = tuple(Path(name).expanduser().resolve() for name in names if name)
        except (RuntimeError, ValueError, OSError):
            raise SettingsError(
                "The folders that may be read cannot be determined. Nothing was submitted; set PIAPI_ALLOWED_DIRS to "
                "their full paths."
            ) from None
        return cls(roots, includes_hidden=folders is not None)

    def allow(self, path: Path) -> bool:
        """Return whether *path*, which must not contain symbolic links, may be read."""
        for root in self.roots:
            if path.is_relative_to(root):
                return self.includes_hidden or not any(part.startswith(".") for part in path.relative_to(root).parts)
        return False

    def open(self, text: str, *, argument: str) -> tuple[Path, BinaryIO]:
        """Open the regular file that *text*, the value of *argument*, names; return its path and the open file.

        Raises:
            InputRejectedError: It does not exist, is not a regular file, or may not be read.
        """
        try:
            path = _parse_path(text)
            # A Windows share is not even contacted before it is allowed: contacting it discloses who this user is.
            path = path if path.drive.startswith("\\\\") and not self.allow(path) else path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise _unreadable(text, argument, error) from None
        if not self.allow(path):
            raise InputRejectedError(
                f"{argument}={quote(text)} is outside the folders that this server may read. Nothing was submitted. "
                f"Copy the file into {self.name}, or ask the operator to add its folder to PIAPI_ALLOWED_DIRS."
            )
        try:
            return path, _open_regular(path, text, argument)
        except FileNotFoundError:
            similar = _similar_names(path) if self.allow(path.parent) else ""
            raise InputRejectedError(
                f"{argument}={quote(text)} does not exist.{similar} Nothing was submitted; call again with the full "
                "path of a file."
            ) from None
        except OSError as error:
            raise _unreadable(text, argument, error) from None


def _parse_path(text: str) -> Path:
    """Return *text*, a path or a file URL, as a path.

    Raises:
        ValueError: It cannot be a full path on this system; the message says why.
        RuntimeError: It begins with the home folder of an unknown user.
    """
    if text[:5].lower() == "file:":
        parts = urlsplit(text)
        if parts.netloc.lower() not in ("", "localhost"):
            raise ValueError("it is on another machine")
        text = re.sub(r"^/(?=[A-Za-z]:)", "", unquote(parts.path))
    path = Path(text).expanduser()
    if "\0" in text or not path.is_absolute():
        raise ValueError("it is not a full path on this system")
    return path


def _open_regular(path: Path, text: str, argument: str) -> BinaryIO:
    # Checked before it is opened, because opening a device may have an effect; and again once it is open, because it
    # may have been replaced in between. For the same reason, opening neither waits for a pipe nor follows a link.
    _require_regular(path.lstat(), text, argument)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        _require_regular(os.fstat(descriptor), text, argument)
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(status: os.stat_result, text: str, argument: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputRejectedError(
            f"{argument}={quote(text)} is not a regular file. Nothing was submitted; call again with the full path of "
            "a file."
        )


def _similar_names(path: Path) -> str:
    """Return a sentence with the names of media files in the same folder that are similar to the name of *path*."""
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), _MAX_NAMES)]
    except OSError:
        return ""
    similar = get_close_matches(path.name, filter(_MEDIA_NAME.fullmatch, names), n=3)
    return f" Similar names in its folder: {', '.join(map(quote, similar))}." if similar else ""


def _unreadable(text: str, argument: str, error: Exception) -> InputRejectedError:
    # The error's full text is not repeated: it may contain paths that the caller did not name.
    reason = error.strerror if isinstance(error, OSError) else str(error) if type(error) is ValueError else None
    return InputRejectedError(
        f"{argument}={quote(text)} cannot be read ({reason or 'it is not a valid path'}). Nothing was submitted; "
        "call again with another file."
    )
