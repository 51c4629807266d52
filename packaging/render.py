"""Writes the files and README sections that repeat the owner, repository, version, settings or commands.

    python packaging/render.py [--check]

The repository's URL is defined in `pyproject.toml` (to publish under another name, change it there and run this), the
version in `piapi_mcp/__init__.py`, the settings in `piapi_mcp/settings.py`. With --check nothing is written, and the
exit status is 1 if a file is out of date.
"""

import base64
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import piapi_mcp
from piapi_mcp.settings import Settings

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY: str = PROJECT["urls"]["Repository"]
OWNER, NAME = REPOSITORY.removeprefix("https://github.com/").split("/")
VERSION = piapi_mcp.__version__
TITLE = "PiAPI upscaling"
DESCRIPTION = "Upscale Midjourney images, videos and other images with PiAPI: priced first, never bought twice."
REGISTRY_NAME = f"io.github.{OWNER}/{NAME}"
ICON_URL = f"https://raw.githubusercontent.com/{OWNER}/{NAME}/main/packaging/icon.png"
KEY = "PIAPI_API_KEY"

FILES = {
    "claude-desktop": "`claude_desktop_config.json` (Settings → Developer → Edit Config)",
    "claude-code": "`.mcp.json` of your project",
    "cursor": "`~/.cursor/mcp.json`",
    "vscode": "`mcp.json` (command *MCP: Open User Configuration*)",
    "codex": "`~/.codex/config.toml`",
    "gemini": "`~/.gemini/settings.json`",
}
"""Where the users of each client find its configuration file, as Markdown."""

_ONLY_STDIO = {"PIAPI_OUTPUT_DIR", "PIAPI_ALLOWED_DIRS"}
"""Settings for local files, which the server does not use over HTTP."""


def environment_variables(*, over_http: bool) -> list[dict[str, Any]]:
    """Return the settings of one transport in the registry's format for environment variables."""
    variables: list[dict[str, Any]] = []
    for field in Settings.model_fields.values():
        name, text = str(field.alias), " ".join((field.description or "").split()).replace("`", "")
        if name in _ONLY_STDIO if over_http else name.startswith("PIAPI_MCP_"):
            continue
        variable: dict[str, Any] = {"name": name, "description": text}
        if name == KEY:
            variable["isRequired"] = not over_http
        if "SecretStr" in str(field.annotation):
            variable["isSecret"] = True
        variables.append(variable)
    return variables


def server_json() -> dict[str, Any]:
    """Return the description for the MCP registry."""
    package: dict[str, Any] = {
        "registryType": "pypi",
        "identifier": PROJECT["name"],
        "version": VERSION,
        "runtimeHint": "uvx",
    }
    port = {
        "type": "named",
        "name": "--port",
        "description": "Port to listen on.",
        "format": "number",
        "default": "8000",
    }
    transport = {"type": "named", "name": "--transport", "value": "streamable-http"}
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": REGISTRY_NAME,
        "title": TITLE,
        "description": DESCRIPTION,
        "version": VERSION,
        "websiteUrl": REPOSITORY,
        "repository": {"url": REPOSITORY, "source": "github"},
        "icons": [{"src": ICON_URL, "mimeType": "image/png", "sizes": ["512x512"]}],
        "packages": [
            {**package, "transport": {"type": "stdio"}, "environmentVariables": environment_variables(over_http=False)},
            {
                **package,
                "transport": {"type": "streamable-http", "url": "http://127.0.0.1:{--port}/mcp"},
                "packageArguments": [transport, port],
                "environmentVariables": environment_variables(over_http=True),
            },
        ],
    }


def bundle_manifest() -> dict[str, Any]:
    """Return the manifest of the Claude Desktop bundle."""
    asked: dict[str, tuple[str, str, dict[str, Any]]] = {
        "api_key": ("PIAPI_API_KEY", "PiAPI key", {"sensitive": True, "required": True}),
        "output_dir": ("PIAPI_OUTPUT_DIR", "Folder for results", {"type": "directory"}),
        "allowed_dirs": ("PIAPI_ALLOWED_DIRS", "Folder with your videos and images", {"type": "directory"}),
        "max_cost_usd": ("PIAPI_MAX_COST_USD", "Maximum cost of one task, in US dollars", {}),
        "daily_budget_usd": ("PIAPI_DAILY_BUDGET_USD", "Maximum cost of all tasks in a day, in US dollars", {}),
    }
    described = {variable["name"]: variable["description"] for variable in environment_variables(over_http=False)}
    return {
        "manifest_version": "0.4",
        "name": PROJECT["name"],
        "display_name": TITLE,
        "version": VERSION,
        "description": DESCRIPTION,
        "author": {"name": OWNER, "url": f"https://github.com/{OWNER}"},
        "repository": {"type": "git", "url": REPOSITORY},
        "license": PROJECT["license"],
        "icon": "icon.png",
        "server": {
            "type": "uv",
            "entry_point": "main.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "--no-dev", "main.py"],
                "env": {variable: f"${{user_config.{name}}}" for name, (variable, _, _) in asked.items()},
            },
        },
        "tools": [{"name": tool, "description": text} for tool, text in tools()],
        "user_config": {
            name: {"type": "string", "title": title, "description": described[variable], "required": False, **more}
            for name, (variable, title, more) in asked.items()
        },
        "compatibility": {"platforms": ["darwin", "win32", "linux"], "runtimes": {"python": ">=3.11"}},
    }


