"""What most tests need: a sandbox in place of PiAPI, and the settings that lead to it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.settings import Settings

KEY = "sandbox-s3cr3t-key"


@pytest.fixture(scope="session")
def sandbox_server() -> Generator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture
def sandbox(sandbox_server: SandboxServer) -> Generator[SandboxControl]:
    """Return the control of a sandbox without a past, whose tasks complete at the first look and take no work."""
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
    """Return settings with a key and a ledger of their own, and leave to read files below the test's folder."""
    return Settings.from_env(
        {
            "PIAPI_API_KEY": KEY,
            "PIAPI_BASE_URL": base_url,
            "PIAPI_STATE_DIR": str(tmp_path / "state"),
            "PIAPI_ALLOWED_DIRS": str(tmp_path),
        }
    )
