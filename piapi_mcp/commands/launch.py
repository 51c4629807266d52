"""How a client starts this very installation."""

import json
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

KEY_PAGE = "https://piapi.ai/workspace/key"
_OF_UVX = {"archive-v0", "environments-v2"}
"""Folders of environments that `uvx` makes and throws away."""


def command_line() -> list[str]:
    """Return the command by which clients start this installation, with its full path: they do not know the shell's."""
    beside = Path(sys.executable).with_name("piapi-mcp.exe" if sys.platform == "win32" else "piapi-mcp")
    if _OF_UVX & set(beside.parts):
        source = _source()
        return [shutil.which("uvx") or "uvx", *(["--from", source] if source else []), "piapi-mcp"]
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "piapi_mcp"]


def _source() -> str | None:
    """Return the folder, archive or repository that it was installed from; None for the package index."""
    text = distribution("piapi-mcp").read_text("direct_url.json")
    if text is None:
        return None
    origin = json.loads(text)
    return f"git+{origin['url']}" if "vcs_info" in origin else str(origin["url"]).removeprefix("file://")


def server_entry(key: str, *, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what most clients' configuration holds for a server, with *key* as PiAPI key; none when it is empty."""
    command, *first = command_line()
    given = [*first, *arguments]
    entry: dict[str, Any] = {"command": command} | ({"args": given} if given else {})
    return entry | ({"env": {"PIAPI_API_KEY": key}} if key else {})