def bundle_project() -> str:
    """Return the bundle's `pyproject.toml`: only the dependencies, so that uv has nothing to build."""
    dependencies = "".join(f"  {json.dumps(requirement)},\n" for requirement in PROJECT["dependencies"])
    return (
        f'[project]\nname = "{PROJECT["name"]}-bundle"\nversion = "{VERSION}"\n'
        f'requires-python = "{PROJECT["requires-python"]}"\ndependencies = [\n{dependencies}]\n\n'
        "[tool.uv]\npackage = false\n"
    )


def tools() -> list[tuple[str, str]]:
    """Return the names and descriptions of the tools."""
    from piapi_mcp.server.tools import build_tools

    return [(tool.name, tool.description or "") for tool in build_tools()]


def plugin_json() -> dict[str, Any]:
    """Return the manifest of the plugin for Claude Code, Codex and Copilot."""
    return {
        "name": PROJECT["name"],
        "version": VERSION,
        "description": DESCRIPTION,
        "author": {"name": OWNER, "url": f"https://github.com/{OWNER}"},
        "homepage": REPOSITORY,
        "repository": REPOSITORY,
        "license": PROJECT["license"],
        "keywords": PROJECT["keywords"],
        "userConfig": {
            "api_key": {
                "type": "string",
                "title": "PiAPI key",
                "description": "The key that pays for the tasks; get it at https://piapi.ai/workspace/key",
                "sensitive": True,
            }
        },
        "mcpServers": {"piapi": uvx_entry({KEY: "${user_config.api_key}"})},
    }


def marketplace_json() -> dict[str, Any]:
    """Return the marketplace that lists the plugin in this repository."""
    return {
        "name": PROJECT["name"],
        "owner": {"name": OWNER},
        "metadata": {"description": DESCRIPTION, "version": VERSION},
        "plugins": [{"name": PROJECT["name"], "source": "./plugin", "description": DESCRIPTION}],
    }


def uvx_entry(env: dict[str, str]) -> dict[str, Any]:
    """Return the entry with which most clients start the published package."""
    return {"command": "uvx", "args": [PROJECT["name"]], "env": env}


def install_links() -> str:
    """Return the README's one-click installation links."""
    entry = uvx_entry({KEY: ""})
    encoded = base64.b64encode(json.dumps(entry, separators=(",", ":")).encode()).decode()
    cursor = "https://cursor.com/en/install-mcp?" + urlencode({"name": "piapi", "config": encoded}, quote_via=quote)
    asked = {"type": "promptString", "id": "piapi_api_key", "description": "PiAPI API key", "password": True}
    entry = {"type": "stdio", **uvx_entry({KEY: "${input:piapi_api_key}"})}
    query = {
        "name": "piapi",
        "inputs": json.dumps([asked], separators=(",", ":")),
        "config": json.dumps(entry, separators=(",", ":")),
    }
    code = "https://insiders.vscode.dev/redirect/mcp/install?" + urlencode(query, quote_via=quote)
    return f"[Install in Cursor]({cursor}) · [Install in VS Code]({code})"


def client_blocks() -> str:
    """Return the README's collapsible block for each client."""
    from piapi_mcp.commands.clients import CLIENTS
    from piapi_mcp.commands.config_files import render_block

    folds: list[str] = []
    for client in CLIENTS:
        entry = (client.extra_fields or {}) | uvx_entry({KEY: client.key_reference or "your key"})
        block = render_block(client, "piapi", entry).rstrip()
        if client.config_format == "json":
            block = compact(json.loads(block))
        block = f"In {FILES[client.name]}:\n\n```{client.config_format}\n{block}\n```"
        folds.append(f"<details><summary>{client.title}</summary>\n\n{block}\n\n</details>")
    return "\n".join(folds)


def compact(document: dict[str, Any]) -> str:
    """Return *document* as JSON with one line for each top-level key."""
    parts = ",\n".join(f"  {json.dumps(name)}: {json.dumps(part)}" for name, part in document.items())
    return f"{{\n{parts}\n}}"


def readme() -> str:
    """Return the README with its generated sections up to date."""
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"<!-- mcp-name: .* -->", f"<!-- mcp-name: {REGISTRY_NAME} -->", text)
    text = re.sub(r"(?<=<!-- links -->\n)[^\n]*(?=\n<!-- /links -->)", lambda _: install_links(), text)
    blocks = f"<!-- clients -->\n{client_blocks()}\n<!-- /clients -->"
    return re.sub(r"<!-- clients -->.*<!-- /clients -->", lambda _: blocks, text, flags=re.DOTALL)


def dockerfile() -> str:
    """Return the Dockerfile with its labels up to date."""
    text = (ROOT / "Dockerfile").read_text()
    label = f'io.modelcontextprotocol.server.name="{REGISTRY_NAME}"'
    text = re.sub(r'io\.modelcontextprotocol\.server\.name="[^"]*"', label, text)
    return re.sub(
        r'org\.opencontainers\.image\.source="[^"]*"', f'org.opencontainers.image.source="{REPOSITORY}"', text
    )


def as_json(document: dict[str, Any]) -> str:
    """Return *document* as the text of a committed file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def rendered() -> dict[Path, str]:
    """Return the up-to-date text of each generated file."""
    return {
        ROOT / "server.json": as_json(server_json()),
        ROOT / "packaging/bundle/manifest.json": as_json(bundle_manifest()),
        ROOT / "packaging/bundle/pyproject.toml": bundle_project(),
        ROOT / "plugin/.claude-plugin/plugin.json": as_json(plugin_json()),
        ROOT / ".claude-plugin/marketplace.json": as_json(marketplace_json()),
        ROOT / "README.md": readme(),
        ROOT / "Dockerfile": dockerfile(),
    }


def main(arguments: list[str]) -> int:
    """Write the files, or check them with --check, and return the exit status."""
    stale = {path: text for path, text in rendered().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return bool(stale) and "--check" in arguments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
