"""The server over stdio, started as clients start it: a subprocess that speaks MCP over its standard streams."""

import json
import os
import subprocess
import sys
from typing import Any

from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.settings import Settings

COMMAND = [sys.executable, "-m", "piapi_mcp"]
KEY = "sandbox-s3cr3t-key"
UPSCALE_ARGUMENTS = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "3"}
"""A valid call of `midjourney_upscale`."""

_INHERITED = ("PATH", "HOME", "APPDATA", "LOCALAPPDATA", "SYSTEMROOT", "TEMP", "USERPROFILE")
_COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""By these coverage.py reaches subprocesses; set only while coverage is measured."""


def inherited_environment() -> dict[str, str]:
    """Return the part of this process's environment that clients pass on to servers."""
    return {name: os.environ[name] for name in (*_INHERITED, *_COVERAGE) if name in os.environ}


def environment(settings: Settings, **variables: str) -> dict[str, str]:
    """Return the environment of a server started by a client: a key, *settings*, then *variables*."""
    return (
        inherited_environment()
        | {
            "PIAPI_API_KEY": KEY,
            "PIAPI_BASE_URL": settings.base_url,
            "PIAPI_STATE_DIR": str(settings.state_dir),
            "PIAPI_ALLOWED_DIRS": str(settings.allowed_dirs),
        }
        | variables
    )


def start_server(settings: Settings, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the command with *arguments*; *variables* are added to its environment."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(settings, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def exchange(server: subprocess.Popen[str], message: dict[str, Any]) -> dict[str, Any]:
    """Send one message and return the answer to it."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(message) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())
