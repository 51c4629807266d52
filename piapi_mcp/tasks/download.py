"""Saves results on the user's disk: they are fetched, checked to be media, and never written over another file."""

import asyncio
import base64
import binascii
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from piapi_mcp.errors import InputRejectedError, ResultError
from piapi_mcp.formatting import quote
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.image import probe_image
from piapi_mcp.media.local_files import LocalFiles
from piapi_mcp.media.sources import MediaFile
from piapi_mcp.media.video import probe_video
from piapi_mcp.piapi.catalog import IMAGE_UPSCALE, MIDJOURNEY_UPSCALE, RESULTS_KEPT_DAYS, VIDEO_UPSCALE
from piapi_mcp.piapi.models import COMPLETED, RemoteTask
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.models import SavedFile, SavedResult

MAX_RESULT_BYTES = 500 * 1024 * 1024
_NAMES = {MIDJOURNEY_UPSCALE.model: "midjourney", VIDEO_UPSCALE.model: "video", IMAGE_UPSCALE.model: "image"}
_WEBP = (b"RIFF", b"WEBP")

Write = Callable[[BinaryIO], Awaitable[object]]


@dataclass(frozen=True)
class _FileFacts:
    """What a downloaded file is."""

    suffix: str
    size_px: tuple[int, int] | None


async def save_result(
    task: RemoteTask,
    *,
    settings: Settings,
    fetcher: Fetcher,
    directory: str | None,
    expected_px: tuple[int, int] | None,
) -> SavedResult:
    """Save all files of the result of *task*, and return their paths.

    Args:
        task: The task, as PiAPI returns it now.
        settings: They name the folders that may be written.
        fetcher: Downloads the links.
        directory: The folder to write into; None for the operator's.
        expected_px: Width and height that the quote named, where they are known.

    Raises:
        InputRejectedError: The task has no result, or the folder may not be written.
        ResultError: A download is not a whole image or video, or cannot be written.
        UnreachableError: A link cannot be downloaded.
    """
    if task.status != COMPLETED or not (task.result_urls or task.result_base64):
        next_step = (
            "it ended without one" if task.is_done else "call get_task until it has completed, then save_result again"
        )
        raise InputRejectedError(
            f"The task is {task.status} and has no result to save. Nothing was written; {next_step}."
        )
    folder = await asyncio.to_thread(_output_folder, settings, directory)
    stem = f"{_NAMES.get(task.model or '', 'result')}-upscale-{task.task_id[:8]}"
    sources = [_fetch(fetcher, url) for url in task.result_urls] or [_decode(task.result_base64 or "")]
    files: list[SavedFile] = []
    for number, write in enumerate(sources, start=1):
        name = stem if len(sources) == 1 else f"{stem}-{number}"
        files.append(await _save_one(folder, name, write, expected_px))
    return SavedResult(
        task_id=task.task_id,
        files=files,
        next_step=f"Tell the user where the files are. PiAPI deletes its copies after about {RESULTS_KEPT_DAYS} days.",
    )


def _fetch(fetcher: Fetcher, url: str) -> Write:
    return lambda file: fetcher.download(url, file, max_bytes=MAX_RESULT_BYTES)


def _decode(text: str) -> Write:
    async def write(file: BinaryIO) -> None:
        try:
            file.write(await asyncio.to_thread(base64.b64decode, text.rpartition(",")[2]))
        except binascii.Error:
            raise ResultError("PiAPI's result is not valid base64. Nothing was written; tell the user.") from None

    return write


def _output_folder(settings: Settings, directory: str | None) -> Path:
    """Return the folder to write into, created if it does not exist."""
    if directory is not None:
        local = LocalFiles.below(settings.allowed_dirs)
        try:
            folder = Path(directory).expanduser()
            is_allowed = folder.is_absolute() and local.allow(folder.resolve())
        except (OSError, RuntimeError, ValueError):  # unknown home folder, circular links, a null character
            is_allowed = False
        if not is_allowed:
            raise InputRejectedError(
                f"directory={quote(directory)} is outside the folders that may be used. Nothing was written. Leave "
                f"directory out, or give the full path of a folder in {local.name}."
            )
    try:
        chosen = Path(directory).expanduser() if directory is not None else settings.output_folder
        folder = chosen.resolve()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from None
    return folder


