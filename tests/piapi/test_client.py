"""The HTTP client against the sandbox: real requests, real faults."""

from decimal import Decimal

import pytest
from pydantic import SecretStr

from piapi_mcp.errors import OutcomeUnknownError, PiAPIError, UnauthorizedError, UnknownTaskError, UnreachableError
from piapi_mcp.piapi.catalog import MIDJOURNEY_UPSCALE, VIDEO_UPSCALE
from piapi_mcp.piapi.client import PiAPIClient, TaskConfig
from piapi_mcp.piapi.models import digest_field
from piapi_mcp.piapi.streaming_json import encode_json
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import SAMPLES, Sample
from tests.support.base64_media import SmallMedia

KEY = SecretStr("sandbox-s3cr3t-key")
ORIGIN = Sample("6", is_grid=True).task_id
INPUT = {"origin_task_id": ORIGIN, "index": "3"}


async def no_pause(_seconds: float) -> None:
    """Stand in for the pauses between attempts."""


def connect(base_url: str, key: SecretStr = KEY) -> PiAPIClient:
    return PiAPIClient(key, base_url=base_url, sleep=no_pause)


async def test_a_task_is_submitted_and_read(base_url: str, sandbox: SandboxControl) -> None:
    async with connect(base_url) as client:
        config = TaskConfig("public", "http://127.0.0.1:9/hook", SecretStr("hook-secret"))
        created = await client.create_task(MIDJOURNEY_UPSCALE, INPUT, config)
        task = await client.read_task(created.task_id)
    assert (created.status, task.status) == ("pending", "completed")
    assert task.input_digests == {name: digest_field(value) for name, value in INPUT.items()}
    assert (task.frozen_usd, task.consumed_usd) == (Decimal("0.01"), Decimal("0.01"))
    assert task.actions == ("upscale_subtle", "upscale_creative")
    assert "hook-secret" not in repr(task)
    assert sandbox.requests("create")[0]["has_key"]


async def test_a_file_is_streamed_with_its_exact_length(base_url: str, sandbox: SandboxControl) -> None:
    async with connect(base_url) as client:
        await client.create_task(VIDEO_UPSCALE, {"video": SmallMedia()})
    (request,) = sandbox.requests("create")
    assert not request["is_chunked"]
    payload = {"model": VIDEO_UPSCALE.model, "task_type": "upscale", "input": {"video": SmallMedia()}}
    assert request["content_length"] == encode_json(payload).length_bytes


async def test_a_response_with_only_a_task_id_is_accepted(base_url: str, sandbox: SandboxControl) -> None:
    """PiAPI's documentation: the response on the video upscale page."""
    sandbox.set(bare_task_ids=True)
    async with connect(base_url) as client:
        assert (await client.create_task(MIDJOURNEY_UPSCALE, INPUT)).task_id == sandbox.tasks()[0]["task_id"]


@pytest.mark.parametrize("camel_case", [False, True])
async def test_account_and_history_are_read(base_url: str, sandbox: SandboxControl, camel_case: bool) -> None:  # noqa: FBT001 -- a table's column
    sandbox.set(camel_case_history=camel_case)
    async with connect(base_url) as client:
        account = await client.read_account()
        rows = await client.read_history(model="mj")
    assert (account.plan, account.balance_usd, account.max_concurrent_tasks) == ("creator", Decimal("10.0"), 5)
    assert {row.task_id for row in rows} == {sample.task_id for sample in SAMPLES}


async def test_a_pending_task_can_be_cancelled(base_url: str, sandbox: SandboxControl) -> None:
    sandbox.set(polls=5)
    async with connect(base_url) as client:
        task = await client.create_task(MIDJOURNEY_UPSCALE, INPUT)
        await client.cancel_task(task.task_id)
        assert (await client.read_task(task.task_id)).status == "failed"


async def test_an_unknown_task_says_which_id_to_use(base_url: str) -> None:
    """Ours: PiAPI's own response for an unknown id is not documented."""
    async with connect(base_url) as client:
        with pytest.raises(UnknownTaskError) as caught:
            await client.read_task("no-such-task")
    assert str(caught.value) == (
        'PiAPI shows no task "no-such-task" to this key. Pass the task_id exactly as the submission returned it. '
        "This call bought nothing."
    )


async def test_an_error_for_a_wrong_key_does_not_contain_the_key(base_url: str) -> None:
    async with connect(base_url, SecretStr("wrong-s3cr3t-key")) as client:
        with pytest.raises(UnauthorizedError) as caught:
            await client.read_account()
    assert "s3cr3t" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "answer", "status": 502, "body": "<html>Bad gateway</html>"}, id="502-page"),
        pytest.param({"kind": "answer", "status": 200, "body": "<html>"}, id="web-page-with-200"),
        pytest.param({"kind": "answer", "status": 429, "headers": {"retry-after": "1"}}, id="429"),
        pytest.param({"kind": "cut"}, id="cut-before"),
        pytest.param({"kind": "cut", "when": "midway"}, id="cut-midway"),
    ],
)
async def test_a_failed_read_is_retried(base_url: str, sandbox: SandboxControl, fault: dict[str, object]) -> None:
    async with connect(base_url) as client:
        task = await client.create_task(MIDJOURNEY_UPSCALE, INPUT)
        sandbox.fault("read", times=2, **fault)  # pyright: ignore[reportArgumentType] -- the table's columns
        assert (await client.read_task(task.task_id)).status == "completed"
    assert len(sandbox.requests("read")) == 3


