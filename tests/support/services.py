"""A task service that works against the sandbox, opened as a new process would open it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from piapi_mcp.ledger.sqlite import SQLiteLedger
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.midjourney import MidjourneyUpscale
from piapi_mcp.tasks.models import Task
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import TaskService
from tests.support.fault_matrix import no_pause
from tests.support.media_files import make_clip

GRID = Sample("6", is_grid=True).task_id
"""A finished grid that every account of the sandbox has."""
NO_OPTIONS = SubmitOptions()


def admit_all(spent_today_usd: Decimal) -> str | None:
    """Admit every submission to the ledger, whatever was spent."""
    del spent_today_usd


@asynccontextmanager
async def serve(settings: Settings, *, key: str = "sandbox-s3cr3t-key", **changed: Any) -> AsyncGenerator[TaskService]:
    """Open a service for the account of *key*; *changed* replaces settings."""
    settings = settings.model_copy(update=changed)
    assert settings.state_dir is not None
    ledger = SQLiteLedger(settings.state_dir / "ledger.sqlite3", identity=f"{settings.base_url} {key}")
    client = PiAPIClient(SecretStr(key), base_url=settings.base_url, sleep=no_pause)
    service = TaskService(settings, client, ledger, sleep=no_pause)
    try:
        yield service
    finally:
        await service.close()


async def upscale(
    service: TaskService, index: Any = "3", options: SubmitOptions = NO_OPTIONS, wait_s: float = 0
) -> Task:
    """Submit an upscale of the sample grid."""
    return await service.submit(MidjourneyUpscale(GRID, index), replace(options, wait_s=wait_s))


def write_clip(folder: Path, name: str = "clip.mp4", **options: Any) -> str:
    """Make a small video with `make_clip`'s *options* and return its path."""
    path = folder / name
    path.write_bytes(make_clip(width=64, height=64, **({"frames": 10} | options)))
    return str(path)
