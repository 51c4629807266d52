"""The ledger: a durable record of every submission, on disk before its request leaves.

PiAPI has no idempotency keys, so this is what keeps a paid task from being bought twice or lost. One row per
submission; several processes may share the file. Every change of state names the state that it expects to find, so
that of two processes only one wins.

    submitting ─┬─> submitted ─┬─> done       the id is known; ended well, or badly
                │              └─> failed
                ├─> refused                   certainly not bought
                └─> unknown ───> submitted    nobody can say; perhaps found later in PiAPI's history
"""

import asyncio
import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeVar, get_args

from piapi_mcp.errors import BudgetError, LedgerError
from piapi_mcp.formatting import dollars

State = Literal["submitting", "submitted", "done", "failed", "refused", "unknown"]

REPLAY_WINDOW_S = 24 * 3600.0
"""How long the same request answers with the task already bought, in seconds."""
LEASE_S = 2.5
"""How long a process that submits is believed to live without a sign of life, in seconds."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE salt (value BLOB NOT NULL);
CREATE TABLE submissions (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    model TEXT NOT NULL,
    task_type TEXT NOT NULL,
    summary TEXT NOT NULL,
    asked TEXT NOT NULL,
    expected_width_px INTEGER,
    expected_height_px INTEGER,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    quoted_usd TEXT,
    charged_usd TEXT,
    task_id TEXT,
    created_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    lease_until REAL NOT NULL
);
CREATE INDEX submissions_by_request ON submissions (account, fingerprint, created_at);
CREATE INDEX submissions_by_time ON submissions (account, created_at);
CREATE UNIQUE INDEX submissions_by_task ON submissions (account, task_id) WHERE task_id IS NOT NULL;
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A submission that is about to be made."""

    fingerprint: str
    """Digest of everything that makes two requests the same; holds no media."""
    model: str
    task_type: str
    summary: str
    """What is asked for, in a few words for a person."""
    asked: Mapping[str, str]
    """Digests of the input's fields by name, `file` for a file: what a task found later is recognised by."""
    quoted_usd: Decimal | None
    """List price; None where it is not known."""
    expected_px: tuple[int, int] | None = None
    """Width and height that the result was promised to have, where that is known."""


@dataclass(frozen=True)
class Entry:
    """One submission, as the ledger knows it."""

    id: int
    fingerprint: str
    model: str
    task_type: str
    summary: str
    asked: Mapping[str, str]
    expected_px: tuple[int, int] | None
    state: State
    attempt: int
    """1 for the first time that the same request was made, 2 for the second."""
    quoted_usd: Decimal | None
    charged_usd: Decimal | None
    """What PiAPI really took; None until the task has ended."""
    task_id: str | None
    created_at: float
    """When it was written down, in Unix seconds."""
    lease_until: float
    """Until when the process that submits it is believed to live, in Unix seconds."""

    def is_orphaned(self, now: float) -> bool:
        """Whether the process that was submitting it has died before it could tell the outcome."""
        return self.state == "submitting" and self.lease_until < now


@dataclass(frozen=True)
class Claim:
    """The answer to "may I submit this?"."""

    entry: Entry
    is_new: bool
    """False: the same request was submitted before, and *entry* is that submission."""