async def _save_one(folder: Path, name: str, write: Write, expected_px: tuple[int, int] | None) -> SavedFile:
    try:
        earlier = await asyncio.to_thread(_find_saved, folder, name)
        if earlier is not None:
            return _saved(*earlier, expected_px)
        with _temporary_file(folder) as file:
            await write(file)
            path, facts = await asyncio.to_thread(_finish, file, folder, name)
    except OSError as error:
        raise _unwritable(error) from None
    return _saved(path, facts, expected_px)


def _find_saved(folder: Path, name: str) -> tuple[Path, _FileFacts] | None:
    """Return the file that was saved under *name* before, if it still exists and is whole."""
    for path in sorted(folder.glob(f"{name}*.*")):
        with contextlib.suppress(ResultError, OSError):
            return path, _inspect(path)
    return None


@contextlib.contextmanager
def _temporary_file(folder: Path) -> Generator[BinaryIO]:
    """Open a file under a temporary name, which is removed afterwards."""
    path = folder / f".piapi-mcp-{secrets.token_hex(8)}"
    try:
        with path.open("xb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _finish(file: BinaryIO, folder: Path, name: str) -> tuple[Path, _FileFacts]:
    """Check what was written to *file*, and rename it."""
    file.flush()
    os.fsync(file.fileno())
    facts = _inspect(Path(file.name))
    return _rename(Path(file.name), folder, name, facts.suffix), facts


def _rename(temporary: Path, folder: Path, name: str, suffix: str) -> Path:
    """Rename the file in one step, never over another file."""
    number = 1
    while True:
        path = folder / f"{name}{'' if number == 1 else f' ({number})'}{suffix}"
        try:
            os.link(temporary, path)
        except FileExistsError:
            number += 1
        except OSError:  # no hard links on this file system: reserve the name, then replace the reservation
            try:
                path.open("xb").close()
            except FileExistsError:
                number += 1
                continue
            temporary.replace(path)
            return path
        else:
            return path


def _inspect(path: Path) -> _FileFacts:
    """Return what the file is.

    Raises:
        ResultError: It is not a whole image or video.
    """
    with MediaFile(path.open("rb", buffering=0), label="The result", size_bytes=path.stat().st_size) as media:
        begin = media.read_at(0, 12)
        try:
            if begin[4:8] == b"ftyp":
                video = probe_video(media)
                return _FileFacts(".mp4", (video.width_px, video.height_px))
            if (begin[:4], begin[8:12]) == _WEBP:
                return _FileFacts(".webp", None)
            image = probe_image(media)
        except InputRejectedError:
            what = "a web page" if begin.lstrip()[:1] == b"<" else "not a whole image or video"
            raise ResultError(
                f"The file behind PiAPI's link is {what}. Nothing was written; the task keeps its result: call "
                "save_result again in a minute, or open the link in result_urls."
            ) from None
        return _FileFacts(".jpg" if image.format == "JPEG" else ".png", (image.width_px, image.height_px))


def _saved(path: Path, facts: _FileFacts, expected_px: tuple[int, int] | None) -> SavedFile:
    width_px, height_px = facts.size_px or (None, None)
    note = None
    if facts.size_px and expected_px and facts.size_px != expected_px:
        # Saved all the same: it was paid for, and the user decides whether it is good enough.
        note = f"The quote was for {expected_px[0]}x{expected_px[1]} px; tell the user that the file has another size."
    return SavedFile(path=str(path), width_px=width_px, height_px=height_px, size_bytes=path.stat().st_size, note=note)


def _unwritable(error: OSError) -> ResultError:
    return ResultError(
        f"The result cannot be written ({error.strerror}). Nothing was lost: the task keeps its result. Name another "
        "directory, or set PIAPI_OUTPUT_DIR."
    )
