"""The ledger in a SQLite file that all accounts and processes of one machine share."""

import asyncio
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping
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
from piapi_mcp.ledger.schema import migrate

_BUSY_TIMEOUT_S = 5
"""How long a transaction waits for another process's, in seconds."""

T = TypeVar("T")


_STARTED_AT = time.time() - time.monotonic()


def steady_time() -> float:
    """Return the Unix time that it would be if nobody had set the clock since the process started."""
    return _STARTED_AT + time.monotonic()


class SQLiteLedger(Ledger):
    """The submissions of one account, in a SQLite file."""

    def __init__(
        self,
        path: Path,
        *,
        identity: str,
        clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = steady_time,
    ) -> None:
        """Use the file *path*, created at first use, for the account that *identity* (a secret) belongs to.

        Args:
            path: The file.
            identity: Base URL and key; identifies the account until PiAPI's own id of it is known.
            clock: Unix time, for what is compared with PiAPI's times.
            steady_clock: Seconds that never jump within a process, for leases.
        """
        self._path = path
        self._identity = identity
        self._clock = clock
        self._steady_clock = steady_clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that is open."""
        self._key_account = ""
        self._account = ""

    @override
    async def claim(self, new: NewSubmission, *, admit: Admit, repeat: bool = False) -> Claim:
        return await self._run(lambda db: self._claim(db, new, admit=admit, repeat=repeat))

    @override
    async def renew(self, submission_id: int) -> bool:
        return await self._update(
            "UPDATE submissions SET lease_until = ? WHERE id = ? AND state = 'submitting'",
            self._steady_clock() + LEASE_S,
            submission_id,
        )

    @override
    async def record_task(self, submission_id: int, task_id: str, *, frozen_usd: Decimal | None = None) -> bool:
        return await self._run(lambda db: self._record_task(db, submission_id, task_id, frozen_usd))

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
                "UPDATE submissions SET state = :state, charged_usd = coalesce(:charged, charged_usd),"
                " changed_at = :now WHERE account = :account AND task_id = :task_id"
                " AND state IN ('submitted', 'done', 'failed')"
                " AND (state != :state OR (:charged IS NOT NULL AND charged_usd IS NOT :charged))",
                {
                    "state": "failed" if failed else "done",
                    "charged": _text(charged_usd),
                    "now": self._clock(),
                    "account": self._account,
                    "task_id": task_id,
                },
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
    async def find_by_mark(self, mark: str) -> Submission | None:
        found = await self._select("SELECT * FROM submissions WHERE account = ? AND mark = ?", mark)
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
    async def is_account_known(self) -> bool:
        return await self._run(lambda _db: self._account != self._key_account)

    @override
    async def set_account(self, account_id: str) -> None:
        await self._run(lambda db: self._set_account(db, account_id))

    @override
    async def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _claim(self, db: sqlite3.Connection, new: NewSubmission, *, admit: Admit, repeat: bool) -> Claim:
        db.execute("BEGIN IMMEDIATE")  # from here on no other process can claim the same request
        self._expire_leases(db)
        earlier = None
        if not repeat:
            earlier = self._find_by_request(db, new.fingerprint)
            if earlier is None and new.earlier_fingerprint is not None:
                earlier = self._find_by_request(db, new.earlier_fingerprint)
        if earlier is not None:
            return _claim_of(earlier, is_recent=earlier.created_at > self._clock() - REPLAY_WINDOW_S)
        reason = admit(self._spent_today_usd(db))
        return Refused(reason) if reason is not None else New(self._insert(db, new))

    def _insert(self, db: sqlite3.Connection, new: NewSubmission) -> Submission:
        now = self._clock()
        row = db.execute(
            "INSERT INTO submissions (account, fingerprint, model, task_type, summary, asked, expected_width_px,"
            " expected_height_px, state, attempt, quoted_usd, is_upper_bound, mark, created_at, changed_at,"
            " lease_until)"
            " VALUES (:account, :fingerprint, :model, :task_type, :summary, :asked, :width_px, :height_px,"
            " 'submitting',"
            " (SELECT count(*) + 1 FROM submissions WHERE account = :account AND fingerprint = :fingerprint),"
            " :quoted_usd, :is_upper_bound, :mark, :now, :now, :lease_until) RETURNING *",
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
                "is_upper_bound": new.is_upper_bound,
                "mark": new.mark,
                "now": now,
                "lease_until": self._steady_clock() + LEASE_S,
            },
        ).fetchone()
        return _submission(row)

    def _find_by_request(self, db: sqlite3.Connection, fingerprint: str) -> Submission | None:
        row = db.execute(
            "SELECT * FROM submissions WHERE account = ? AND fingerprint = ?"
            " AND (state IN ('submitting', 'submitted', 'unknown') OR (state = 'done' AND created_at > ?))"
            " ORDER BY state IN ('submitted', 'done') DESC, id DESC LIMIT 1",
            (self._account, fingerprint, self._clock() - REPLAY_WINDOW_S),
        ).fetchone()
        return _submission(row) if row else None

    def _expire_leases(self, db: sqlite3.Connection) -> None:
        # A lease that ends later than any lease can was written by another clock: it says nothing. Taking it for
        # expired is safe, because its process checks that the row is still its own right before it sends anything.
        now = self._steady_clock()
        db.execute(
            "UPDATE submissions SET state = 'unknown' WHERE account = ? AND state = 'submitting'"
            " AND NOT lease_until BETWEEN ? AND ?",
            (self._account, now, now + 2 * LEASE_S),
        )

    def _spent_today_usd(self, db: sqlite3.Connection) -> Decimal:
        today = datetime.fromtimestamp(self._clock(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        rows = db.execute(
            "SELECT * FROM submissions WHERE account = ? AND created_at >= ? AND state != 'refused'",
            (self._account, today.timestamp()),
        )
        return sum((_submission(row).cost_usd or Decimal(0) for row in rows), Decimal(0))

    def _record_task(
        self, db: sqlite3.Connection, submission_id: int, task_id: str, frozen_usd: Decimal | None
    ) -> bool:
        db.execute("BEGIN IMMEDIATE")
        other = "SELECT 1 FROM submissions WHERE task_id = ? AND id != ?"
        if db.execute(other, (task_id, submission_id)).fetchone():
            raise TaskIdConflictError("PiAPI returned a task id that is recorded for another submission.")
        is_recorded_now = _changes_a_row(
            db,
            "UPDATE submissions SET state = 'submitted', task_id = ?, frozen_usd = ?, changed_at = ?"
            " WHERE id = ? AND state IN ('submitting', 'unknown')",
            (task_id, _text(frozen_usd), self._clock(), submission_id),
        )
        same = "SELECT 1 FROM submissions WHERE task_id = ? AND id = ?"
        return is_recorded_now or db.execute(same, (task_id, submission_id)).fetchone() is not None

    def _set_account(self, db: sqlite3.Connection, account_id: str) -> None:
        account = self._digest(db, f"account {account_id}")
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (self._key_account, account))
        # A task that both have, by an error of an earlier version, stays where it is: nothing is lost by that.
        db.execute("UPDATE OR IGNORE submissions SET account = ? WHERE account = ?", (account, self._key_account))
        self._account = account

    def _digest(self, db: sqlite3.Connection, identity: str) -> str:
        """Return what rows name an account by: the file contains neither keys nor anything to test a key with."""
        (salt,) = db.execute("SELECT value FROM salt").fetchone()
        return hashlib.sha256(salt + identity.encode()).hexdigest()[:32]

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
            self._check_file()
            self._account = self._account_of_key(self._connection)
            with self._connection as db:  # commits, or rolls back if work raises
                return work(db)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        migrate(db, self._path)
        self._file = _file_id(self._path)
        self._key_account = self._digest(db, self._identity)
        return db

    def _account_of_key(self, db: sqlite3.Connection) -> str:
        """Return the account as it is known now: another process may have identified it meanwhile."""
        known = db.execute("SELECT account FROM accounts WHERE identity = ?", (self._key_account,)).fetchone()
        return known["account"] if known else self._key_account

    def _check_file(self) -> None:
        """Notice a ledger that was deleted or replaced: what it knew of today's spending is gone.

        Raises:
            LedgerError: It was. It stays so until the server is restarted.
        """
        try:
            is_same = _file_id(self._path) == self._file
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise LedgerError(
                "The ledger was deleted or replaced while the server was running, and without it a task could be "
                "bought twice. Nothing was submitted by this call. Put the file back; or call list_tasks to see what "
                "was bought before, and restart the server to begin a new ledger."
            )


def _claim_of(earlier: Submission, *, is_recent: bool) -> Claim:
    if earlier.state == "submitting":
        return UnderWay(earlier)
    return OutcomeUnknown(earlier) if earlier.state == "unknown" else BoughtBefore(earlier, is_recent)


def _file_id(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


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
            "submitted by this call; list_tasks shows what was bought before. Free disk space, or set PIAPI_STATE_DIR "
            "to a folder that can be written."
        ) from error


def _changes_a_row(db: sqlite3.Connection, statement: str, values: tuple[object, ...] | Mapping[str, object]) -> bool:
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
        is_upper_bound=bool(row["is_upper_bound"]),
        frozen_usd=_decimal(row["frozen_usd"]),
        mark=row["mark"],
        charged_usd=_decimal(row["charged_usd"]),
        task_id=row["task_id"],
        created_at=row["created_at"],
        lease_until=row["lease_until"],
    )
