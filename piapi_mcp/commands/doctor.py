"""`piapi-mcp doctor`: checks the setup, and says how to fix what is wrong."""

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
class CheckResult:
    """The result of one check."""

    check: str
    """Name of the check."""
    is_ok: bool
    text: str
    """What was found and, if that is wrong, how to fix it."""


class _CheckFailedError(Exception):
    """A check failed; the text says why, and how to fix it."""


def run_doctor(environ: Mapping[str, str], *, base_url: str | None = None, as_json: bool) -> int:
    """Run all checks, print a line for each, and return the exit status: 0 if all succeed.

    Args:
        environ: The settings, as a client would pass them to the server.
        base_url: URL of a sandbox to use instead of PiAPI.
        as_json: Print one JSON object instead.
    """
    results = asyncio.run(_run_checks(environ, base_url))
    is_ok = all(result.is_ok for result in results)
    configuration = {"mcpServers": {"piapi": server_entry("your key")}}
    if as_json:
        checks = [{"check": result.check, "ok": result.is_ok, "text": result.text} for result in results]
        print(json.dumps({"ok": is_ok, "checks": checks, "configuration": configuration}, indent=2))
        return not is_ok
    passed, failed = ("✓", "✗") if _can_print("✓✗") else ("OK", "!!")
    for result in results:
        print(f"{passed if result.is_ok else failed} {result.check}: {result.text}")
    print("\nConfiguration for Claude Desktop, and for other clients that use the same format:\n")
    print(f"{json.dumps(configuration, indent=2)}\n")
    print(
        "Everything is set up." if is_ok else f"Some checks failed: fix the lines marked {failed}, then run this again."
    )
    return not is_ok


def _can_print(characters: str) -> bool:
    """Say whether the terminal's encoding has *characters*."""
    try:
        characters.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


async def _run_checks(environ: Mapping[str, str], base_url: str | None) -> list[CheckResult]:
    invalid = _check_setting_values(environ)
    results = [CheckResult("versions", is_ok=True, text=_versions()), *_check_setting_names(environ), *invalid.values()]
    # Without the invalid settings, so that one of them does not hide the results of the other checks.
    settings = Settings.from_env({name: value for name, value in environ.items() if name not in invalid})
    if base_url:
        settings = settings.for_sandbox(base_url)
    checks: dict[str, Callable[[Settings], Awaitable[str]]] = {
        "PiAPI": _check_piapi,
        "key": _check_key,
        "ledger": _check_ledger,
        "results": _check_output_folder,
        "your files": _check_allowed_folders,
        "video": _check_video,
    }
    return [*results, *[await _run_check(name, check, settings) for name, check in checks.items()]]


async def _run_check(name: str, check: Callable[[Settings], Awaitable[str]], settings: Settings) -> CheckResult:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return CheckResult(name, is_ok=True, text=await check(settings))
    except TimeoutError:
        return CheckResult(name, is_ok=False, text=f"no answer within {_TIMEOUT_S:.0f} s. Check the network.")
    except (_CheckFailedError, PiAPIError) as error:
        return CheckResult(name, is_ok=False, text=str(error))


def _versions() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    machine = f"Python {platform.python_version()} on {platform.system()}"
    return f"piapi-mcp {piapi_mcp.__version__}, {machine}, {libraries}"


def _check_setting_values(environ: Mapping[str, str]) -> dict[str, CheckResult]:
    """Return the result for each setting whose value is invalid, by the setting's name."""
    invalid: dict[str, CheckResult] = {}
    for name, value in environ.items():
        try:
            Settings.from_env({name: value})
        except SettingsError as error:
            invalid[name] = CheckResult("settings", is_ok=False, text=str(error))
    return invalid


def _check_setting_names(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Yield a result for each setting that is unknown or that the client did not fill in."""
    for name, hint in unknown_settings(environ).items():
        yield CheckResult("settings", is_ok=False, text=f"{name} is not a setting of piapi-mcp and is ignored.{hint}")
    for name in unfilled_settings(environ):
        text = f"{name} holds a placeholder that the client did not replace with a value, so it counts as unset."
        yield CheckResult("settings", is_ok=False, text=text)


async def _check_piapi(settings: Settings) -> str:
    from piapi_mcp.tasks.service import check_reachable

    await check_reachable(settings)
    return f"{settings.base_url} answers"


async def _check_key(settings: Settings) -> str:
    from piapi_mcp.tasks.service import open_service

    if settings.api_key is None:
        raise _CheckFailedError(
            f"PIAPI_API_KEY is not set. Get a key at {KEY_PAGE} and set the variable; for a client, set it in the env "
            "block of the client's configuration, because most clients pass no other variables to servers."
        )
    service = open_service(settings, settings.api_key)
    try:
        account = await service.account()
    finally:
        await service.close()
    balance = "unknown balance" if account.balance_usd is None else f"balance ${account.balance_usd:f}"
    return f"accepted, {balance}" + (f", plan {account.plan}" if account.plan else "")


async def _check_ledger(settings: Settings) -> str:
    from piapi_mcp.tasks.service import check_ledger

    await check_ledger(settings)
    return f"can be written in {settings.state_folder.resolve()}"


async def _check_output_folder(settings: Settings) -> str:
    try:
        folder = await asyncio.to_thread(_try_to_write, settings.output_folder)
    except OSError as error:
        raise _CheckFailedError(
            f"cannot be saved in {settings.output_folder}: {error.strerror}. Set PIAPI_OUTPUT_DIR to another folder."
        ) from None
    return f"will be saved in {folder}"


def _try_to_write(folder: Path) -> Path:
    """Write and delete a file in *folder*, or in the nearest parent that exists; return the full path of *folder*."""
    folder = folder.resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.NamedTemporaryFile(dir=existing):
        return folder


async def _check_allowed_folders(settings: Settings) -> str:
    from piapi_mcp.media.local_files import LocalFiles

    local = LocalFiles.below(settings.allowed_dirs)
    missing = [str(root) for root in local.roots if not await asyncio.to_thread(root.is_dir)]
    if missing:
        raise _CheckFailedError(f"there is no folder {', '.join(missing)}. Correct PIAPI_ALLOWED_DIRS.")
    names = ", ".join(str(root) for root in local.roots)
    return f"can be read in {names}" + ("" if local.includes_hidden else ", except in hidden folders")


async def _check_video(_settings: Settings) -> str:
    """Count the frames of a generated clip in a child process, as the server does."""
    return await asyncio.to_thread(_count_clip_frames)


def _count_clip_frames() -> str:
    from piapi_mcp.media.decoder import DecodingError, count_frames
    from piapi_mcp.media.local_files import LocalFiles
    from piapi_mcp.media.sources import MediaFile, open_source
    from piapi_mcp.sandbox import media_jobs

    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch).resolve() / "clip.mp4"
        try:
            media_jobs.run("make_clip", target=str(clip))
            source = open_source(str(clip), argument="video", local=LocalFiles((clip.parent,)), max_bytes=1 << 24)
            if not isinstance(source, MediaFile):
                raise _CheckFailedError("a generated clip was not recognized as a file. Please report this as a bug.")
            with source as media:
                counted = count_frames(media)
        except (media_jobs.MediaJobError, DecodingError) as error:
            raise _CheckFailedError(
                f"the video library does not work on this machine ({error}). Reinstall piapi-mcp."
            ) from None
    if counted is None:
        raise _CheckFailedError(
            "frames cannot be counted, because no child process can be started. Videos are checked less thoroughly."
        )
    return f"a generated clip was read: {counted.width_px}x{counted.height_px} px, {counted.shown_frames} frames"
