"""The server as clients start it: a subprocess that speaks MCP over its standard streams."""

import json
import os
import subprocess
import sys
from typing import Any

from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.settings import Settings

PASSED_ON = ("PATH", "HOME", "APPDATA", "LOCALAPPDATA", "SYSTEMROOT", "TEMP", "USERPROFILE")
"""Of the environment; what clients do."""
COMMAND = [sys.executable, "-m", "piapi_mcp"]
KEY = "sandbox-s3cr3t-key"
PAID = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "3"}


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return what a client passes on: little of its own environment, and the block of the configuration."""
    own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    state = {"PIAPI_STATE_DIR": str(settings.state_dir), "PIAPI_ALLOWED_DIRS": str(settings.allowed_dirs)}
    return own | {"PIAPI_API_KEY": KEY, "PIAPI_BASE_URL": settings.base_url} | state | more


def start(settings: Settings, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(settings, **more),
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
