"""What a task costs, what it may cost, and what becomes of the money."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from piapi_mcp.errors import (
    BudgetError,
    InputRejectedError,
    InsufficientCreditError,
    LedgerError,
    RateLimitedError,
    ServiceWithdrawnError,
)
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.video import VideoUpscale
from tests.support.services import serve, upscale, write_clip


@pytest.mark.parametrize(
    ("options", "changed", "text"),
    [
        pytest.param(
            SubmitOptions(max_cost_usd=Decimal("0.002")),
            {},
            "This task costs $0.003, more than max_cost_usd of $0.002. Nothing was submitted. "
            "Choose a smaller input, or ask the user for a higher limit.",
            id="the-callers-limit",
        ),
        pytest.param(
            SubmitOptions(max_cost_usd=Decimal(1)),
            {"max_cost_usd": Decimal("0.001")},
            "This task costs $0.003, more than the operator's limit PIAPI_MAX_COST_USD of $0.001. Nothing was "
            "submitted. Choose a smaller input, or ask the user for a higher limit.",
            id="the-operators-limit",
        ),
    ],
)
async def test_a_task_over_a_limit_is_never_submitted(
    settings: Settings,
    sandbox: SandboxControl,
    tmp_path: Path,
    options: SubmitOptions,
    changed: dict[str, Any],
    text: str,
) -> None:
    async with serve(settings, **changed) as service:
        with pytest.raises(BudgetError) as caught:
            await service.submit(VideoUpscale(write_clip(tmp_path)), options)
    assert str(caught.value) == text
    assert sandbox.requests("create") == []


async def test_a_limit_refuses_an_unknown_price_unless_it_is_allowed(
    settings: Settings, sandbox: SandboxControl
) -> None:
    async with serve(settings) as service:
        with pytest.raises(BudgetError) as caught:
            await upscale(service, options=SubmitOptions(max_cost_usd=Decimal(1)))
        assert str(caught.value) == (
            "The price of this task is not known (PiAPI publishes no price for it), so max_cost_usd of $1 cannot be "
            "kept. Nothing was submitted. Ask the user; call again with allow_unknown_price true if they agree."
        )
        await upscale(service, options=SubmitOptions(max_cost_usd=Decimal(1), allow_unknown_price=True))
    assert len(sandbox.tasks()) == 1


async def test_the_daily_budget_counts_what_is_committed_and_survives_a_restart(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    sandbox.set(does_work=True)
    budget_usd = Decimal("0.007")
    for frames in (10, 11):
        async with serve(settings, daily_budget_usd=budget_usd) as service:
            await service.submit(VideoUpscale(write_clip(tmp_path, frames=frames)), SubmitOptions())
    async with serve(settings, daily_budget_usd=budget_usd) as service:
        with pytest.raises(BudgetError) as caught:
            await service.submit(VideoUpscale(write_clip(tmp_path, frames=12)), SubmitOptions())
        assert (await service.account()).spent_today_usd == Decimal("0.0063")
    assert str(caught.value) == (
        "This task costs $0.0036, and $0.0063 of today's budget of $0.007 is already spent or committed. Nothing was "
        "submitted. The budget renews at midnight UTC; the operator can raise PIAPI_DAILY_BUDGET_USD."
    )
    assert len(sandbox.tasks()) == 2


async def test_a_dry_run_checks_and_prices_and_buys_nothing(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    async with serve(settings) as service:
        task = await service.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions(dry_run=True))
        assert (task.status, task.task_id, task.quoted_usd) == ("dry_run", None, Decimal("0.0030"))
        assert task.next_step == "Nothing was bought; it would cost $0.003. Call again without dry_run to buy it."
        with pytest.raises(InputRejectedError):
            await service.submit(VideoUpscale(write_clip(tmp_path, frames=9)), SubmitOptions(dry_run=True))
    assert sandbox.requests("create") == []


async def test_a_dry_run_of_a_request_that_was_bought_says_that_it_costs_nothing_more(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    path = write_clip(tmp_path)
    async with serve(settings) as service:
        await service.submit(VideoUpscale(path), SubmitOptions())
        task = await service.submit(VideoUpscale(path), SubmitOptions(dry_run=True, max_cost_usd=Decimal("0.0001")))
    assert task.next_step == (
        "The same request was submitted before: without dry_run it answers with that task and costs nothing more."
    )
    assert len(sandbox.tasks()) == 1


async def test_a_limit_holds_for_a_request_whose_earlier_task_failed(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    path, limited = write_clip(tmp_path), SubmitOptions(max_cost_usd=Decimal("0.0001"))
    sandbox.fault("create", "fail_task", error={"code": 10000, "message": "no"})
    async with serve(settings) as service:
        await service.submit(VideoUpscale(path), SubmitOptions())
        with pytest.raises(BudgetError, match="more than max_cost_usd"):
            await service.submit(VideoUpscale(path), limited)
        assert len(sandbox.tasks()) == 1
        bought = await service.submit(VideoUpscale(path), SubmitOptions())
        again = await service.submit(VideoUpscale(path), limited)
    assert again.task_id == bought.task_id
    assert len(sandbox.tasks()) == 2


async def test_a_ledger_that_cannot_be_written_refuses_before_buying(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    async with serve(settings, state_dir=tmp_path / "taken") as service:
        with pytest.raises(LedgerError) as caught:
            await upscale(service)
    assert str(caught.value) == (
        "The ledger cannot be written (File exists), and without it a task could be bought twice. Nothing was "
        "submitted by this call; list_tasks shows what was bought before. Free disk space, or set PIAPI_STATE_DIR to a "
        "folder that can be written."
    )
    assert sandbox.requests("create") == []


async def test_the_ledger_holds_neither_key_nor_media(settings: Settings, tmp_path: Path) -> None:
    path = write_clip(tmp_path)
    async with serve(settings) as service:
        await service.submit(
            VideoUpscale(path),
            SubmitOptions(webhook_endpoint="http://127.0.0.1:9", webhook_secret=SecretStr("hook-s3cr3t")),
        )
    assert settings.state_dir is not None
    clip = (tmp_path / "clip.mp4").read_bytes()
    stored = b"".join(file.read_bytes() for file in settings.state_dir.iterdir())
    assert b"s3cr3t" not in stored
    assert clip[:64] not in stored


async def test_too_little_credit_is_reported_with_the_balance(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(balance_points=50_000)
    async with serve(settings) as service:
        with pytest.raises(InsufficientCreditError) as caught:
            await upscale(service)
    assert str(caught.value) == (
        'The PiAPI account has too little credit for this task (PiAPI said: "insufficient credits"). Nothing was '
        "submitted or charged. Top up at https://piapi.ai/workspace/billing, then call again. The balance is $0.005."
    )


async def test_the_plans_limit_is_reported_with_the_running_tasks(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(max_concurrent_tasks=1, polls=1000)
    async with serve(settings) as service:
        running = await upscale(service)
        with pytest.raises(RateLimitedError) as caught:
            await upscale(service, "4")
    assert str(caught.value).endswith(f"Tasks submitted here that may still be running: {running.task_id}.")


async def test_a_withdrawn_midjourney_service_is_named_as_the_cause(
    settings: Settings, sandbox: SandboxControl
) -> None:
    sandbox.set(midjourney_withdrawn=True)
    async with serve(settings) as service:
        with pytest.raises(ServiceWithdrawnError, match="may have withdrawn it"):
            await upscale(service)


async def test_a_file_that_is_too_long_only_as_base64_passes_with_a_warning(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    """Ours: PiAPI does not say whether its 10 MB are those of the file or of its base64 text."""
    path = Path(write_clip(tmp_path))
    clip = path.read_bytes()
    free_bytes = 9_000_000 - len(clip)
    path.write_bytes(clip + free_bytes.to_bytes(4, "big") + b"free" + bytes(free_bytes - 8))
    async with serve(settings) as service:
        task = await service.submit(VideoUpscale(str(path)), SubmitOptions())
    assert task.notes is not None
    assert task.notes[-1].startswith(
        "PiAPI does not say whether its limit of 10 MB is for the file or for its base64 text"
    )
    assert len(sandbox.tasks()) == 1


@pytest.mark.parametrize(
    "options", [SubmitOptions(), SubmitOptions(allow_unknown_price=True, allow_repeat=True)], ids=["as-is", "waived"]
)
async def test_no_call_can_spend_an_unknown_price_past_the_operators_limit(
    settings: Settings, sandbox: SandboxControl, options: SubmitOptions
) -> None:
    """Ours: limits are the operator's, never the agent's to waive."""
    limits: list[dict[str, Any]] = [{"max_cost_usd": Decimal(1)}, {"daily_budget_usd": Decimal(1)}]
    for limit in limits:
        async with serve(settings, **limit) as service:
            with pytest.raises(BudgetError) as caught:
                await upscale(service, options=options)
        assert str(caught.value).endswith(
            "of $1 cannot be kept. Nothing was submitted. Ask the operator to state a price with "
            "PIAPI_MIDJOURNEY_PRICE_USD, or to lift the limit."
        )
    assert sandbox.tasks() == []


async def test_midjourney_counts_with_the_price_that_the_operator_states(
    settings: Settings, sandbox: SandboxControl
) -> None:
    limits: dict[str, Any] = {"midjourney_price_usd": Decimal("0.02"), "daily_budget_usd": Decimal("0.05")}
    async with serve(settings, **limits) as service:
        for index in ("1", "2"):
            assert (await upscale(service, index)).quoted_usd == Decimal("0.02")
        with pytest.raises(BudgetError, match=r"\$0\.04 of today's budget of \$0\.05"):
            await upscale(service, "3", SubmitOptions(allow_repeat=True, allow_unknown_price=True))
    assert len(sandbox.tasks()) == 2


async def test_a_source_that_cannot_be_probed_counts_with_the_most_it_may_cost(
    settings: Settings, sandbox: SandboxControl
) -> None:
    url = "http://127.0.0.1:9/x"
    dry = SubmitOptions(dry_run=True)
    async with serve(settings) as service:
        video = await service.submit(VideoUpscale(url), dry)
        image = await service.submit(ImageUpscale(url, 8), dry)
    assert (video.quoted_usd, video.at_most_usd) == (None, Decimal("0.0720"))
    assert image.at_most_usd == Decimal(2048 * 8) ** 2 / 1_000_000_000
    async with serve(settings, daily_budget_usd=Decimal("0.07")) as service:
        with pytest.raises(BudgetError, match=r"This task costs at most \$0\.072, more than the operator's"):
            await service.submit(VideoUpscale(url), SubmitOptions(allow_unknown_price=True))
    assert sandbox.tasks() == []


@pytest.mark.parametrize("frozen_points", [0, 500_000])
async def test_whatever_price_piapi_reports_the_budget_is_kept(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path, frozen_points: int
) -> None:
    sandbox.set(does_work=True, frozen_points=frozen_points, polls=1000)
    async with serve(settings, daily_budget_usd=Decimal("0.004")) as service:
        task = await service.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions())
        with pytest.raises(BudgetError, match="of today's budget"):
            await service.submit(VideoUpscale(write_clip(tmp_path, frames=11)), SubmitOptions())
    assert (task.quoted_usd, task.frozen_usd) == (Decimal("0.0030"), Decimal(frozen_points) / 10_000_000)
    warning = (
        "PiAPI froze $0.05 for this task, more than the quote of $0.003 and the operator's PIAPI_DAILY_BUDGET_USD of "
        "$0.004. Tell the user; cancel_task cancels it while it is still pending."
    )
    assert (warning in (task.notes or ())) is (frozen_points > 0)


async def test_a_late_refund_is_seen(settings: Settings, sandbox: SandboxControl, tmp_path: Path) -> None:
    sandbox.set(does_work=True)
    async with serve(settings) as service:
        task = await service.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions(wait_s=30))
        assert (await service.account()).spent_today_usd == Decimal("0.003")
        sandbox.set(consumed_points=0)
        await service.get(task.task_id or "")
        assert (await service.account()).spent_today_usd == 0


async def test_a_dry_run_after_a_failure_says_what_buying_would_cost(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    path = write_clip(tmp_path)
    sandbox.fault("create", "fail_task", error={"code": 10000, "message": "no"})
    async with serve(settings) as service:
        await service.submit(VideoUpscale(path), SubmitOptions())
        dry = await service.submit(VideoUpscale(path), SubmitOptions(dry_run=True))
        assert dry.next_step == "Nothing was bought; it would cost $0.003. Call again without dry_run to buy it."
        with pytest.raises(BudgetError):
            await service.submit(VideoUpscale(path), SubmitOptions(dry_run=True, max_cost_usd=Decimal("0.001")))
    assert len(sandbox.tasks()) == 1
