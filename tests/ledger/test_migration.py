"""A ledger outlives the versions of the program: what 0.1.0 wrote is read by every later one."""

import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from piapi_mcp.ledger.ledger import BoughtBefore, Claim, New, NewSubmission, OutcomeUnknown
from piapi_mcp.ledger.sqlite import SQLiteLedger
from tests.support.services import admit_all

WRITTEN_BY_0_1_0 = Path(__file__).with_name("ledger-0.1.0.sqlite3")
"""A row in each state of the account sandbox-one, and one of sandbox-two, written by version 0.1.0 itself."""
NOW = 1_800_014_400.0


@pytest.fixture
def ledger(tmp_path: Path) -> SQLiteLedger:
    shutil.copy(WRITTEN_BY_0_1_0, tmp_path / "ledger.sqlite3")
    return open_ledger(tmp_path)


def open_ledger(folder: Path, name: str = "one") -> SQLiteLedger:
    identity = f"https://api.piapi.ai sandbox-{name}"
    return SQLiteLedger(folder / "ledger.sqlite3", identity=identity, clock=lambda: NOW + 60)


async def test_every_row_of_the_first_version_is_read(ledger: SQLiteLedger) -> None:
    rows = {row.state: row for row in await ledger.recent(limit=100)}
    await ledger.close()
    assert {state: row.task_id for state, row in rows.items()} == {
        "submitting": None,
        "submitted": "task-submitted",
        "done": "task-done",
        "failed": "task-failed",
        "refused": None,
        "unknown": None,
    }
    done = rows["done"]
    assert (done.quoted_usd, done.charged_usd, done.expected_px) == (Decimal("0.02"), Decimal("0.02"), (640, 360))
    assert (done.frozen_usd, done.mark, done.is_upper_bound) == (None, None, False)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("submitting", OutcomeUnknown),
        ("submitted", BoughtBefore),
        ("done", BoughtBefore),
        ("unknown", OutcomeUnknown),
        ("failed", New),
        ("refused", New),
    ],
)
async def test_a_request_of_the_first_version_is_recognised(
    ledger: SQLiteLedger, state: str, outcome: type[Claim]
) -> None:
    """By the fingerprint that it made: later ones leave the webhook out."""
    request = NewSubmission("another", "m", "upscale", "s", {}, None, earlier_fingerprint=f"fingerprint-{state}")
    claim = await ledger.claim(request, admit=admit_all)
    await ledger.close()
    assert isinstance(claim, outcome)


async def test_the_days_spending_goes_on(ledger: SQLiteLedger) -> None:
    # submitting 0.018, submitted 0.02, done 0.02, failed 0, unknown 0.018
    assert await ledger.spent_today_usd() == Decimal("0.076")
    await ledger.close()


async def test_accounts_stay_apart(ledger: SQLiteLedger, tmp_path: Path) -> None:
    other = open_ledger(tmp_path, "two")
    assert [row.summary for row in await other.recent(limit=100)] == ["index 3"]
    await ledger.close()
    await other.close()


async def test_a_copy_of_the_earlier_file_is_kept(ledger: SQLiteLedger, tmp_path: Path) -> None:
    await ledger.recent(limit=1)
    await ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3.v1.bak")) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("SELECT count(*) FROM submissions").fetchone() == (7,)


async def test_the_first_version_can_go_on_writing_to_a_migrated_file(ledger: SQLiteLedger, tmp_path: Path) -> None:
    """Ours: a client may run an older server beside a newer one."""
    await ledger.recent(limit=1)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)) as older:
        older.execute(
            "INSERT INTO submissions (account, fingerprint, model, task_type, summary, asked, expected_width_px,"
            " expected_height_px, state, attempt, quoted_usd, created_at, changed_at, lease_until)"
            " SELECT account, 'new', model, task_type, 'written by 0.1.0', asked, NULL, NULL, 'unknown', 1, NULL,"
            " created_at, changed_at, 0 FROM submissions WHERE id = 1"
        )
    assert (await ledger.recent(limit=1))[0].summary == "written by 0.1.0"
    await ledger.close()
