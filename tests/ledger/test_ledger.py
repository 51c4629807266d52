"""The ledger: what a claim answers in every state, who wins a change of state, and what its errors mean."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from piapi_mcp.errors import LedgerError, TaskIdConflictError
from piapi_mcp.ledger.ledger import (
    LEASE_S,
    REPLAY_WINDOW_S,
    BoughtBefore,
    Claim,
    Ledger,
    New,
    NewSubmission,
    OutcomeUnknown,
    Refused,
    Submission,
    UnderWay,
)
from piapi_mcp.ledger.sqlite import SQLiteLedger
from tests.support.services import admit_all

REQUEST = NewSubmission("fingerprint", "midjourney", "upscale", "index 3", {"index": "x"}, Decimal("0.01"))
OTHER = replace(REQUEST, fingerprint="other")
NOON = 1_800_014_400.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def open_ledger(folder: Path, clock: Clock, identity: str = "one") -> AsyncGenerator[Ledger]:
    ledger = SQLiteLedger(folder / "ledger.sqlite3", identity=identity, clock=clock, steady_clock=clock)
    try:
        yield ledger
    finally:
        await ledger.close()


async def claim_new(ledger: Ledger, request: NewSubmission = REQUEST) -> Submission:
    claim = await ledger.claim(request, admit=admit_all)
    assert isinstance(claim, New)
    return claim.submission


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("submitting", UnderWay),
        ("submitted", BoughtBefore),
        ("done", BoughtBefore),
        ("unknown", OutcomeUnknown),
        ("failed", New),
        ("refused", New),
    ],
)
async def test_a_claim_answers_by_the_state_of_the_same_request(
    tmp_path: Path, state: str, outcome: type[Claim]
) -> None:
    async with open_ledger(tmp_path, Clock()) as ledger:
        submission = await claim_new(ledger)
        if state in ("submitted", "done", "failed"):
            assert await ledger.record_task(submission.id, "task-1")
        if state in ("done", "failed"):
            assert await ledger.record_end("task-1", failed=state == "failed", charged_usd=Decimal(0))
        if state == "unknown":
            assert await ledger.record_unknown(submission.id)
        if state == "refused":
            assert await ledger.record_refusal(submission.id)
        claim = await ledger.claim(REQUEST, admit=admit_all)
        assert isinstance(claim, outcome)
        assert isinstance(await ledger.claim(OTHER, admit=admit_all), New)


async def test_an_expired_lease_makes_the_outcome_unknown(tmp_path: Path) -> None:
    """Ours: the process died between the row and its request, or its answer."""
    clock = Clock()
    async with open_ledger(tmp_path, clock) as ledger:
        submission = await claim_new(ledger)
        clock.now += LEASE_S - 0.1
        assert await ledger.renew(submission.id)
        clock.now += LEASE_S - 0.1
        assert isinstance(await ledger.claim(REQUEST, admit=admit_all), UnderWay)
        clock.now += 0.2
        claim = await ledger.claim(REQUEST, admit=admit_all)
        assert isinstance(claim, OutcomeUnknown)
        assert claim.submission.id == submission.id
        assert not await ledger.renew(submission.id)


async def test_only_a_completed_task_is_forgotten_after_the_replay_window(tmp_path: Path) -> None:
    """Ours: what may still exist unseen is never bought again silently, however old it is."""
    clock = Clock()
    async with open_ledger(tmp_path, clock) as ledger:
        submission = await claim_new(ledger)
        await ledger.record_unknown(submission.id)
        clock.now += 10 * REPLAY_WINDOW_S
        assert isinstance(await ledger.claim(REQUEST, admit=admit_all), OutcomeUnknown)
        await ledger.record_task(submission.id, "task-1")
        assert isinstance(await ledger.claim(REQUEST, admit=admit_all), BoughtBefore)
        await ledger.record_end("task-1", failed=False, charged_usd=None)
        assert (await claim_new(ledger)).attempt == 2


async def test_an_earlier_task_answers_although_a_repeat_is_unknown(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, Clock()) as ledger:
        first = await claim_new(ledger)
        await ledger.record_task(first.id, "task-1")
        repeat = await ledger.claim(REQUEST, admit=admit_all, repeat=True)
        assert isinstance(repeat, New)
        await ledger.record_unknown(repeat.submission.id)
        claim = await ledger.claim(REQUEST, admit=admit_all)
    assert isinstance(claim, BoughtBefore)
    assert claim.submission.id == first.id


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_lease_of_a_clock_that_jumped_expires_and_cannot_be_renewed(tmp_path: Path, jump_s: float) -> None:
    """Ours: an expired lease is safe to take, because its process asks before it sends."""
    before, after = Clock(), Clock()
    after.now += jump_s
    async with open_ledger(tmp_path, before) as stopped, open_ledger(tmp_path, after) as other:
        submission = await claim_new(stopped)
        assert isinstance(await other.claim(REQUEST, admit=admit_all), OutcomeUnknown)
        assert not await stopped.renew(submission.id)


async def test_a_ledger_that_vanishes_under_a_running_server_is_noticed(tmp_path: Path) -> None:
    """Ours: today's spending is gone with it."""
    async with open_ledger(tmp_path, Clock()) as ledger:
        await claim_new(ledger)
        for file in tmp_path.iterdir():
            file.unlink()
        for _ in range(2):
            with pytest.raises(LedgerError, match="was deleted or replaced"):
                await claim_new(ledger, OTHER)
        (tmp_path / "ledger.sqlite3").touch()
        with pytest.raises(LedgerError, match="was deleted or replaced"):
            await claim_new(ledger, OTHER)


