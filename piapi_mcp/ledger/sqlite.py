"""The ledger in a SQLite file that all accounts and processes of one machine share."""

import asyncio
import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from piapi_mcp.errors import LedgerError, TaskIdConflictError
from piapi_mcp.ledger.ledger import (
    LEASE_S,
    REPLAY_WINDOW_S,
    STATES,
    Admit,
    BoughtBefore,
    Claim,
    Ledger,
    New,
    NewSubmission,
    OutcomeUnknown,
    Refused,
    State,
    Submission,
    UnderWay,
)

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
    asked TEXT NOT NULL, -- Submission.input_digests, as JSON
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
_BUSY_TIMEOUT_S = 5
"""How long a transaction waits for another process's, in seconds."""

T = TypeVar("T")


class SQLiteLedger(Ledger):
    """The submissions of one account, in a SQLite file."""

    def __init__(self, path: Path, *, identity: str, clock: Callable[[], float] = time.time) -> None:
        """Use the file *path*, created at first use, for the account that *identity* (a secret) belongs to."""
        self._path = path
        self._identity = identity
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._account = ""

    @override
    async def claim(self, new: NewSubmission, *, admit: Admit, repeat: bool = False) -> Claim:
        return await self._run(lambda db: self._claim(db, new, admit=admit, repeat=repeat))

    @override
    async def renew(self, submission_id: int) -> bool:
        return await self._update(
            "UPDATE submissions SET lease_until = ? WHERE id = ? AND state = 'submitting'",
            self._clock() + LEASE_S,
            submission_id,
        )

    @override
    async def record_task(self, submission_id: int, task_id: str, *, frozen_usd: Decimal | None = None) -> bool:
        return await self._update(
            "UPDATE submissions SET state = 'submitted', task_id = ?, quoted_usd = coalesce(?, quoted_usd),"
            " changed_at = ? WHERE id = ? AND state IN ('submitting', 'unknown')",
            task_id,
            _text(frozen_usd),
            self._clock(),
            submission_id,
        )

    @override
    async def record_refusal(self, submission_id: int) -> bool:
        return await self._update(
            "UPDATE submissions SET state = 'refused', changed_at = ?"
            " WHERE id = ? AND state IN ('submitting', 'unknown')",
            self._clock(),
            submission_id,
        )

    @override
    async def record_unknown(self, submission_id: int) -> bool:
        return await self._update(
            "UPDATE submissions SET state = 'unknown', changed_at = ? WHERE id = ? AND state = 'submitting'",
            self._clock(),
            submission_id,
        )

    @override
    async def record_end(self, task_id: str, *, failed: bool, charged_usd: Decimal | None) -> bool:
        return await self._run(
            lambda db: _changes_a_row(
                db,
                "UPDATE submissions SET state = ?, charged_usd = ?, changed_at = ?"
                " WHERE account = ? AND task_id = ? AND state IN ('submitted', 'done')",
                ("failed" if failed else "done", _text(charged_usd), self._clock(), self._account, task_id),
            )
        )

    @override
    async def expire_leases(self) -> None:
        await self._run(self._expire_leases)

    @override
    async def find_by_task(self, task_id: str) -> Submission | None:
        found = await self._select("SELECT * FROM submissions WHERE account = ? AND task_id = ?", task_id)
        return found[0] if found else None

    @override
    async def find_by_request(self, fingerprint: str) -> Submission | None:
        return await self._run(lambda db: self._find_by_request(db, fingerprint))

    @override
    async def recent(self, *, limit: int, states: tuple[State, ...] = STATES) -> list[Submission]:
        return await self._select(
            "SELECT * FROM submissions WHERE account = ? AND state IN (SELECT value FROM json_each(?))"
            " ORDER BY id DESC LIMIT ?",
            json.dumps(states),
            limit,
        )

    @override
    async def spent_today_usd(self) -> Decimal:
        return await self._run(self._spent_today_usd)

    @override
    async def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _claim(self, db: sqlite3.Connection, new: NewSubmission, *, admit: Admit, repeat: bool) -> Claim:
        db.execute("BEGIN IMMEDIATE")  # from here on no other process can claim the same request
        self._expire_leases(db)
        earlier = None if repeat else self._find_by_request(db, new.fingerprint)
        if earlier is not None:
            return _claim_of(earlier)
        reason = admit(self._spent_today_usd(db))
        return Refused(reason) if reason is not None else New(self._insert(db, new))

    def _insert(self, db: sqlite3.Connection, new: NewSubmission) -> Submission:
        now = self._clock()
        row = db.execute(
            "INSERT INTO submissions (account, fingerprint, model, task_type, summary, asked, expected_width_px,"
            " expected_height_px, state, attempt, quoted_usd, created_at, changed_at, lease_until)"
            " VALUES (:account, :fingerprint, :model, :task_type, :summary, :asked, :width_px, :height_px,"
            " 'submitting',"
            " (SELECT count(*) + 1 FROM submissions WHERE account = :account AND fingerprint = :fingerprint),"
            " :quoted_usd, :now, :now, :lease_until) RETURNING *",
            {
                "account": self._account,
                "fingerprint": new.fingerprint,
                "model": new.model,
                "task_type": new.task_type,
                "summary": new.summary,
                "asked": json.dumps(dict(new.input_digests)),
                "width_px": new.expected_px[0] if new.expected_px else None,
                "height_px": new.expected_px[1] if new.expected_px else None,
                "quoted_usd": _text(new.quoted_usd),
                "now": now,
                "lease_until": now + LEASE_S,
            },
        ).fetchone()
        return _submission(row)

    def _find_by_request(self, db: sqlite3.Connection, fingerprint: str) -> Submission | None:
        row = db.execute(
            "SELECT * FROM submissions WHERE account = ? AND fingerprint = ? AND created_at > ?"
            " AND state IN ('submitting', 'submitted', 'done', 'unknown') ORDER BY id DESC LIMIT 1",
            (self._account, fingerprint, self._clock() - REPLAY_WINDOW_S),
        ).fetchone()
        return _submission(row) if row else None

    def _expire_leases(self, db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE submissions SET state = 'unknown' WHERE account = ? AND state = 'submitting' AND lease_until < ?",
            (self._account, self._clock()),
        )

    def _spent_today_usd(self, db: sqlite3.Connection) -> Decimal:
        today = datetime.fromtimestamp(self._clock(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        rows = db.execute(
            "SELECT coalesce(charged_usd, quoted_usd, '0') FROM submissions"
            " WHERE account = ? AND created_at >= ? AND state != 'refused'",
            (self._account, today.timestamp()),
        )
        return sum((Decimal(amount) for (amount,) in rows), Decimal(0))

    async def _update(self, statement: str, *values: object) -> bool:
        return await self._run(lambda db: _changes_a_row(db, statement, values))

    async def _select(self, query: str, *values: object) -> list[Submission]:
        rows = await self._run(lambda db: db.execute(query, (self._account, *values)).fetchall())
        return [_submission(row) for row in rows]

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run *work* in a transaction of its own, in a thread, because a commit waits for the disk."""
        return await asyncio.to_thread(self._run_blocking, work)

    def _run_blocking(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, _translate_errors():
            if self._connection is None:
                self._connection = self._connect()
            with self._connection as db:  # commits, or rolls back if work raises
                return work(db)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        # The row names the account by a salted digest: the file holds neither keys nor anything to test a key with.
        self._account = hashlib.sha256(_read_salt(db) + self._identity.encode()).hexdigest()[:32]
        return db


def _claim_of(earlier: Submission) -> Claim:
    if earlier.state == "submitting":
        return UnderWay(earlier)
    return OutcomeUnknown(earlier) if earlier.state == "unknown" else BoughtBefore(earlier)


def _read_salt(db: sqlite3.Connection) -> bytes:
    """Return the file's salt; create the tables first in a new file."""
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
def _translate_errors() -> Generator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:  # the only constraint that a statement here can break
        raise TaskIdConflictError("PiAPI returned a task id that is recorded for another submission.") from error
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # an OSError's own text names the path
        raise LedgerError(
            f"The ledger cannot be written ({reason}), and without it a task could be bought twice. Nothing was "
            "submitted. Free disk space, or set PIAPI_STATE_DIR to a folder that can be written."
        ) from error


def _changes_a_row(db: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> bool:
    """Execute *statement*, and return whether it changed a row."""
    return db.execute(statement, values).rowcount > 0


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _decimal(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)


def _submission(row: sqlite3.Row) -> Submission:
    return Submission(
        id=row["id"],
        fingerprint=row["fingerprint"],
        model=row["model"],
        task_type=row["task_type"],
        summary=row["summary"],
        input_digests=json.loads(row["asked"]),
        expected_px=(row["expected_width_px"], row["expected_height_px"]) if row["expected_width_px"] else None,
        state=row["state"],
        attempt=row["attempt"],
        quoted_usd=_decimal(row["quoted_usd"]),
        charged_usd=_decimal(row["charged_usd"]),
        task_id=row["task_id"],
        created_at=row["created_at"],
        lease_until=row["lease_until"],
    )
