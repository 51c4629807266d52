"""The clients whose configuration can be written: where it lies, and what it holds for a server."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piapi_mcp.commands.launch import server_entry

_INPUT_ID = "piapi_api_key"


@dataclass(frozen=True)
class Client:
    """A client, as its makers document it."""

    name: str
    title: str
    servers: str
    """Name of the table of servers in its configuration."""
    locate: Callable[[], Path]
    """Return where its configuration lies."""
    key_reference: str = ""
    """What its configuration says for the environment's own PIAPI_API_KEY; empty where it has no way to say it."""
    more: dict[str, Any] | None = None
    """What an entry holds besides."""
    inputs: tuple[dict[str, Any], ...] = ()
    """What the client asks its user for, by the ids that the entry refers to."""
    after: str = "Restart it."

    def entry(self, key: str, *, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return the entry for this installation; *key* instead of a reference where it is given."""
        is_sandbox = "--sandbox" in arguments
        made = server_entry("" if is_sandbox else key or self.key_reference, arguments=arguments)
        if "env" not in made and not is_sandbox:
            made["env"] = {"PIAPI_API_KEY": ""}  # to be filled in
        return (self.more or {}) | made


def _of_application(*parts: str) -> Callable[[], Path]:
    """Return where an application keeps its files, which each system has a place of its own for."""

    def locate() -> Path:
        if sys.platform == "darwin":
            return Path.home().joinpath("Library", "Application Support", *parts)
        if sys.platform == "win32":
            return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming").joinpath(*parts)
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").joinpath(*parts)

    return locate


def _of_home(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


CLIENTS = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        "mcpServers",
        _of_application("Claude", "claude_desktop_config.json"),
    ),
    Client(
        "claude-code",
        "Claude Code, in this folder",
        "mcpServers",
        lambda: Path.cwd() / ".mcp.json",
        key_reference="${PIAPI_API_KEY}",
        more={"type": "stdio"},
        after="Start claude in this folder.",
    ),
    Client(
        "cursor",
        "Cursor",
        "mcpServers",
        _of_home(".cursor", "mcp.json"),
        key_reference="${env:PIAPI_API_KEY}",
    ),
    Client(
        "vscode",
        "VS Code",
        "servers",
        _of_application("Code", "User", "mcp.json"),
        key_reference=f"${{input:{_INPUT_ID}}}",
        more={"type": "stdio"},
        inputs=({"type": "promptString", "id": _INPUT_ID, "description": "PiAPI API key", "password": True},),
        after="It asks for the key when the server starts for the first time.",
    ),
    Client(
        "codex",
        "Codex",
        "mcp_servers",
        lambda: Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex") / "config.toml",
        # Without the first, its first turn may not see the tools; without the second, it may not call those that pay.
        more={"required": True, "default_tools_approval_mode": "approve"},
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "mcpServers",
        _of_home(".gemini", "settings.json"),
        key_reference="${PIAPI_API_KEY}",
    ),
)


def find_client(name: str) -> Client:
    """Return the client of that name."""
    return next(client for client in CLIENTS if client.name == name)
