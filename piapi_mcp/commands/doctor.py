"""`piapi-mcp doctor`: looks whether everything is set up, and says what to do where it is not."""

import asyncio
import json
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import piapi_mcp
from piapi_mcp.commands.launch import KEY_PAGE, server_entry
from piapi_mcp.errors import PiAPIError, SettingsError
from piapi_mcp.settings import Settings, unfilled_settings, unknown_settings

_LIBRARIES = ("mcp", "httpx", "pydantic", "av", "pillow")
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    is_good: bool
    text: str
    """What was found, and what to do where it is not good."""


class _FailedCheckError(Exception):
    """A check failed; the text says how, and what to do."""


def examine(environ: Mapping[str, str], *, base_url: str | None = None, as_json: bool) -> int:
    """Print what is found, a line a check, and return the exit status: 0 if all is good.

    Args:
        environ: The settings, as a client would hand them over.
        base_url: Of a sandbox that stands in for PiAPI.
        as_json: Print one JSON object instead.
    """
    findings = asyncio.run(_findings(environ, base_url))
    is_good = all(finding.is_good for finding in findings)
    configuration = {"mcpServers": {"piapi": server_entry("your key")}}
    if as_json:
        checks = [{"check": found.check, "ok": found.is_good, "text": found.text} for found in findings]
        print(json.dumps({"ok": is_good, "checks": checks, "configuration": configuration}, indent=2))
        return not is_good
    good, bad = ("✓", "✗") if _shows("✓✗") else ("OK", "!!")
    for finding in findings:
        print(f"{good if finding.is_good else bad} {finding.check}: {finding.text}")
    print(f"\nFor Claude Desktop and others on this machine:\n\n{json.dumps(configuration, indent=2)}\n")
    print("All is set up." if is_good else f"Not all is set up; what is marked with {bad} needs you.")
    return not is_good


def _shows(signs: str) -> bool:
    """Say whether the terminal can show *signs*."""
    try:
        signs.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


async def _findings(environ: Mapping[str, str], base_url: str | None) -> list[Finding]:
    wrong = _wrong_settings(environ)
    found = [Finding("versions", is_good=True, text=_versions()), *_look_at_names(environ), *wrong.values()]
    settings = Settings.from_env({name: value for name, value in environ.items() if name not in wrong})
    if base_url:
        settings = settings.for_sandbox(base_url)
    checks: dict[str, Callable[[Settings], Awaitable[str]]] = {
        "PiAPI": _reach,
        "key": _use_key,
        "ledger": _write_ledger,
        "results": _write_results,
        "your files": _find_files,
        "video": _count_frames,
    }
    return [*found, *[await _check(name, check, settings) for name, check in checks.items()]]


async def _check(name: str, check: Callable[[Settings], Awaitable[str]], settings: Settings) -> Finding:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return Finding(name, is_good=True, text=await check(settings))
    except TimeoutError:
        return Finding(name, is_good=False, text=f"no answer within {_TIMEOUT_S:.0f} s. Look at the network.")
    except (_FailedCheckError, PiAPIError) as error:
        return Finding(name, is_good=False, text=str(error))


def _versions() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    machine = f"Python {platform.python_version()} on {platform.system()}"
    return f"piapi-mcp {piapi_mcp.__version__}, {machine}, {libraries}"


def _wrong_settings(environ: Mapping[str, str]) -> dict[str, Finding]:
    """Return what is wrong with each setting by itself: the others are looked at all the same."""
    wrong: dict[str, Finding] = {}
    for name, value in environ.items():
        try:
            Settings.from_env({name: value})
        except SettingsError as error:
            wrong[name] = Finding("settings", is_good=False, text=str(error))
    return wrong


def _look_at_names(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name, hint in unknown_settings(environ).items():
        yield Finding("settings", is_good=False, text=f"{name} is no setting and is ignored.{hint}")
    for name in unfilled_settings(environ):
        text = f"{name} holds a placeholder that the client did not fill in, and counts as unset."
        yield Finding("settings", is_good=False, text=text)


async def _reach(settings: Settings) -> str:
    from piapi_mcp.tasks.service import check_reachable

    await check_reachable(settings)
    return f"{settings.base_url} answers"


async def _use_key(settings: Settings) -> str:
    from piapi_mcp.tasks.service import open_service

    if settings.api_key is None:
        raise _FailedCheckError(
            f"none is set. Get one at {KEY_PAGE} and set PIAPI_API_KEY, in a client in the env block of its "
            "configuration: clients pass on no other variables."
        )
    service = open_service(settings, settings.api_key)
    try:
        account = await service.account()
    finally:
        await service.close()
    balance = "an unknown balance" if account.balance_usd is None else f"a balance of ${account.balance_usd:f}"
    return f"accepted, with {balance}" + (f" on the plan {account.plan}" if account.plan else "")


async def _write_ledger(settings: Settings) -> str:
    from piapi_mcp.tasks.service import check_ledger

    await check_ledger(settings)
    return f"kept in {settings.state_folder.resolve()}"


async def _write_results(settings: Settings) -> str:
    try:
        folder = await asyncio.to_thread(_try_to_write, settings.output_folder)
    except OSError as error:
        raise _FailedCheckError(
            f"cannot be saved in {settings.output_folder}: {error.strerror}. Set PIAPI_OUTPUT_DIR."
        ) from None
    return f"saved in {folder}"


def _try_to_write(folder: Path) -> Path:
    """Write a file into *folder*, or where it would be made, and take it away again."""
    folder = folder.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.NamedTemporaryFile(dir=there):
        return folder


async def _find_files(settings: Settings) -> str:
    from piapi_mcp.media.local_files import LocalFiles

    local = LocalFiles.below(settings.allowed_dirs)
    missing = [str(root) for root in local.roots if not await asyncio.to_thread(root.is_dir)]
    if missing:
        raise _FailedCheckError(f"there is no folder {', '.join(missing)}. Correct PIAPI_ALLOWED_DIRS.")
    names = ", ".join(str(root) for root in local.roots)
    return f"read below {names}" + ("" if local.includes_hidden else ", hidden folders not")


async def _count_frames(_settings: Settings) -> str:
    """Count the frames of a small clip, in a process of its own as the server does."""
    return await asyncio.to_thread(_count_frames_of_clip)


def _count_frames_of_clip() -> str:
    from piapi_mcp.media.decoder import DecodingError, count_frames
    from piapi_mcp.media.local_files import LocalFiles
    from piapi_mcp.media.sources import MediaFile, open_source
    from piapi_mcp.sandbox import media_jobs as work

    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch).resolve() / "clip.mp4"
        try:
            work.run("make_clip", target=str(clip))
            source = open_source(str(clip), argument="video", local=LocalFiles((clip.parent,)), max_bytes=1 << 24)
            if not isinstance(source, MediaFile):
                raise _FailedCheckError("a clip made here was not taken for a file. Please report this.")
            with source as media:
                counted = count_frames(media)
        except (work.WorkError, DecodingError) as error:
            raise _FailedCheckError(
                f"the video library does not work here ({error}). Install piapi-mcp anew."
            ) from None
    if counted is None:
        raise _FailedCheckError(
            "frames cannot be counted here: no process can be started. Videos are checked less closely."
        )
    return f"a clip made here was read: {counted.width_px}x{counted.height_px} px, {counted.shown_frames} frames"