async def test_the_keys_of_one_account_share_its_submissions(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, Clock(), "key 1") as one, open_ledger(tmp_path, Clock(), "key 2") as two:
        await claim_new(one)
        assert not await one.is_account_known()
        await one.set_account("piapi 7")
        await two.set_account("piapi 7")
        assert isinstance(await two.claim(REQUEST, admit=admit_all), UnderWay)
        assert await two.spent_today_usd() == Decimal("0.01")
    async with open_ledger(tmp_path, Clock(), "key 2") as restarted:
        assert await restarted.is_account_known()
        assert len(await restarted.recent(limit=10)) == 1


async def test_while_a_task_runs_it_counts_with_the_higher_of_quote_and_frozen_price(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, Clock()) as ledger:
        first, second = await claim_new(ledger), await claim_new(ledger, OTHER)
        await ledger.record_task(first.id, "task-1", frozen_usd=Decimal(0))
        await ledger.record_task(second.id, "task-2", frozen_usd=Decimal(3))
        assert await ledger.spent_today_usd() == Decimal("3.01")
        await ledger.record_end("task-2", failed=True, charged_usd=Decimal(0))
        assert await ledger.spent_today_usd() == Decimal("0.01")
        assert await ledger.record_end("task-2", failed=True, charged_usd=Decimal(2))  # a late charge
        assert await ledger.spent_today_usd() == Decimal("2.01")
        assert not await ledger.record_end("task-2", failed=True, charged_usd=None)  # says nothing
        assert await ledger.spent_today_usd() == Decimal("2.01")


async def test_a_change_of_state_says_whether_it_won(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, Clock()) as ledger:
        submission = await claim_new(ledger)
        assert await ledger.record_refusal(submission.id)
        assert not await ledger.record_unknown(submission.id)
        assert not await ledger.record_task(submission.id, "task-1")
        assert not await ledger.record_end("task-1", failed=False, charged_usd=None)


async def test_a_late_task_id_is_recorded_for_an_unknown_submission(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, Clock()) as ledger:
        submission = await claim_new(ledger)
        await ledger.record_unknown(submission.id)
        assert await ledger.record_task(submission.id, "task-1", frozen_usd=Decimal("0.02"))
        found = await ledger.find_by_task("task-1")
    assert found is not None
    assert (found.id, found.state, found.frozen_usd) == (submission.id, "submitted", Decimal("0.02"))
    assert found.quoted_usd == Decimal("0.01")


async def test_one_task_id_never_belongs_to_two_submissions(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, Clock()) as ledger:
        first, second = await claim_new(ledger), await claim_new(ledger, OTHER)
        await ledger.record_task(first.id, "task-1")
        with pytest.raises(TaskIdConflictError):
            await ledger.record_task(second.id, "task-1")
        assert isinstance(await ledger.claim(OTHER, admit=admit_all), UnderWay)
    async with open_ledger(tmp_path, Clock(), identity="two") as other_account:
        third = await claim_new(other_account)
        with pytest.raises(TaskIdConflictError):
            await other_account.record_task(third.id, "task-1")


async def test_a_new_submission_that_is_not_admitted_writes_nothing(tmp_path: Path) -> None:
    spent: list[Decimal] = []

    def refuse(spent_today_usd: Decimal) -> str | None:
        spent.append(spent_today_usd)
        return "too expensive"

    async with open_ledger(tmp_path, Clock()) as ledger:
        await claim_new(ledger)
        assert isinstance(await ledger.claim(REQUEST, admit=refuse), UnderWay)  # a replay costs nothing
        assert await ledger.claim(OTHER, admit=refuse) == Refused("too expensive")
        assert isinstance(await ledger.claim(REQUEST, admit=refuse, repeat=True), Refused)
        assert len(await ledger.recent(limit=10)) == 1
    assert spent == [Decimal("0.01"), Decimal("0.01")]


async def test_the_days_spending_counts_charges_before_quotes_and_ends_at_midnight(tmp_path: Path) -> None:
    clock = Clock()
    async with open_ledger(tmp_path, clock) as ledger:
        first, second = await claim_new(ledger), await claim_new(ledger, OTHER)
        await ledger.record_task(first.id, "task-1")
        await ledger.record_end("task-1", failed=False, charged_usd=Decimal("0.004"))
        assert await ledger.spent_today_usd() == Decimal("0.014")
        await ledger.record_refusal(second.id)
        assert await ledger.spent_today_usd() == Decimal("0.004")
        clock.now += 24 * 3600
        assert await ledger.spent_today_usd() == 0


async def test_two_accounts_in_one_file_share_nothing(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, Clock(), "one") as one, open_ledger(tmp_path, Clock(), "two") as two:
        await claim_new(one)
        await claim_new(two)
        assert len(await one.recent(limit=10)) == len(await two.recent(limit=10)) == 1


async def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as newer:
        newer.execute("PRAGMA user_version = 99")
    async with open_ledger(tmp_path, Clock()) as ledger:
        with pytest.raises(LedgerError, match="written by a newer piapi-mcp"):
            await claim_new(ledger)


async def test_a_file_that_is_no_ledger_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_text("this is not a database at all, whatever its name says")
    async with open_ledger(tmp_path, Clock()) as ledger:
        with pytest.raises(LedgerError) as caught:
            await claim_new(ledger)
    assert type(caught.value) is LedgerError
    assert str(caught.value).startswith("The ledger cannot be written (file is not a database)")