class Ledger:
    """The submissions of one account, in a SQLite file that all accounts and processes share."""

    def __init__(self, path: Path, *, identity: str, clock: Callable[[], float] = time.time) -> None:
        """Use the file *path*, made at first use, for the account that *identity* (a secret) belongs to."""
        self._path = path
        self._identity = identity
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._account = ""

    async def claim(self, draft: Draft, *, repeat: bool = False, daily_budget_usd: Decimal | None = None) -> Claim:
        """Write *draft* down as about to be submitted, unless the same request stands there already.

        Args:
            draft: What is to be submitted.
            repeat: Write it down even so.
            daily_budget_usd: Refuse it where the day's submissions would come to more than this.

        Raises:
            BudgetError: It does not fit the budget.
            LedgerError: The ledger cannot be written.
        """
        return await self._run(lambda db: self._claim(db, draft, repeat=repeat, daily_budget_usd=daily_budget_usd))

    async def renew(self, entry_id: int) -> None:
        """Give a sign of life of the submission *entry_id*."""
        await self._run(
            lambda db: db.execute(
                "UPDATE submissions SET lease_until = ? WHERE id = ? AND state = 'submitting'",
                (self._clock() + LEASE_S, entry_id),
            )
        )

    async def record_task(self, entry_id: int, task_id: str, *, quoted_usd: Decimal | None = None) -> None:
        """Note that the submission became the task *task_id*, and PiAPI's own price where it told one."""
        await self._run(
            lambda db: db.execute(
                "UPDATE submissions SET state = 'submitted', task_id = ?, quoted_usd = coalesce(?, quoted_usd),"
                " changed_at = ? WHERE id = ? AND state IN ('submitting', 'unknown')",
                (task_id, _text(quoted_usd), self._clock(), entry_id),
            )
        )

    async def record_refusal(self, entry_id: int) -> None:
        """Note that the submission was certainly not bought."""
        await self._change(entry_id, "refused", expected=("submitting", "unknown"))

    async def record_unknown(self, entry_id: int) -> None:
        """Note that nobody can say what became of the submission."""
        await self._change(entry_id, "unknown", expected=("submitting",))

    async def record_end(self, task_id: str, *, failed: bool, charged_usd: Decimal | None) -> None:
        """Note how the task *task_id* ended and what it cost; nothing happens where it was not submitted here."""
        await self._run(
            lambda db: db.execute(
                "UPDATE submissions SET state = ?, charged_usd = ?, changed_at = ?"
                " WHERE account = ? AND task_id = ? AND state IN ('submitted', 'done')",
                ("failed" if failed else "done", _text(charged_usd), self._clock(), self._account, task_id),
            )
        )

    async def adopt_orphans(self) -> None:
        """Call the submissions unknown whose process has died under them."""
        await self._run(
            lambda db: db.execute(
                "UPDATE submissions SET state = 'unknown'"
                " WHERE account = ? AND state = 'submitting' AND lease_until < ?",
                (self._account, self._clock()),
            )
        )

    async def find(self, entry_id: int) -> Entry:
        """Return the submission *entry_id*."""
        (entry,) = await self._select("SELECT * FROM submissions WHERE account = ? AND id = ?", entry_id)
        return entry

    async def find_task(self, task_id: str) -> Entry | None:
        """Return the submission that became the task *task_id*, if it was made here."""
        found = await self._select("SELECT * FROM submissions WHERE account = ? AND task_id = ?", task_id)
        return found[0] if found else None

    async def find_request(self, fingerprint: str) -> Entry | None:
        """Return the submission that the same request made within the replay window, unless it came to nothing."""
        return await self._run(lambda db: self._find_request(db, fingerprint))

    async def recent(self, *, limit: int, states: tuple[State, ...] = get_args(State)) -> list[Entry]:
        """Return the newest submissions in one of *states*, newest first."""
        return await self._select(
            "SELECT * FROM submissions WHERE account = ? AND state IN (SELECT value FROM json_each(?))"
            " ORDER BY id DESC LIMIT ?",
            json.dumps(states),
            limit,
        )

    async def spent_today_usd(self) -> Decimal:
        """Return what today's (UTC) submissions cost, or may cost, in US dollars; unknown prices count as nothing."""
        return await self._run(self._spent_today)

    async def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def now(self) -> float:
        """Return the ledger's time in Unix seconds."""
        return self._clock()

    def _claim(self, db: sqlite3.Connection, draft: Draft, *, repeat: bool, daily_budget_usd: Decimal | None) -> Claim:
        now = self._clock()
        db.execute("BEGIN IMMEDIATE")  # from here on no other process can claim the same
        if not repeat:
            earlier = self._find_request(db, draft.fingerprint)
            if earlier:
                return Claim(earlier, is_new=False)
        if daily_budget_usd is not None:
            self._check_budget(db, draft, daily_budget_usd)
        row = db.execute(
            "INSERT INTO submissions (account, fingerprint, model, task_type, summary, asked, expected_width_px,"
            " expected_height_px, state, attempt, quoted_usd, created_at, changed_at, lease_until)"
            " VALUES (:account, :fingerprint, :model, :task_type, :summary, :asked, :width_px, :height_px,"
            " 'submitting',"
            " (SELECT count(*) + 1 FROM submissions WHERE account = :account AND fingerprint = :fingerprint),"
            " :quoted_usd, :now, :now, :lease_until) RETURNING *",
            {
                "account": self._account,
                "fingerprint": draft.fingerprint,
                "model": draft.model,
                "task_type": draft.task_type,
                "summary": draft.summary,
                "asked": json.dumps(dict(draft.asked)),
                "width_px": draft.expected_px[0] if draft.expected_px else None,
                "height_px": draft.expected_px[1] if draft.expected_px else None,
                "quoted_usd": _text(draft.quoted_usd),
                "now": now,
                "lease_until": now + LEASE_S,
            },
        ).fetchone()
        return Claim(_entry(row), is_new=True)

    def _find_request(self, db: sqlite3.Connection, fingerprint: str) -> Entry | None:
        row = db.execute(
            "SELECT * FROM submissions WHERE account = ? AND fingerprint = ? AND created_at > ?"
            " AND state IN ('submitting', 'submitted', 'done', 'unknown') ORDER BY id DESC LIMIT 1",
            (self._account, fingerprint, self._clock() - REPLAY_WINDOW_S),
        ).fetchone()
        return _entry(row) if row else None

    def _check_budget(self, db: sqlite3.Connection, draft: Draft, daily_budget_usd: Decimal) -> None:
        spent_usd = self._spent_today(db)
        price_usd = draft.quoted_usd or Decimal(0)
        if spent_usd + price_usd > daily_budget_usd:
            raise BudgetError(
                f"This task costs {dollars(price_usd)}, and {dollars(spent_usd)} of today's budget of "
                f"{dollars(daily_budget_usd)} is spent or committed already. Nothing was submitted. The budget renews "
                "at midnight UTC; the operator can raise PIAPI_DAILY_BUDGET_USD."
            )

    def _spent_today(self, db: sqlite3.Connection) -> Decimal:
        today = datetime.fromtimestamp(self._clock(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        rows = db.execute(
            "SELECT coalesce(charged_usd, quoted_usd, '0') FROM submissions"
            " WHERE account = ? AND created_at >= ? AND state != 'refused'",
            (self._account, today.timestamp()),
        )
        return sum((Decimal(amount) for (amount,) in rows), Decimal(0))

    async def _change(self, entry_id: int, state: State, *, expected: tuple[State, ...]) -> None:
        await self._run(
            lambda db: db.execute(
                "UPDATE submissions SET state = ?, changed_at = ?"
                " WHERE id = ? AND state IN (SELECT value FROM json_each(?))",
                (state, self._clock(), entry_id, json.dumps(expected)),
            )
        )

    async def _select(self, query: str, *values: object) -> list[Entry]:
        rows = await self._run(lambda db: db.execute(query, (self._account, *values)).fetchall())
        return [_entry(row) for row in rows]

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do *work* in a transaction of its own, away from the event loop: a commit waits for the disk."""
        return await asyncio.to_thread(self._run_now, work)

    def _run_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, _told_as_ours(), self._open() as db:
            return work(db)

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        if self._connection is None:
            self._connection = self._connect()
        with self._connection:  # commits, or rolls back where work raised
            yield self._connection

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        self._account = hashlib.sha256(_salt(db) + self._identity.encode()).hexdigest()[:32]
        return db


def _salt(db: sqlite3.Connection) -> bytes:
    """Return the file's salt, making its tables first where it is new."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise LedgerError(
                "The ledger was written by a newer piapi-mcp. Nothing was submitted: upgrade piapi-mcp, or set "
                "PIAPI_STATE_DIR to another folder."
            )
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
            db.execute(f"PRAGMA user_version = {_VERSION}")
        (salt,) = db.execute("SELECT value FROM salt").fetchone()
    return salt


@contextmanager
def _told_as_ours() -> Generator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # an OSError's own text names the path
        raise LedgerError(
            f"The ledger cannot be written ({reason}), and without it a task could be bought twice. Nothing was "
            "submitted. Free disk space, or set PIAPI_STATE_DIR to a folder that can be written."
        ) from error


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        id=row["id"],
        fingerprint=row["fingerprint"],
        model=row["model"],
        task_type=row["task_type"],
        summary=row["summary"],
        asked=json.loads(row["asked"]),
        expected_px=(row["expected_width_px"], row["expected_height_px"]) if row["expected_width_px"] else None,
        state=row["state"],
        attempt=row["attempt"],
        quoted_usd=_usd(row["quoted_usd"]),
        charged_usd=_usd(row["charged_usd"]),
        task_id=row["task_id"],
        created_at=row["created_at"],
        lease_until=row["lease_until"],
    )


def _usd(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
