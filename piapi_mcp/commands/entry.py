"""How a client starts this very installation."""

import shutil
import sys
from pathlib import Path
from typing import Any

KEY_PAGE = "https://piapi.ai/workspace/key"
_PASSING = ("archive-v0", "environments-v2", ".cache")
"""Folders of environments that `uvx` and `pipx run` make and throw away."""


def command_line() -> list[str]:
    """Return the command by which clients start this installation, with its full path: they do not know the shell's."""
    beside = Path(sys.executable).with_name("piapi-mcp.exe" if sys.platform == "win32" else "piapi-mcp")
    runner = shutil.which("uvx")
    if runner and any(part in _PASSING for part in beside.parts):
        return [runner, "piapi-mcp"]
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "piapi_mcp"]


def server_entry(key: str, *, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what most clients' configuration holds for a server, with *key* as PiAPI key; none when it is empty."""
    command, *first = command_line()
    given = [*first, *arguments]
    entry: dict[str, Any] = {"command": command} | ({"args": given} if given else {})
    return entry | ({"env": {"PIAPI_API_KEY": key}} if key else {})
