"""`piapi-mcp demo`: upscales a video and an image step by step, for a person who watches the terminal.

A real MCP client calls the real server, a subprocess over stdio, which uses the sandbox instead of PiAPI.
"""

import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mcp import Client, StdioServerParameters
from mcp.shared.dispatcher import ProgressFnT
from mcp.types import TextContent

from piapi_mcp.commands.launch import KEY_PAGE, server_entry
from piapi_mcp.errors import InputRejectedError, PiAPIError
from piapi_mcp.sandbox import media_jobs
from piapi_mcp.sandbox.fixtures import SAMPLES, Sample

_WAIT_S = 5
_BAR_CHARS = 24


@dataclass(frozen=True)
class _DemoUpscale:
    """One upscale that the demo runs."""

    title: str
    tool: str
    arguments: dict[str, Any]
    original_px: tuple[int, int]
    """Width and height of the source."""
    save_as: str


def run_demo(video: Path | None, output: Path) -> int:
    """Upscale *video* (default: a generated clip) and a Midjourney image into *output*, and return the exit status.

    Raises:
        PiAPIError: A step was refused or failed; the text is meant for the person at the terminal.
    """
    with tempfile.TemporaryDirectory(prefix="piapi-mcp-") as scratch:
        clip = _clip(video, Path(scratch))
        upscales = [_video_upscale(clip), _midjourney_upscale(Path(scratch))]
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputRejectedError(
                f"The folder {output} cannot be created ({error.strerror}). Choose another --output."
            ) from None
        saved = asyncio.run(_run_all(upscales, output.resolve(), allowed=clip.parent, state=Path(scratch) / "state"))
    print("\nYour results:")
    for path in saved:
        print(f"  {path}")
    print("\nTo use piapi-mcp in Claude Desktop, run `piapi-mcp install --client claude-desktop`, or add this to")
    print("claude_desktop_config.json and restart Claude Desktop:\n")
    print(json.dumps({"mcpServers": {"piapi": server_entry("your key")}}, indent=2))
    print(f"\nGet a key at {KEY_PAGE}")
    return 0


def _clip(video: Path | None, scratch: Path) -> Path:
    if video is None:
        clip = scratch / "clip.mp4"
        media_jobs.run("make_clip", target=str(clip))
        return clip.resolve()
    clip = video.expanduser().resolve()
    if not clip.is_file():
        raise InputRejectedError(f"There is no file {clip}. Name an MP4 file, or name none to use a generated clip.")
    return clip


def _video_upscale(clip: Path) -> _DemoUpscale:
    try:
        facts = media_jobs.run("probe", path=str(clip))
    except media_jobs.MediaJobError as error:
        raise InputRejectedError(f"{clip.name} cannot be read as a video ({error}). Name an MP4 file.") from error
    shape = f"{facts['width']}x{facts['height']} px, {facts.get('frames', 0)} frames"
    return _DemoUpscale(
        title=f"Video {clip.name}, {shape}",
        tool="video_upscale",
        arguments={"video": str(clip)},
        original_px=(facts["width"], facts["height"]),
        save_as=f"{clip.stem}-2x.mp4",
    )


def _midjourney_upscale(scratch: Path) -> _DemoUpscale:
    upscaled = next(sample for sample in SAMPLES if sample == Sample("6", is_grid=False))
    facts = media_jobs.run("probe", path=str(upscaled.draw(scratch)))
    return _DemoUpscale(
        title=f"Midjourney image (V6, upscaled), {facts['width']}x{facts['height']} px, index subtle",
        tool="midjourney_upscale",
        arguments={"origin_task_id": upscaled.task_id, "index": "subtle"},
        original_px=(facts["width"], facts["height"]),
        save_as="midjourney-v6-subtle.png",
    )


async def _run_all(upscales: list[_DemoUpscale], output: Path, *, allowed: Path, state: Path) -> list[Path]:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "piapi_mcp", "--sandbox"],
        env={**os.environ, "PIAPI_ALLOWED_DIRS": str(allowed), "PIAPI_STATE_DIR": str(state)},
    )
    print("Starting piapi-mcp over stdio with the built-in sandbox instead of PiAPI: nothing is charged.")
    saved, failure = list[Path](), None
    async with Client(server) as client:
        tools = ", ".join(tool.name for tool in (await client.list_tools()).tools)
        print(f"Connected, protocol {client.protocol_version}. Tools: {tools}")
        try:
            saved = [await _run_upscale(client, upscale, output) for upscale in upscales]
        except PiAPIError as error:
            failure = error  # raised inside the block, it would reach the caller as an exception group
    if failure is not None:
        raise failure
    return saved


async def _run_upscale(client: Client, upscale: _DemoUpscale, output: Path) -> Path:
    print(f"\n{upscale.title}")
    task = await _call(client, upscale.tool, upscale.arguments)
    price = f", quoted ${task['quoted_usd']}" if "quoted_usd" in task else ""
    print(f"  {upscale.tool} → task {task['task_id']}{price}")
    while task["status"] not in ("completed", "failed"):
        arguments = {"task_id": task["task_id"], "wait_seconds": _WAIT_S}
        task = await _call(client, "get_task", arguments, _draw_progress)
    print()
    if task["status"] == "failed":
        raise PiAPIError(f"The task failed: {task.get('error')} {task.get('logs')}")
    path = await asyncio.to_thread(_unused_path, output / upscale.save_as)
    await asyncio.to_thread(_download, task["result_urls"][0], path)
    facts = await asyncio.to_thread(media_jobs.run, "probe", path=str(path))
    width, height = upscale.original_px
    if (facts["width"], facts["height"]) != (2 * width, 2 * height):
        raise PiAPIError(f"The result is {facts['width']}x{facts['height']} px, not twice {width}x{height}.")
    frames = f", {facts['frames']} frames, {facts['fps']:g} fps" if "frames" in facts else ""
    print(f"  checked: {facts['width']}x{facts['height']} px{frames}, charged ${task['charged_usd']}")
    return path


async def _call(
    client: Client,
    tool: str,
    arguments: dict[str, Any],
    on_progress: ProgressFnT | None = None,
) -> dict[str, Any]:
    """Call a tool as an agent does, and return its structured content."""
    result = await client.call_tool(tool, arguments, progress_callback=on_progress)
    if result.is_error or result.structured_content is None:
        text = " ".join(part.text for part in result.content if isinstance(part, TextContent))
        raise PiAPIError(text)
    return cast("dict[str, Any]", result.structured_content)


async def _draw_progress(progress: float, total: float | None, message: str | None) -> None:
    """Draw the progress of a wait; on a terminal, over the previous bar."""
    del total
    status, _, percent = (message or "").rstrip(" %").partition(", ")
    done = 100 if status == "completed" else int(percent or min(95, progress * 20))
    filled = _BAR_CHARS * done // 100
    bar = "█" * filled + "░" * (_BAR_CHARS - filled)
    start, end = ("\r  ", "") if sys.stdout.isatty() else ("  ", "\n")
    print(f"{start}{bar} {progress:4.1f} s  {message or '':24}", end=end, flush=True)


def _unused_path(path: Path) -> Path:
    """Return *path* or, if it exists, a numbered name like it that does not."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem} ({number})")
    return free


def _download(url: str, path: Path) -> None:
    import httpx

    with httpx.stream("GET", url, trust_env=False) as response, path.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            file.write(chunk)
