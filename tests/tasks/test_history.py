"""Cancelling, listing, and the account."""

import asyncio
from decimal import Decimal

import pytest

from piapi_mcp.errors import InputRejectedError, OutcomeUnknownError, PiAPIError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import SAMPLES
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.request import SubmitOptions
from tests.support.services import GRID, serve, upscale


async def test_cancelling_a_pending_task_reports_the_refund(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=1000)
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        task = await service.cancel(task_id)
        assert (task.status, task.charged_usd) == ("failed", Decimal(0))
        assert task.notes == ["PiAPI accepted the cancellation and shows no charge."]
        again = await upscale(service)
    assert again.task_id != task_id


async def test_a_task_that_is_processed_is_not_cancelled_and_the_error_says_so(
    settings: Settings, sandbox: SandboxControl
) -> None:
    async with serve(settings) as service:
        task_id = (await upscale(service, wait_s=10)).task_id
        assert task_id is not None
        with pytest.raises(InputRejectedError) as caught:
            await service.cancel(task_id)
    assert str(caught.value) == (
        "The task is completed; PiAPI cancels only tasks that are still pending. It was not cancelled, and it keeps "
        "its price. Call get_task for its state."
    )
    assert sandbox.requests("cancel") == []


async def test_the_list_joins_ledger_and_history(settings: Settings) -> None:
    async with serve(settings) as service:
        task = await upscale(service, wait_s=10)
        listed = (await service.list_tasks(limit=50)).tasks
        failed = (await service.list_tasks(limit=50, status="failed")).tasks
    assert {line.task_id for line in listed} == {task.task_id, *(sample.task_id for sample in SAMPLES)}
    assert (listed[0].task_id, listed[0].what, listed[0].usd) == (
        task.task_id,
        f"index 3 of task {GRID}",
        Decimal("0.01"),
    )
    assert failed == []


async def test_the_account_is_reported_in_dollars(settings: Settings) -> None:
    async with serve(settings, daily_budget_usd=Decimal(5)) as service:
        account = await service.account()
    assert account.model_dump(exclude_none=True) == {
        "balance_usd": 10.0,
        "frozen_usd": 0.0,
        "plan": "creator",
        "max_concurrent_tasks": 5,
        "spent_today_usd": 0.0,
        "daily_budget_usd": 5.0,
    }


async def test_every_error_of_a_service_without_piapi_says_that_nothing_was_bought(settings: Settings) -> None:
    async with serve(settings, base_url="http://127.0.0.1:1") as service:
        for call in (upscale(service), service.get(GRID), service.account(), service.list_tasks(limit=5)):
            with pytest.raises(PiAPIError, match=r"Nothing was submitted or charged\."):
                await call


async def test_an_unknown_submission_is_listed_behind_any_number_of_newer_ones(
    settings: Settings, sandbox: SandboxControl
) -> None:
    sandbox.set(max_concurrent_tasks=100)
    sandbox.fault("create", "cut")
    async with serve(settings) as service:
        with pytest.raises(OutcomeUnknownError):
            await upscale(service, "1")
        for _ in range(5):
            await upscale(service, "2", SubmitOptions(allow_repeat=True))
        listed = await service.list_tasks(limit=1, status="unknown")
    assert [line.what for line in listed.tasks] == [f"index 1 of task {GRID}"]


async def test_a_submission_under_way_is_not_listed_as_unknown(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.fault("create", "delay", delay_s=0.5)
    async with serve(settings) as service:
        submission = asyncio.create_task(upscale(service))
        await asyncio.to_thread(sandbox.wait_for, "create")
        listed = await service.list_tasks(limit=10)
        await submission
    assert "submitting" in [line.status for line in listed.tasks]
    assert "unknown" not in [line.status for line in listed.tasks]
