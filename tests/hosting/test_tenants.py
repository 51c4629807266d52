"""Two tenants on one server with one ledger: no tool shows or touches what belongs to the other."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from mcp import Client

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.server.tools import build_tools
from piapi_mcp.settings import Settings
from tests.support.http_server import HttpServer, connect, run_server
from tests.support.media_files import make_clip

SECRET = "wh-s3cr3t"
UPSCALE = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "4"}
TOOLS = [tool.name for tool in build_tools(local_files=False)]


@dataclass(frozen=True)
class Tenants:
    """A victim that has bought a task, and an attacker, both connected to one server."""

    victim: Client
    attacker: Client
    task_id: str
    """What the victim bought."""


@pytest.fixture
def attacker_key() -> str:
    return f"sandbox-attacker-{uuid4().hex}"


@asynccontextmanager
async def connect_both(
    server: HttpServer, own_key: str, attacker_key: str, transport: str = "streamable-http"
) -> AsyncGenerator[Tenants]:
    """Connect both tenants, and buy a task as the victim."""
    async with (
        connect(server.url, transport, "auto", x_api_key=own_key) as victim,
        connect(server.url, transport, "auto", x_api_key=attacker_key) as attacker,
    ):
        webhook = {"webhook_endpoint": "https://hook.example.com", "webhook_secret": SECRET}
        bought = await victim.call_tool("midjourney_upscale", UPSCALE | webhook)
        assert bought.structured_content is not None
        yield Tenants(victim, attacker, bought.structured_content["task_id"])


def attacks(task_id: str, ledger: str) -> dict[str, dict[str, Any]]:
    """Return, for each tool, the call by which an attacker would get at the task or at the *ledger*."""
    return {
        "midjourney_upscale": {"origin_task_id": task_id, "index": "subtle"},
        "video_upscale": {"video": "/etc/passwd"},
        "image_upscale": {"image": ledger},
        "get_task": {"task_id": task_id, "wait_seconds": 1},
        "cancel_task": {"task_id": task_id},
        "list_tasks": {"limit": 100, "status": "unknown"},
        "get_account": {},
    }


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
@pytest.mark.parametrize("tool", TOOLS)
async def test_no_tool_shows_or_touches_the_task_of_another_key(
    http_server: HttpServer, own_key: str, attacker_key: str, sandbox: SandboxControl, tool: str, transport: str
) -> None:
    sandbox.set(polls=10_000)
    async with connect_both(http_server, own_key, attacker_key, transport) as tenants:
        task_id = tenants.task_id
        call = attacks(task_id, f"file://{http_server.settings.state_dir}/ledger.sqlite3")[tool]
        result = await tenants.attacker.call_tool(tool, call)
        answer = json.dumps([block.model_dump(mode="json") for block in result.content])
        seen = await tenants.victim.call_tool("get_task", {"task_id": task_id, "wait_seconds": 0})
    assert own_key not in answer
    assert SECRET not in answer
    assert "hook.example.com" not in answer
    # Of the task, nothing comes back but the id that the attacker sent.
    assert answer.count(task_id) <= json.dumps(call).count(task_id)
    assert seen.structured_content is not None
    assert seen.structured_content["status"] in ("pending", "processing")
    assert len(sandbox.tasks()) == 1


def test_every_tool_is_attacked() -> None:
    assert list(attacks("", "")) == TOOLS


async def test_the_same_request_with_another_key_buys_another_task(
    http_server: HttpServer, own_key: str, attacker_key: str, sandbox: SandboxControl
) -> None:
    async with connect_both(http_server, own_key, attacker_key) as tenants:
        first = await tenants.attacker.call_tool("midjourney_upscale", UPSCALE)
        again = await tenants.attacker.call_tool("midjourney_upscale", UPSCALE)
    assert first.structured_content is not None
    assert again.structured_content is not None
    assert first.structured_content["task_id"] != tenants.task_id
    assert again.structured_content["task_id"] == first.structured_content["task_id"]
    assert "notes" not in first.structured_content
    assert len(sandbox.tasks()) == 2


async def test_a_submission_of_unknown_outcome_is_listed_to_its_own_key_alone(
    http_server: HttpServer, own_key: str, attacker_key: str, sandbox: SandboxControl
) -> None:
    sandbox.fault("create", "cut", when="before", times=1)
    async with connect(http_server.url, "streamable-http", "auto", x_api_key=own_key) as victim:
        lost = await victim.call_tool("midjourney_upscale", UPSCALE)
        seen = await victim.call_tool("list_tasks", {"status": "unknown"})
    async with connect(http_server.url, "streamable-http", "auto", x_api_key=attacker_key) as attacker:
        unseen = await attacker.call_tool("list_tasks", {"status": "unknown"})
    assert lost.is_error
    assert "unknown" in str(seen.content)
    assert not (unseen.structured_content or {"tasks": []})["tasks"]


async def test_each_key_has_a_budget_of_its_own(
    settings: Settings, own_key: str, attacker_key: str, sandbox: SandboxControl
) -> None:
    sandbox.set(does_work=True)
    clips = [make_clip(width=64, height=64, frames=frames) for frames in (10, 11)]
    videos = [f"data:video/mp4;base64,{base64.b64encode(clip).decode()}" for clip in clips]
    with run_server(settings, PIAPI_DAILY_BUDGET_USD="0.004") as server:
        async with (
            connect(server.url, "streamable-http", "auto", x_api_key=own_key) as one,
            connect(server.url, "streamable-http", "auto", x_api_key=attacker_key) as another,
        ):
            bought = await one.call_tool("video_upscale", {"video": videos[0]})
            refused = await one.call_tool("video_upscale", {"video": videos[1]})
            bought_by_another = await another.call_tool("video_upscale", {"video": videos[1]})
            account = await another.call_tool("get_account", {})
    assert not bought.is_error
    assert refused.is_error
    assert not bought_by_another.is_error
    assert account.structured_content is not None
    assert account.structured_content["spent_today_usd"] == pytest.approx(0.0033)


async def test_keys_that_call_at_the_same_time_get_their_own_answers(http_server: HttpServer, own_key: str) -> None:
    keys = [f"{own_key}-{number}" for number in range(8)]

    async def submit(key: str) -> str:
        async with connect(http_server.url, "streamable-http", "auto", x_api_key=key) as client:
            bought = await client.call_tool("midjourney_upscale", UPSCALE)
            assert bought.structured_content is not None
            task_id = bought.structured_content["task_id"]
            seen = await client.call_tool("get_task", {"task_id": task_id, "wait_seconds": 0})
            assert not seen.is_error
            return task_id

    task_ids = await asyncio.gather(*map(submit, keys))
    assert len(set(task_ids)) == len(keys)
