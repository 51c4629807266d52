"""What a killed server leaves behind."""

from pathlib import Path

import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from tests.support.kills import kill_once


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.2, 0.25, 0.3, 0.4])
async def test_a_killed_server_loses_nothing_and_buys_nothing_twice(
    sandbox: SandboxControl, base_url: str, tmp_path: Path, after_s: float
) -> None:
    """Wherever the kill falls: the moments differ from machine to machine, the promise does not."""
    outcome = await kill_once(sandbox, base_url, tmp_path, after_s=after_s)
    assert outcome.bought <= 1
    assert not outcome.is_lost
    assert outcome.told in ("a new task", "the task already bought", "unknown, with what to do")
