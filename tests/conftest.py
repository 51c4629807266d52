"""What most tests need: a sandbox in place of PiAPI, settings that lead to it, and a server over HTTP."""

import math
import os
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.settings import Settings
from tests.support.http_server import HttpServer, run_shared_server
from tests.support.stdio_server import KEY

WORKERS_PER_CORE = 2
"""Half of the time, a test waits for a poll or for another process."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `--numprocesses auto` starts."""
    return math.ceil(WORKERS_PER_CORE * (os.cpu_count() or 1))


@pytest.fixture(scope="session")
def sandbox_server() -> Generator[SandboxServer]:
    """Return the sandbox that all tests of this process share."""
    with SandboxServer() as server:
        yield server


@pytest.fixture
def sandbox(sandbox_server: SandboxServer) -> Generator[SandboxControl]:
    """Return the control of a freshly reset sandbox, whose tasks complete at the first poll without real work."""
    control = SandboxControl(sandbox_server.base_url)
    control.reset(polls=1, does_work=False)
    yield control
    control.close()


@pytest.fixture
def base_url(sandbox: SandboxControl, sandbox_server: SandboxServer) -> str:
    """Return the address of the sandbox that `sandbox` controls."""
    del sandbox
    return sandbox_server.base_url


@pytest.fixture
def settings(base_url: str, tmp_path: Path) -> Settings:
    """Return settings with a key, a ledger of the test's own, and permission to read files in the test's folder."""
    return Settings.from_env(
        {
            "PIAPI_API_KEY": KEY,
            "PIAPI_BASE_URL": base_url,
            "PIAPI_STATE_DIR": str(tmp_path / "state"),
            "PIAPI_ALLOWED_DIRS": str(tmp_path),
        }
    )


@pytest.fixture(scope="session")
def _session_http_server(
    sandbox_server: SandboxServer, tmp_path_factory: pytest.TempPathFactory
) -> Generator[HttpServer]:
    folder = tmp_path_factory.mktemp("http-server")
    with run_shared_server(sandbox_server.base_url, folder, PIAPI_ALLOWED_DIRS="/") as server:
        yield server


@pytest.fixture
def http_server(sandbox: SandboxControl, _session_http_server: HttpServer) -> HttpServer:
    """Return a server without a key, shared by all tests of this process; each test calls it with `own_key`.

    For tests that need no settings of their own: starting a server takes about a second.
    """
    del sandbox
    return _session_http_server


@pytest.fixture
def own_key() -> str:
    """Return a PiAPI key that no other test has used, so that a shared server has no submissions under it yet."""
    return f"sandbox-{uuid4().hex}"
