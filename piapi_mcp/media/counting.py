"""Has a process of its own count a video's frames, for files whose boxes leave doubt; see `probe_child`."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from piapi_mcp.media.sources import MediaFile

_CHILD = Path(__file__).with_name("probe_child.py")
_NOT_INSTALLED = 3
_TIMEOUT_S = 10.0
_MAX_ANSWER_BYTES = 4096
# Nothing else of the environment: there are keys in it.
_ENVIRONMENT = ("SYSTEMROOT", "LD_LIBRARY_PATH")


class UncountableError(Exception):
    """The video cannot be read through: it is damaged, or would take too much time or memory."""


@dataclass(frozen=True)
class Counted:
    """What reading a video through, without showing it, tells."""

    width_px: int
    height_px: int
    stored_frames: int
    """Those that are there as a whole."""
    shown_frames: int
    duration_s: float
    """From the first frame shown to the end of the last."""


def count_frames(media: MediaFile) -> Counted | None:
    """Return what reading *media* through tells, or None where there is nothing to do it with. Takes a while.

    Raises:
        UncountableError: It cannot be read through.
    """
    command = [sys.executable, "-I", "-S", "-B", str(_CHILD), *(entry for entry in sys.path if entry)]
    with media.as_system_file() as video, tempfile.TemporaryFile() as answer:
        try:
            done = subprocess.run(  # noqa: S603 -- our own script
                command,
                stdin=video,
                stdout=answer,  # a file: what is written to it is limited
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                timeout=_TIMEOUT_S,
                check=False,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except subprocess.TimeoutExpired:
            raise UncountableError from None
        except OSError:  # no processes here
            return None
        if done.returncode == _NOT_INSTALLED:
            return None
        answer.seek(0)
        return _read(done.returncode, answer.read(_MAX_ANSWER_BYTES))


def _read(exit_code: int, answer: bytes) -> Counted:
    """Return what the child said, which is as little to be trusted as what it read."""
    try:
        said = json.loads(answer)
        counted = Counted(
            width_px=int(said["width_px"]),
            height_px=int(said["height_px"]),
            stored_frames=int(said["stored_frames"]),
            shown_frames=int(said["frames"]),
            duration_s=float(said["duration_s"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError):
        raise UncountableError from None
    if exit_code:
        raise UncountableError
    return counted