async def test_a_read_is_given_up_after_three_attempts(base_url: str, sandbox: SandboxControl) -> None:
    sandbox.fault("read", "answer", status=502, times=99)
    async with connect(base_url) as client:
        with pytest.raises(
            UnreachableError, match=r"This call bought nothing, and tasks that were already submitted keep running\."
        ):
            await client.read_task(ORIGIN)
    assert len(sandbox.requests("read")) == 3


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "answer", "status": 502}, id="502"),
        pytest.param({"kind": "answer", "status": 200, "body": "<html>"}, id="web-page-with-200"),
        pytest.param({"kind": "cut"}, id="cut-before"),
        pytest.param({"kind": "cut", "when": "after"}, id="cut-after"),
    ],
)
async def test_a_submission_is_never_sent_twice(
    base_url: str, sandbox: SandboxControl, fault: dict[str, object]
) -> None:
    """Ours: PiAPI has no idempotency key."""
    sandbox.fault("create", times=1, **fault)  # pyright: ignore[reportArgumentType] -- the table's columns
    async with connect(base_url) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.create_task(MIDJOURNEY_UPSCALE, INPUT)
    assert len(sandbox.requests("create")) == 1


async def test_a_reply_that_breaks_off_after_the_task_id_is_enough(base_url: str, sandbox: SandboxControl) -> None:
    sandbox.fault("create", "cut", when="midway")
    async with connect(base_url) as client:
        task = await client.create_task(MIDJOURNEY_UPSCALE, INPUT)
    assert task.task_id == sandbox.tasks()[0]["task_id"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"code": 200, "data": {"task_id": "abc-123", "logs": [', id="cut-off"),
        pytest.param('{"code": 200, "data": {"task_id": "abc-123"}, "x": ' + "[" * 100_000, id="deep"),
        pytest.param('{"data": {"task_id": "abc-123", "x": ' + "9" * 5000 + "}}", id="an-absurd-number"),
        pytest.param('{"data": {"task_id": "abc-123", "x": "\\ud800"}}', id="a-lone-surrogate"),
    ],
)
async def test_the_id_is_found_in_a_damaged_reply(base_url: str, sandbox: SandboxControl, body: str) -> None:
    sandbox.fault("create", "answer", status=200, body=body)
    async with connect(base_url) as client:
        assert (await client.create_task(MIDJOURNEY_UPSCALE, INPUT)).task_id == "abc-123"


async def test_a_reply_of_any_size_is_read_up_to_its_limit(base_url: str, sandbox: SandboxControl) -> None:
    sandbox.fault("create", "answer", status=200, body='{"data": {"task_id": "abc-123", "x": "' + "y" * (34 << 20))
    async with connect(base_url) as client:
        assert (await client.create_task(MIDJOURNEY_UPSCALE, INPUT)).task_id == "abc-123"


async def test_another_task_than_the_one_that_was_read_is_no_answer(base_url: str, sandbox: SandboxControl) -> None:
    sandbox.fault("read", "answer", status=200, body='{"data": {"task_id": "abc-123"}}', times=3)
    async with connect(base_url) as client:
        with pytest.raises(UnreachableError):
            await client.read_task(ORIGIN)


async def test_a_submission_is_broken_off_if_it_may_not_be_sent_any_more(
    base_url: str, sandbox: SandboxControl
) -> None:
    async def refuse() -> None:
        raise LookupError

    async with connect(base_url) as client:
        with pytest.raises(LookupError):
            await client.create_task(MIDJOURNEY_UPSCALE, INPUT, before_sending=refuse)
    assert sandbox.tasks() == []


async def test_a_submission_without_a_connection_buys_nothing() -> None:
    async with connect("http://127.0.0.1:1") as client:
        with pytest.raises(UnreachableError, match=r"Nothing was submitted or charged\."):
            await client.create_task(MIDJOURNEY_UPSCALE, INPUT)


async def test_no_error_shows_a_secret_that_piapi_echoes(base_url: str, sandbox: SandboxControl) -> None:
    body = f'{{"code": 400, "message": "bad key {KEY.get_secret_value()} or secret hook-secret"}}'
    sandbox.fault("create", "answer", status=400, body=body)
    config = TaskConfig(webhook_endpoint="http://127.0.0.1:9", webhook_secret=SecretStr("hook-secret"))
    async with connect(base_url) as client:
        with pytest.raises(PiAPIError) as caught:
            await client.create_task(MIDJOURNEY_UPSCALE, INPUT, config)
    assert "s3cr3t" not in str(caught.value)
    assert "hook-secret" not in str(caught.value)
