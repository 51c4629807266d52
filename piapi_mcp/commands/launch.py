"""How a client starts this installation of the server."""

import json
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

KEY_VARIABLE = "PIAPI_API_KEY"
KEY_PAGE = "https://piapi.ai/workspace/key"
_UVX_FOLDERS = {"archive-v0", "environments-v2"}
"""Folders in uv's cache that hold the short-lived environments of `uvx`."""


def launch_command() -> list[str]:
    """Return the command that starts this installation, as a full path: clients do not have the shell's PATH."""
    script = Path(sys.executable).with_name("piapi-mcp.exe" if sys.platform == "win32" else "piapi-mcp")
    if _UVX_FOLDERS & set(script.parts):
        source = _installed_from()
        return [shutil.which("uvx") or "uvx", *(["--from", source] if source else []), "piapi-mcp"]
    return [str(script)] if script.exists() else [sys.executable, "-m", "piapi_mcp"]


def _installed_from() -> str | None:
    """Return the folder, archive or repository of this installation; None for the package index."""
    text = distribution("piapi-mcp").read_text("direct_url.json")
    if text is None:
        return None
    origin = json.loads(text)
    return f"git+{origin['url']}" if "vcs_info" in origin else str(origin["url"]).removeprefix("file://")


def server_entry(key: str, *, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the server's entry in most clients' configurations, with *key* as the PiAPI key unless it is empty."""
    command, *own_arguments = launch_command()
    args = [*own_arguments, *arguments]
    entry: dict[str, Any] = {"command": command} | ({"args": args} if args else {})
    return entry | ({"env": {KEY_VARIABLE: key}} if key else {})
