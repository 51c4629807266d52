"""The schema of the SQLite ledger and its versions: a file of an earlier one is migrated in place."""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from piapi_mcp.errors import LedgerError

_VERSION = 2
_SCHEMA_1 = """
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
# Additive only: a process of version 0.1 that still runs can go on using the file.
_SCHEMA_2 = """
ALTER TABLE submissions ADD COLUMN is_upper_bound INTEGER NOT NULL DEFAULT 0;
ALTER TABLE submissions ADD COLUMN frozen_usd TEXT;
ALTER TABLE submissions ADD COLUMN mark TEXT;
CREATE INDEX submissions_by_task_id ON submissions (task_id);
CREATE INDEX submissions_by_mark ON submissions (mark);
CREATE TABLE accounts (identity TEXT PRIMARY KEY, account TEXT NOT NULL); -- which account a key belongs to
"""
_MIGRATIONS = (_SCHEMA_1, _SCHEMA_2)
"""What takes the schema from each version to the next."""


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date in one transaction; a file of an earlier version is copied first.

    Raises:
        LedgerError: The file was written by a newer version.
    """
    version = _schema_version(db)
    if 0 < version < _VERSION:
        with closing(sqlite3.connect(path.with_name(f"{path.name}.v{version}.bak"))) as copy:
            db.backup(copy)
    with db:
        db.execute("BEGIN IMMEDIATE")
        version = _schema_version(db)  # another process may have been faster
        if version > _VERSION:
            raise LedgerError(
                "The ledger was written by a newer piapi-mcp. Nothing was submitted: upgrade piapi-mcp, or set "
                "PIAPI_STATE_DIR to another folder."
            )
        for migration in _MIGRATIONS[version:]:
            for statement in migration.split(";"):
                db.execute(statement)
        if version == 0:
            db.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
        db.execute(f"PRAGMA user_version = {_VERSION}")


def _schema_version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return version
