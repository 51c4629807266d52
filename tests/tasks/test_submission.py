"""Nothing is bought twice, and nothing bought is lost: replays, races, and unknown outcomes."""

import asyncio
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from piapi_mcp.errors import OutcomeUnknownError, UnknownTaskError
from piapi_mcp.ledger.ledger import NewSubmission
from piapi_mcp.ledger.sqlite import SQLiteLedger
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import SAMPLES
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.midjourney import MidjourneyUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import open_service
from piapi_mcp.tasks.video import VideoUpscale
from tests.support.services import GRID, admit_all, serve, upscale, write_clip

AGAIN = SubmitOptions(allow_repeat=True)


async def test_the_same_request_returns_the_task_already_bought(settings: Settings, sandbox: SandboxControl) -> None:
    async with serve(settings) as service:
        first = await upscale(service)
    async with serve(settings) as service:  # after a restart
        second = await upscale(service)
        other = await upscale(service, "4")
    assert second.task_id == first.task_id
    assert second.notes is not None
    assert second.notes[0] == (
        "The same request was submitted before: this is its task, and nothing was bought now. "
        "allow_repeat true buys it once more."
    )
    assert other.task_id != first.task_id
    assert len(sandbox.tasks()) == 2


async def test_the_same_file_under_another_name_is_the_same_request(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    async with serve(settings) as service:
        await service.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions())
        (tmp_path / "clip.mp4").rename(tmp_path / "copy.mp4")
        await service.submit(VideoUpscale(str(tmp_path / "copy.mp4")), SubmitOptions())
        await service.submit(VideoUpscale(write_clip(tmp_path, frames=11)), SubmitOptions())
    assert len(sandbox.tasks()) == 2


async def test_allow_repeat_buys_again(settings: Settings, sandbox: SandboxControl) -> None:
    async with serve(settings) as service:
        first, second = await upscale(service), await upscale(service, options=AGAIN)
    assert first.task_id != second.task_id
    assert len(sandbox.tasks()) == 2


async def test_another_key_sees_none_of_the_tasks(settings: Settings, sandbox: SandboxControl) -> None:
    async with serve(settings) as service, serve(settings, key="sandbox-other") as other:
        first, second = await upscale(service), await upscale(other)
        assert {line.task_id for line in (await other.list_tasks(limit=50)).tasks} == {
            second.task_id,
            *(sample.task_id for sample in SAMPLES),
        }
    assert first.task_id != second.task_id
    assert len(sandbox.tasks()) == 2


async def test_a_request_whose_task_failed_can_be_submitted_again(settings: Settings, sandbox: SandboxControl) -> None:
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
    """Several services stand for several processes: they share nothing but the ledger's file."""
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


async def test_an_unknown_outcome_is_reported_with_the_money_at_stake(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    sandbox.fault("create", "cut")
    async with serve(settings) as service:
        with pytest.raises(OutcomeUnknownError) as caught:
            await service.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions())
        (line,) = (await service.list_tasks(limit=10, status="unknown")).tasks
    assert str(caught.value) == (
        "PiAPI gave no usable answer to the submission (the connection broke off), and its history does not "
        "show the task so far. It may have been bought, for $0.003: do not submit it again. Call list_tasks in a "
        "minute to search again; only if the task never appears, call again with allow_repeat true."
    )
    assert (line.status, line.usd, line.task_id) == ("unknown", Decimal("0.0030"), None)


async def test_a_lost_task_that_appears_later_is_found_by_list_tasks(
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


async def test_a_dead_process_leaves_an_unknown_submission_behind(settings: Settings) -> None:
    """As after `kill -9` between the row in the ledger and the request: the row remains, and its lease expires."""
    assert settings.state_dir is not None
    dead = SQLiteLedger(
        settings.state_dir / "ledger.sqlite3",
        identity=f"{settings.base_url} sandbox-s3cr3t-key",
        steady_clock=lambda: time.time() - 10,
    )
    await dead.claim(
        NewSubmission("fingerprint", "midjourney", "upscale", "lost", {"index": "x"}, None), admit=admit_all
    )
    await dead.close()
    async with serve(settings) as service:
        lines = (await service.list_tasks(limit=10, status="unknown")).tasks
    assert [line.what for line in lines] == ["lost"]


async def test_a_call_cancelled_during_its_claim_leaves_no_row_behind(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    path = write_clip(tmp_path)
    async with serve(settings) as service:
        for turns in range(60):  # wherever the cancellation falls
            call = asyncio.create_task(service.submit(VideoUpscale(path), SubmitOptions()))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
        task = await service.submit(VideoUpscale(path), SubmitOptions())
    assert task.task_id is not None
    assert len(sandbox.tasks()) == 1


async def test_a_ledger_that_fails_after_the_request_never_says_that_nothing_was_bought(
    settings: Settings, sandbox: SandboxControl
) -> None:
    """The disk may fill up between the two: the task, or the unknown outcome, is reported all the same."""
    assert settings.state_dir is not None
    sandbox.fault("create", "delay", delay_s=0.3, when="after", times=2)
    sandbox.fault("create", "cut", when="after", skip=1)
    sandbox.fault("history", "answer", status=502, times=99)
    async with serve(settings) as service:
        for index, outcome in (("1", None), ("2", OutcomeUnknownError)):
            await asyncio.sleep(0)
            call = asyncio.create_task(upscale(service, index))
            await asyncio.to_thread(sandbox.wait_for, "create", times=int(index))
            with closing(sqlite3.connect(settings.state_dir / "ledger.sqlite3", isolation_level=None)) as other:
                other.execute("ALTER TABLE submissions RENAME TO away")
            await asyncio.wait({call})
            with closing(sqlite3.connect(settings.state_dir / "ledger.sqlite3", isolation_level=None)) as other:
                other.execute("ALTER TABLE away RENAME TO submissions")
            if outcome is None:
                task = call.result()
                assert task.task_id in {bought["task_id"] for bought in sandbox.tasks()}
                assert task.notes is not None
                assert task.notes[-1].startswith("Keep the task_id: the task was bought")
            else:
                assert isinstance(call.exception(), outcome)


async def test_a_replay_says_that_nothing_was_bought_now(settings: Settings) -> None:
    async with serve(settings) as service:
        first, again = await upscale(service), await upscale(service)
    assert (first.bought_now, again.bought_now) == (True, False)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502])
