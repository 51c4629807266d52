"""Writes every file that repeats what stands elsewhere: owner, repository, version, settings, commands.

    python packaging/render.py [--check]

The repository's address stands in `pyproject.toml` (whoever publishes under another name changes it there and runs
this), the version in `piapi_mcp/__init__.py`, the settings in `piapi_mcp/settings.py`. With --check nothing is written;
the exit status is 1 if a file is not as it would be written.
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
"""Where each client's users find its configuration."""

_ONLY_STDIO = {"PIAPI_OUTPUT_DIR", "PIAPI_ALLOWED_DIRS"}
"""Settings for files, of which there are none over HTTP."""


def settings(*, over_http: bool) -> list[dict[str, Any]]:
    """Return the settings of one way of running, each as the registry describes an environment variable."""
    described: list[dict[str, Any]] = []
    for field in Settings.model_fields.values():
        name, text = str(field.alias), " ".join((field.description or "").split()).replace("`", "")
        if name in _ONLY_STDIO if over_http else name.startswith("PIAPI_MCP_"):
            continue
        variable: dict[str, Any] = {"name": name, "description": text}
        if name == KEY:
            variable["isRequired"] = not over_http
        if "SecretStr" in str(field.annotation):
            variable["isSecret"] = True
        described.append(variable)
    return described


def server_json() -> dict[str, Any]:
    """Return what the MCP registry is told."""
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
            {**package, "transport": {"type": "stdio"}, "environmentVariables": settings(over_http=False)},
            {
                **package,
                "transport": {"type": "streamable-http", "url": "http://127.0.0.1:{--port}/mcp"},
                "packageArguments": [transport, port],
                "environmentVariables": settings(over_http=True),
            },
        ],
    }


def bundle_manifest() -> dict[str, Any]:
    """Return what Claude Desktop is told about the bundle."""
    asked: dict[str, tuple[str, str, dict[str, Any]]] = {
        "api_key": ("PIAPI_API_KEY", "PiAPI key", {"sensitive": True, "required": True}),
        "output_dir": ("PIAPI_OUTPUT_DIR", "Folder for results", {"type": "directory"}),
        "allowed_dirs": ("PIAPI_ALLOWED_DIRS", "Folder of your videos and images", {"type": "directory"}),
        "max_cost_usd": ("PIAPI_MAX_COST_USD", "Most that one task may cost, in US dollars", {}),
        "daily_budget_usd": ("PIAPI_DAILY_BUDGET_USD", "Most that a day may cost, in US dollars", {}),
    }
    described = {variable["name"]: variable["description"] for variable in settings(over_http=False)}
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
    """Return the `pyproject.toml` of the bundle: the dependencies alone, so that nothing has to be built."""
    dependencies = "".join(f"  {json.dumps(wanted)},\n" for wanted in PROJECT["dependencies"])
    return (
        f'[project]\nname = "{PROJECT["name"]}-bundle"\nversion = "{VERSION}"\n'
        f'requires-python = "{PROJECT["requires-python"]}"\ndependencies = [\n{dependencies}]\n\n'
        "[tool.uv]\npackage = false\n"
    )


def tools() -> list[tuple[str, str]]:
    """Return the tools' names and descriptions."""
    from piapi_mcp.server.tools import build_tools

    return [(tool.name, tool.description or "") for tool in build_tools()]


def plugin_json() -> dict[str, Any]:
    """Return what Claude Code, Codex and Copilot are told about the plugin."""
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
                "description": "Pays for the tasks; from https://piapi.ai/workspace/key",
                "sensitive": True,
            }
        },
        "mcpServers": {"piapi": uvx({KEY: "${user_config.api_key}"})},
    }


def marketplace_json() -> dict[str, Any]:
    """Return the list by which the plugin is found in this repository."""
    return {
        "name": PROJECT["name"],
        "owner": {"name": OWNER},
        "metadata": {"description": DESCRIPTION, "version": VERSION},
        "plugins": [{"name": PROJECT["name"], "source": "./plugin", "description": DESCRIPTION}],
    }


def uvx(env: dict[str, str]) -> dict[str, Any]:
    """Return the entry by which most clients start the published package."""
    return {"command": "uvx", "args": [PROJECT["name"]], "env": env}


def links() -> str:
    """Return the one-click links of the README."""
    entry = uvx({KEY: ""})
    encoded = base64.b64encode(json.dumps(entry, separators=(",", ":")).encode()).decode()
    cursor = "https://cursor.com/en/install-mcp?" + urlencode({"name": "piapi", "config": encoded}, quote_via=quote)
    asked = {"type": "promptString", "id": "piapi_api_key", "description": "PiAPI API key", "password": True}
    entry = {"type": "stdio", **uvx({KEY: "${input:piapi_api_key}"})}
    query = {
        "name": "piapi",
        "inputs": json.dumps([asked], separators=(",", ":")),
        "config": json.dumps(entry, separators=(",", ":")),
    }
    code = "https://insiders.vscode.dev/redirect/mcp/install?" + urlencode(query, quote_via=quote)
    return f"[Install in Cursor]({cursor}) · [Install in VS Code]({code})"


def client_blocks() -> str:
    """Return the README's block for each client, each to be unfolded."""
    from piapi_mcp.commands.clients import CLIENTS
    from piapi_mcp.commands.config_files import render_block

    folds: list[str] = []
    for client in CLIENTS:
        entry = (client.extra_fields or {}) | uvx({KEY: client.key_reference or "your key"})
        block = render_block(client, "piapi", entry).rstrip()
        if client.config_format == "json":
            block = compact(json.loads(block))
        block = f"In {FILES[client.name]}:\n\n```{client.config_format}\n{block}\n```"
        folds.append(f"<details><summary>{client.title}</summary>\n\n{block}\n\n</details>")
    return "\n".join(folds)


def compact(document: dict[str, Any]) -> str:
    """Return *document* as JSON, a line for each of its parts."""
    parts = ",\n".join(f"  {json.dumps(name)}: {json.dumps(part)}" for name, part in document.items())
    return f"{{\n{parts}\n}}"


def readme() -> str:
    """Return the README with its generated parts as they should be."""
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"<!-- mcp-name: .* -->", f"<!-- mcp-name: {REGISTRY_NAME} -->", text)
    text = re.sub(r"(?<=<!-- links -->\n)[^\n]*(?=\n<!-- /links -->)", lambda _: links(), text)
    blocks = f"<!-- clients -->\n{client_blocks()}\n<!-- /clients -->"
    return re.sub(r"<!-- clients -->.*<!-- /clients -->", lambda _: blocks, text, flags=re.DOTALL)


def dockerfile() -> str:
    """Return the container file with its labels as they should be."""
    text = (ROOT / "Dockerfile").read_text()
    label = f'io.modelcontextprotocol.server.name="{REGISTRY_NAME}"'
    text = re.sub(r'io\.modelcontextprotocol\.server\.name="[^"]*"', label, text)
    return re.sub(
        r'org\.opencontainers\.image\.source="[^"]*"', f'org.opencontainers.image.source="{REPOSITORY}"', text
    )


def as_json(document: dict[str, Any]) -> str:
    """Return *document* as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def rendered() -> dict[Path, str]:
    """Return what each generated file should hold."""
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
    """Write or check the files, and return the exit status."""
    stale = {path: text for path, text in rendered().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return bool(stale) and "--check" in arguments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
