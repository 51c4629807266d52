"""Waits and looks against the sandbox; when looks happen is in test_waiting."""

import asyncio
from typing import Any

import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from tests.support.services import serve, upscale


async def test_many_waits_for_one_task_cost_no_more_polls_than_one(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=3)
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        before = len(sandbox.requests("read"))
        tasks = await asyncio.gather(*(service.get(task_id, wait_s=20) for _ in range(100)))
    assert {task.status for task in tasks} == {"completed"}
    assert len(sandbox.requests("read")) - before == 3


async def test_a_cancelled_wait_leaves_the_others_waiting(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=3)
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        given_up = asyncio.create_task(service.get(task_id, wait_s=20))
        stays = asyncio.create_task(service.get(task_id, wait_s=20))
        await asyncio.sleep(0)
        given_up.cancel()
        assert (await stays).status == "completed"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "answer", "status": 502, "body": "<html>"}, id="502-page"),
        pytest.param({"kind": "answer", "status": 429, "headers": {"retry-after": "1"}}, id="429"),
        pytest.param({"kind": "cut"}, id="cut"),
    ],
)
async def test_a_poll_that_fails_ends_no_wait(
    settings: Settings, sandbox: SandboxControl, fault: dict[str, Any]
) -> None:
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        sandbox.fault("read", times=3, **fault)
        assert (await service.get(task_id, wait_s=20)).status == "completed"


async def test_a_wait_whose_polls_fail_says_since_when(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=1000)
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        sandbox.fault("read", "answer", status=502, times=10_000, skip=1)
        task = await service.get(task_id, wait_s=9)
    assert task.status in ("pending", "processing")
    assert task.notes is not None
    assert task.notes[0].startswith("PiAPI has not answered for ")


async def test_a_replay_while_piapi_does_not_answer_returns_the_id_without_a_state(
    settings: Settings, sandbox: SandboxControl
) -> None:
    async with serve(settings) as service:
        bought = await upscale(service)
        sandbox.fault("read", "answer", status=502, times=10_000)
        again = await upscale(service)
    assert again.task_id == bought.task_id
    assert again.notes is not None
    assert again.notes[-1].startswith("Its state is not known now; do not buy it again. PiAPI gave no usable answer (")
