"""The clients whose configuration `piapi-mcp install` can edit: where the file is, and what it holds for a server."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from piapi_mcp.commands.launch import KEY_VARIABLE, server_entry

_INPUT_ID = "piapi_api_key"


@dataclass(frozen=True)
class Client:
    """A client, as its vendor documents it."""

    name: str
    title: str
    servers_key: str
    """Key of the configuration under which the servers are listed."""
    find_config: Callable[[], Path]
    """Returns the path of the configuration file, which need not exist."""
    config_format: Literal["json", "toml"] = "json"
    key_reference: str = ""
    """How the configuration refers to the user's PIAPI_API_KEY; empty if the client supports no references."""
    extra_fields: dict[str, Any] | None = None
    """Fields of an entry that only this client has."""
    inputs: tuple[dict[str, Any], ...] = ()
    """Values that the client asks its user for; the entry refers to them by id."""
    next_step: str = ""
    """What the user does after the installation; empty for restarting the client."""

    def build_entry(self, key: str, *, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return the entry for this installation, with *key*, else a reference to it, else a blank to fill in."""
        is_sandbox = "--sandbox" in arguments
        entry = server_entry("" if is_sandbox else key or self.key_reference, arguments=arguments)
        if "env" not in entry and not is_sandbox:
            entry["env"] = {KEY_VARIABLE: ""}
        return (self.extra_fields or {}) | entry


def _in_application_folder(*parts: str) -> Callable[[], Path]:
    """Return a function that finds a file in the system's folder for applications' settings."""

    def find() -> Path:
        if sys.platform == "darwin":
            return Path.home().joinpath("Library", "Application Support", *parts)
        if sys.platform == "win32":
            return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming").joinpath(*parts)
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").joinpath(*parts)

    return find


def _in_home_folder(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


CLIENTS = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        "mcpServers",
        _in_application_folder("Claude", "claude_desktop_config.json"),
    ),
    Client(
        "claude-code",
        "Claude Code, in this folder",
        "mcpServers",
        lambda: Path.cwd() / ".mcp.json",
        key_reference="${PIAPI_API_KEY}",
        extra_fields={"type": "stdio"},
        next_step="Start Claude Code in this folder.",
    ),
    Client(
        "cursor",
        "Cursor",
        "mcpServers",
        _in_home_folder(".cursor", "mcp.json"),
        key_reference="${env:PIAPI_API_KEY}",
    ),
    Client(
        "vscode",
        "VS Code",
        "servers",
        _in_application_folder("Code", "User", "mcp.json"),
        key_reference=f"${{input:{_INPUT_ID}}}",
        extra_fields={"type": "stdio"},
        inputs=({"type": "promptString", "id": _INPUT_ID, "description": "PiAPI API key", "password": True},),
        next_step="VS Code asks for your PiAPI key when it starts the server for the first time.",
    ),
    Client(
        "codex",
        "Codex",
        "mcp_servers",
        lambda: Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex") / "config.toml",
        config_format="toml",
        # Without `required`, the tools may be missing from the first turn; without the approval mode, Codex may not
        # call the paid ones.
        extra_fields={"required": True, "default_tools_approval_mode": "approve"},
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "mcpServers",
        _in_home_folder(".gemini", "settings.json"),
        key_reference="${PIAPI_API_KEY}",
    ),
)


def find_client(name: str) -> Client:
    """Return the client called *name*."""
    return next(client for client in CLIENTS if client.name == name)