async def test_a_replay_whose_read_fails_still_names_the_task(
    settings: Settings, sandbox: SandboxControl, status: int
) -> None:
    """Nothing ever advises to buy again what may exist."""
    async with serve(settings) as service:
        first = await upscale(service)
        body = f'{{"code": {status}, "message": "no", "data": null}}'
        sandbox.fault("read", "answer", status=status, body=body, times=9)
        again = await upscale(service)
    assert again.task_id == first.task_id
    text = " ".join(again.notes or ())
    assert "do not buy it again" in text
    assert "to buy it anew" not in text


async def test_a_task_that_piapi_does_not_show_yet_is_not_bought_again(
    settings: Settings, sandbox: SandboxControl
) -> None:
    sandbox.set(reads_until_visible=2)
    async with serve(settings) as service:
        task = await upscale(service)
        with pytest.raises(UnknownTaskError) as caught:
            await service.get(task.task_id or "")
        again = await upscale(service)
        assert (await service.get(task.task_id or "")).status == "completed"
    assert "was bought here at" in str(caught.value)
    assert "Do not buy it again" in str(caught.value)
    assert again.task_id == task.task_id


async def test_another_webhook_is_the_same_request(settings: Settings, sandbox: SandboxControl) -> None:
    """Ours: who is told of a task does not change what is bought."""
    async with serve(settings) as service:
        first = await upscale(service)
        again = await upscale(service, options=SubmitOptions(webhook_endpoint="http://127.0.0.1:9/hook"))
    assert again.task_id == first.task_id
    assert len(sandbox.tasks()) == 1


async def test_another_key_of_the_account_is_the_same_account(settings: Settings, sandbox: SandboxControl) -> None:
    async with serve(settings) as service, serve(settings, key="sandbox-s3cr3t-key~new") as renewed:
        first, again = await upscale(service), await upscale(renewed)
        assert (await renewed.account()).spent_today_usd == (await service.account()).spent_today_usd
    assert again.task_id == first.task_id
    assert len(sandbox.tasks()) == 1


async def test_an_account_without_an_id_is_told_apart_by_its_key(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(shows_account_id=False)
    async with serve(settings) as service, serve(settings, key="sandbox-s3cr3t-key~new") as renewed:
        first, again = await upscale(service), await upscale(renewed)
    assert again.task_id != first.task_id


async def test_a_slash_at_the_end_of_the_base_url_changes_nothing(settings: Settings, sandbox: SandboxControl) -> None:
    key = settings.api_key
    assert key is not None
    sandbox.set(shows_account_id=False)
    ids = set[str | None]()
    for base_url in (settings.base_url, f"{settings.base_url}/"):
        service = open_service(settings.model_copy(update={"base_url": base_url}), key)
        ids.add((await upscale(service)).task_id)
        await service.close()
    assert len(ids) == 1


async def test_a_progress_report_that_fails_hides_no_task(settings: Settings, sandbox: SandboxControl) -> None:
    async def fail(_task: object) -> None:
        raise RuntimeError("no")

    sandbox.set(polls=3)
    async with serve(settings) as service:
        task = await service.submit(MidjourneyUpscale(GRID, "3"), SubmitOptions(wait_s=10), on_poll=fail)
    assert task.status == "completed"


async def test_an_unknown_submission_is_never_bought_silently_however_old_it_is(
    settings: Settings, sandbox: SandboxControl
) -> None:
    assert settings.state_dir is not None
    sandbox.fault("create", "cut")
    async with serve(settings) as service:
        with pytest.raises(OutcomeUnknownError):
            await upscale(service)
        with closing(sqlite3.connect(settings.state_dir / "ledger.sqlite3", isolation_level=None)) as ledger:
            ledger.execute("UPDATE submissions SET created_at = created_at - 30 * 86400")
        with pytest.raises(OutcomeUnknownError, match="it was interrupted"):
            await upscale(service)
    assert sandbox.tasks() == []


async def test_an_id_of_another_submission_is_not_the_answer_to_this_one(
    settings: Settings, sandbox: SandboxControl
) -> None:
    async with serve(settings) as service:
        first = await upscale(service, "1")
        body = f'{{"code": 200, "data": {{"task_id": "{first.task_id}"}}, "message": "success"}}'
        sandbox.fault("create", "answer", status=200, body=body, when="after")
        second = await upscale(service, "2")
    assert {first.task_id, second.task_id} == {task["task_id"] for task in sandbox.tasks()}


async def test_a_reply_without_end_hides_no_task(settings: Settings, sandbox: SandboxControl) -> None:
    head = '{"code": 200, "data": {"task_id": "{task_id}", "x": "'
    sandbox.fault("create", "answer", status=200, body=head + "y" * (40 << 20), when="after")
    async with serve(settings) as service:
        task = await upscale(service)
        sandbox.fault("read", "stream", status=200, body="y" * 65536, bytes=1 << 30, times=3)
        again = await upscale(service)
    assert task.task_id == again.task_id == sandbox.tasks()[0]["task_id"]
