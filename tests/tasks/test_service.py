"""Buying, replaying, pricing, waiting and listing, against the sandbox."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clips import make_clip
from fault_matrix import no_pause
from pydantic import SecretStr

from piapi_mcp.api.client import PiAPIClient
from piapi_mcp.errors import (
    BudgetError,
    InputRejectedError,
    InsufficientCreditError,
    LedgerError,
    OutcomeUnknownError,
    PiAPIError,
    RateLimitedError,
    ServiceWithdrawnError,
)
from piapi_mcp.sandbox.control import SandboxControl
from piapi_mcp.sandbox.samples import SAMPLES, Sample
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.ledger import Draft, Ledger
from piapi_mcp.tasks.models import Task
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.service import TaskService

GRID = Sample("6", is_grid=True).task_id
AGAIN = Options(allow_repeat=True)


@asynccontextmanager
async def serve(settings: Settings, *, key: str = "sandbox-s3cr3t-key", **changed: Any) -> AsyncGenerator[TaskService]:
    """Open a service as a new process would, with *changed* settings."""
    settings = settings.model_copy(update=changed)
    assert settings.state_dir is not None
    ledger = Ledger(settings.state_dir / "ledger.sqlite3", identity=f"{settings.base_url} {key}")
    client = PiAPIClient(SecretStr(key), base_url=settings.base_url, sleep=no_pause)
    service = TaskService(settings, client, ledger, sleep=no_pause)
    try:
        yield service
    finally:
        await service.close()


async def upscale(service: TaskService, index: Any = "3", options: Options = Options(), wait_s: float = 0) -> Task:  # noqa: B008 -- frozen
    return await service.upscale_midjourney(GRID, index, options, wait_s=wait_s)


def write_clip(folder: Path, name: str = "clip.mp4", **made: Any) -> str:
    path = folder / name
    path.write_bytes(make_clip(width=64, height=64, **({"frames": 10} | made)))
    return str(path)


async def test_the_same_request_answers_with_the_task_already_bought(
    settings: Settings, sandbox: SandboxControl
) -> None:
    async with serve(settings) as service:
        first = await upscale(service)
    async with serve(settings) as service:  # after a restart
        second = await upscale(service)
        other = await upscale(service, "4")
    assert second.task_id == first.task_id
    assert second.notes is not None
    assert second.notes[0] == (
        "The same request was submitted before: this is that task, and nothing was bought now. "
        "allow_repeat true buys it once more."
    )
    assert other.task_id != first.task_id
    assert len(sandbox.tasks()) == 2


async def test_the_same_file_under_another_name_is_the_same_request(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    async with serve(settings) as service:
        await service.upscale_video(write_clip(tmp_path), Options())
        (tmp_path / "clip.mp4").rename(tmp_path / "copy.mp4")
        await service.upscale_video(str(tmp_path / "copy.mp4"), Options())
        await service.upscale_video(write_clip(tmp_path, frames=11), Options())
    assert len(sandbox.tasks()) == 2


async def test_allow_repeat_buys_again(settings: Settings, sandbox: SandboxControl) -> None:
    async with serve(settings) as service:
        first, second = await upscale(service), await upscale(service, options=AGAIN)
    assert first.task_id != second.task_id
    assert len(sandbox.tasks()) == 2


async def test_another_key_shares_nothing(settings: Settings, sandbox: SandboxControl) -> None:
    async with serve(settings) as service, serve(settings, key="sandbox-other") as other:
        first, second = await upscale(service), await upscale(other)
        assert {line.task_id for line in (await other.list_tasks(limit=50)).tasks} == {
            second.task_id,
            *(sample.task_id for sample in SAMPLES),
        }
    assert first.task_id != second.task_id
    assert len(sandbox.tasks()) == 2


async def test_a_failed_task_does_not_stand_in_the_way(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.fault("create", "fail_task", error={"code": 10000, "message": "no"})
    async with serve(settings) as service:
        failed = await upscale(service, wait_s=10)
        again = await upscale(service, wait_s=10)
    assert (failed.status, again.status) == ("failed", "completed")
    assert len(sandbox.tasks()) == 2


@pytest.mark.parametrize("processes", [1, 4])
async def test_a_hundred_identical_requests_at_once_buy_one_task(
    settings: Settings, sandbox: SandboxControl, processes: int
) -> None:
    """Several services stand for several processes: they share nothing but the file of the ledger."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:

        async def several(count: int) -> None:
            async with serve(settings) as service:
                tasks = await asyncio.gather(*(upscale(service) for _ in range(count)))
                ids.update(task.task_id for task in tasks)

        ids = set[str | None]()
        for _ in range(processes):
            group.create_task(several(100 // processes))
    assert len(sandbox.tasks()) == 1
    assert ids == {sandbox.tasks()[0]["task_id"]}


async def test_an_unknown_outcome_is_told_with_the_money_at_stake(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    sandbox.fault("create", "cut")
    async with serve(settings) as service:
        with pytest.raises(OutcomeUnknownError) as caught:
            await service.upscale_video(write_clip(tmp_path), Options())
        (line,) = (await service.list_tasks(limit=10, status="unknown")).tasks
    assert str(caught.value) == (
        "PiAPI gave no usable answer to the submission (the connection broke off), and its history does not "
        "show the task so far. It may have been bought, for $0.003: do not submit it again. Call list_tasks in a "
        "minute to look once more; only if it never shows up, call again with allow_repeat true."
    )
    assert (line.status, line.usd, line.task_id) == ("unknown", Decimal("0.0030"), None)


async def test_a_lost_task_that_shows_up_later_is_found_by_list_tasks(
    settings: Settings, sandbox: SandboxControl
) -> None:
    sandbox.fault("create", "cut", when="after")
    sandbox.fault("history", "answer", status=502, times=9)
    async with serve(settings) as service:
        with pytest.raises(OutcomeUnknownError):
            await upscale(service)
        (task,) = sandbox.tasks()
        sandbox.clear_faults()
        listed = await service.list_tasks(limit=10)
        again = await upscale(service)
    assert task["task_id"] in {line.task_id for line in listed.tasks}
    assert "unknown" not in {line.status for line in listed.tasks}
    assert again.task_id == task["task_id"]
    assert len(sandbox.tasks()) == 1


async def test_two_lost_files_are_not_mistaken_for_each_other(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    """Ours: which of two files became the one task that shows up, nobody can say."""
    sandbox.fault("create", "cut")
    sandbox.fault("create", "cut", when="after", skip=1)
    async with serve(settings) as service:
        for frames in (10, 11):
            with pytest.raises(OutcomeUnknownError):
                await service.upscale_video(write_clip(tmp_path, frames=frames), Options())
        lines = (await service.list_tasks(limit=10)).tasks
    assert [line.status for line in lines].count("unknown") == 2
    assert sandbox.tasks()[0]["task_id"] in {line.task_id for line in lines}


async def test_a_dead_process_leaves_an_unknown_submission_behind(settings: Settings) -> None:
    """As after `kill -9` between the record and the request: written down, nobody is working on it."""
    assert settings.state_dir is not None
    dead = Ledger(
        settings.state_dir / "ledger.sqlite3",
        identity=f"{settings.base_url} sandbox-s3cr3t-key",
        clock=lambda: time.time() - 10,
    )
    await dead.claim(Draft("fingerprint", "midjourney", "upscale", "lost", {"index": "x"}, None))
    await dead.close()
    async with serve(settings) as service:
        lines = (await service.list_tasks(limit=10, status="unknown")).tasks
    assert [line.what for line in lines] == ["lost"]


@pytest.mark.parametrize(
    ("options", "changed", "text"),
    [
        pytest.param(
            Options(max_cost_usd=Decimal("0.002")),
            {},
            "This task costs $0.003, more than max_cost_usd of $0.002. Nothing was submitted. "
            "Choose a smaller input, or ask the user for a higher limit.",
            id="the-callers-limit",
        ),
        pytest.param(
            Options(max_cost_usd=Decimal(1)),
            {"max_cost_usd": Decimal("0.001")},
            "This task costs $0.003, more than the operator's limit PIAPI_MAX_COST_USD of $0.001. Nothing was "
            "submitted. Choose a smaller input, or ask the user for a higher limit.",
            id="the-operators-limit",
        ),
    ],
)
async def test_a_task_over_a_limit_is_never_submitted(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path, options: Options, changed: dict[str, Any], text: str
) -> None:
    async with serve(settings, **changed) as service:
        with pytest.raises(BudgetError) as caught:
            await service.upscale_video(write_clip(tmp_path), options)
    assert str(caught.value) == text
    assert sandbox.requests("create") == []


async def test_a_limit_refuses_an_unknown_price_unless_it_is_allowed(
    settings: Settings, sandbox: SandboxControl
) -> None:
    async with serve(settings) as service:
        with pytest.raises(BudgetError) as caught:
            await upscale(service, options=Options(max_cost_usd=Decimal(1)))
        assert str(caught.value) == (
            "The price of this task is not known (PiAPI publishes no price for it), so max_cost_usd of $1 cannot be "
            "kept. Nothing was submitted. Ask the user; call again with allow_unknown_price true if they agree."
        )
        await upscale(service, options=Options(max_cost_usd=Decimal(1), allow_unknown_price=True))
    assert len(sandbox.tasks()) == 1


async def test_the_daily_budget_counts_what_is_committed_and_survives_a_restart(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    sandbox.set(does_work=True)
    budget_usd = Decimal("0.007")
    for frames in (10, 11):
        async with serve(settings, daily_budget_usd=budget_usd) as service:
            await service.upscale_video(write_clip(tmp_path, frames=frames), Options())
    async with serve(settings, daily_budget_usd=budget_usd) as service:
        with pytest.raises(BudgetError) as caught:
            await service.upscale_video(write_clip(tmp_path, frames=12), Options())
        assert (await service.account()).spent_today_usd == Decimal("0.0063")
    assert str(caught.value) == (
        "This task costs $0.0036, and $0.0063 of today's budget of $0.007 is spent or committed already. Nothing was "
        "submitted. The budget renews at midnight UTC; the operator can raise PIAPI_DAILY_BUDGET_USD."
    )
    assert len(sandbox.tasks()) == 2


async def test_a_dry_run_checks_and_prices_and_buys_nothing(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    async with serve(settings) as service:
        task = await service.upscale_video(write_clip(tmp_path), Options(dry_run=True))
        assert (task.status, task.task_id, task.quoted_usd) == ("dry_run", None, Decimal("0.0030"))
        assert task.next_step == "Nothing was bought; it would cost $0.003. Call again without dry_run to buy it."
        with pytest.raises(InputRejectedError):
            await service.upscale_video(write_clip(tmp_path, frames=9), Options(dry_run=True))
    assert sandbox.requests("create") == []


async def test_a_ledger_that_cannot_be_written_refuses_before_buying(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    async with serve(settings, state_dir=tmp_path / "taken") as service:
        with pytest.raises(LedgerError) as caught:
            await upscale(service)
    assert str(caught.value) == (
        "The ledger cannot be written (File exists), and without it a task could be bought twice. Nothing was "
        "submitted. Free disk space, or set PIAPI_STATE_DIR to a folder that can be written."
    )
    assert sandbox.requests("create") == []


async def test_the_ledger_holds_neither_key_nor_media(settings: Settings, tmp_path: Path) -> None:
    path = write_clip(tmp_path)
    async with serve(settings) as service:
        await service.upscale_video(
            path, Options(webhook_endpoint="http://127.0.0.1:9", webhook_secret=SecretStr("hook-s3cr3t"))
        )
    assert settings.state_dir is not None
    clip = (tmp_path / "clip.mp4").read_bytes()
    stored = b"".join(file.read_bytes() for file in settings.state_dir.iterdir())
    assert b"s3cr3t" not in stored
    assert clip[:64] not in stored


async def test_too_little_credit_is_told_with_the_balance(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(balance_points=50_000)
    async with serve(settings) as service:
        with pytest.raises(InsufficientCreditError) as caught:
            await upscale(service)
    assert str(caught.value) == (
        'The PiAPI account has too little credit for this task (PiAPI said: "insufficient credits"). Nothing was '
        "submitted or charged. Top up at https://piapi.ai/workspace/billing, then call again. The balance is $0.005."
    )


async def test_the_plans_limit_is_told_with_the_tasks_that_run(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(max_concurrent_tasks=1, looks=1000)
    async with serve(settings) as service:
        running = await upscale(service)
        with pytest.raises(RateLimitedError) as caught:
            await upscale(service, "4")
    assert str(caught.value).endswith(f"Submitted here and not seen to end: {running.task_id}.")


async def test_withdrawn_midjourney_is_told_plainly(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(midjourney_withdrawn=True)
    async with serve(settings) as service:
        with pytest.raises(ServiceWithdrawnError, match="may have withdrawn it"):
            await upscale(service)


@pytest.mark.parametrize(
    ("origin", "index", "text"),
    [
        pytest.param(
            Sample("6", is_grid=True).task_id,
            "subtle",
            f"index=subtle is not offered for the origin task {GRID}. Allowed for it: 1, 2, 3, 4. "
            "Nothing was submitted; call again with one that is.",
            id="index-of-another-kind",
        ),
        pytest.param(
            Sample("5", is_grid=False).task_id,
            "1",
            f"index=1 is not offered for the origin task {Sample('5', is_grid=False).task_id}. Allowed for it: 2x, 4x. "
            "Nothing was submitted; call again with one that is.",
            id="grid-index-of-an-upscaled-image",
        ),
        pytest.param(
            "no-such-task",
            "1",
            'PiAPI knows no task "no-such-task" under this key. Use the task_id exactly as the submission answered it. '
            "This call bought nothing. list_tasks shows the tasks that can be upscaled. Nothing was submitted.",
            id="unknown-parent",
        ),
    ],
)
async def test_what_the_parent_does_not_offer_is_refused_with_what_it_does(
    settings: Settings, sandbox: SandboxControl, origin: str, index: Any, text: str
) -> None:
    async with serve(settings) as service:
        with pytest.raises(InputRejectedError) as caught:
            await service.upscale_midjourney(origin, index, Options())
    assert str(caught.value) == text
    assert sandbox.requests("create") == []


async def test_an_unfinished_parent_is_refused(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(looks=1000)
    async with serve(settings) as service:
        running = await upscale(service)
        assert running.task_id is not None
        with pytest.raises(InputRejectedError, match=r"is (pending|processing), not completed"):
            await service.upscale_midjourney(running.task_id, "subtle", Options())
    assert len(sandbox.tasks()) == 1


async def test_a_parent_that_cannot_be_looked_at_stops_nothing(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.fault("read", "answer", status=502, times=3)
    async with serve(settings) as service:
        task = await upscale(service)
    assert task.notes == ["PiAPI does not tell what can be done with the origin task, so the index was not checked."]


async def test_many_waits_for_one_task_cost_no_more_looks_than_one(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(looks=3)
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        before = len(sandbox.requests("read"))
        tasks = await asyncio.gather(*(service.get(task_id, wait_s=20) for _ in range(100)))
    assert {task.status for task in tasks} == {"completed"}
    assert len(sandbox.requests("read")) - before == 3


async def test_a_cancelled_wait_leaves_the_others_waiting(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(looks=3)
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
async def test_a_fault_at_a_look_ends_no_wait(
    settings: Settings, sandbox: SandboxControl, fault: dict[str, Any]
) -> None:
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        sandbox.fault("read", times=3, **fault)
        assert (await service.get(task_id, wait_s=20)).status == "completed"


async def test_a_pending_task_is_cancelled_and_its_refund_told(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(looks=1000)
    async with serve(settings) as service:
        task_id = (await upscale(service)).task_id
        assert task_id is not None
        task = await service.cancel(task_id)
        assert (task.status, task.charged_usd) == ("failed", Decimal(0))
        assert task.notes == ["PiAPI accepted the cancellation and shows no charge."]
        again = await upscale(service)
    assert again.task_id != task_id


async def test_a_task_that_is_worked_on_is_not_cancelled_and_that_is_told(
    settings: Settings, sandbox: SandboxControl
) -> None:
    async with serve(settings) as service:
        task_id = (await upscale(service, wait_s=10)).task_id
        assert task_id is not None
        with pytest.raises(InputRejectedError) as caught:
            await service.cancel(task_id)
    assert str(caught.value) == (
        "The task is completed; PiAPI cancels only tasks that are still pending. It was not cancelled, and it keeps "
        "its price. Call get_task to see how it stands."
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


async def test_the_account_is_told_in_dollars(settings: Settings) -> None:
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


async def test_a_file_that_is_too_long_only_as_base64_passes_with_a_warning(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    """Ours: PiAPI does not say what its 10 MB are counted on."""
    path = Path(write_clip(tmp_path))
    clip = path.read_bytes()
    free_bytes = 9_000_000 - len(clip)
    path.write_bytes(clip + free_bytes.to_bytes(4, "big") + b"free" + bytes(free_bytes - 8))
    async with serve(settings) as service:
        task = await service.upscale_video(str(path), Options())
    assert task.notes is not None
    assert task.notes[0].startswith("PiAPI does not say whether its 10 MB count the file or its base64 text")
    assert len(sandbox.tasks()) == 1
