"""A ledger that cannot be written, under a real server: on a full disk, locked by another process, or deleted."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from tests.support.gate import Gate
from tests.support.kills import REQUESTS, ServerProcess, answer_of, states, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the servers are started for POSIX systems here"),
]

REQUEST, OTHER_REQUEST = REQUESTS[:2]
BOUND_S = 25.0
"""Longer than any of these calls may take."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Return a folder that is a file system of its own of 300 KB."""
    folder = tmp_path_factory.mktemp("disk")
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if not sys.platform.startswith("linux") or mount is None or umount is None:
        pytest.skip("a small file system is mounted on Linux only")
    command = [mount, "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run([umount, "--lazy", str(folder)], check=True)


@pytest.fixture
def state_folder(disk: Path) -> Generator[Path]:
    """Return a folder for the ledger on the small disk, which is emptied afterwards."""
    folder = disk / "state"
    yield folder
    for path in (*disk.glob("state/*"), *disk.glob("filling")):
        path.unlink()


def fill(disk: Path) -> None:
    """Use up the space of the disk, to the last byte."""
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def free(disk: Path) -> None:
    (disk / "filling").unlink()


def test_on_a_full_disk_nothing_is_bought(
    sandbox: SandboxControl, base_url: str, disk: Path, state_folder: Path
) -> None:
    with ServerProcess(base_url, state_folder) as server:
        server.list_tasks()
        fill(disk)
        refused = answer_of(server.submit(REQUEST), within_s=BOUND_S)
        assert refused.is_error
        assert "The ledger cannot be written" in refused.text
        assert "Nothing was submitted" in refused.text
        assert not sandbox.requests("create")
        free(disk)
        assert answer_of(server.submit(REQUEST)).summary == "a new task"
    assert len(sandbox.tasks()) == 1


def test_a_disk_that_is_full_right_before_the_submission_is_sent_stops_it(
    sandbox: SandboxControl, sandbox_server: SandboxServer, disk: Path, state_folder: Path
) -> None:
    with Gate(sandbox_server.base_url) as gate, ServerProcess(gate.base_url, state_folder) as server:
        gate.close_after("GET /api/v1/task/")
        call = server.submit(REQUEST)
        wait_until(lambda: states(state_folder, REQUEST) == ["submitting"])
        fill(disk)
        gate.open()
        refused = answer_of(call, within_s=BOUND_S)
        assert "Nothing was submitted" in refused.text
        assert not sandbox.tasks()
        free(disk)
        repeated = answer_of(server.submit(REQUEST), within_s=BOUND_S)
        assert repeated.summary in ("a new task", "unknown, with what to do")
    assert len(sandbox.tasks()) <= 1


def test_a_disk_that_is_full_when_the_task_is_accepted_hides_no_task_id(
    sandbox: SandboxControl, base_url: str, disk: Path, state_folder: Path
) -> None:
    with ServerProcess(base_url, state_folder) as server:
        sandbox.fault("create", "delay", delay_s=0.5, when="after")
        call = server.submit(REQUEST)
        wait_until(lambda: bool(sandbox.tasks()))
        fill(disk)
        task_id = sandbox.tasks()[0]["task_id"]
        accepted = answer_of(call, within_s=BOUND_S)
        assert not accepted.is_error
        assert task_id in accepted.text
        assert "could not be written to the ledger" in accepted.text
        while_full = answer_of(server.submit(REQUEST), within_s=BOUND_S)
        assert task_id in answer_of(server.call("get_task", {"task_id": task_id, "wait_seconds": 0})).text
        listed_while_full = server.list_tasks()
        free(disk)
        repeated = answer_of(server.submit(REQUEST), within_s=BOUND_S)
        assert repeated.summary == "the task already bought"
        assert task_id in repeated.text
    assert len(sandbox.tasks()) == 1
    assert "The ledger cannot be written" in while_full.text
    assert "list_tasks shows what was bought before" in while_full.text
    assert task_id in listed_while_full


def test_nothing_is_bought_behind_a_locked_ledger_or_under_a_deleted_one(
    sandbox: SandboxControl, base_url: str, tmp_path: Path
) -> None:
    """What was spent today is gone with the ledger, and with it the operator's budget."""
    folder = tmp_path / "state"
    limits = {"PIAPI_DAILY_BUDGET_USD": "0.02", "PIAPI_MIDJOURNEY_PRICE_USD": "0.015"}
    with ServerProcess(base_url, folder, variables=limits) as server:
        server.list_tasks()
        with closing(sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused = answer_of(server.submit(REQUEST), within_s=BOUND_S)
            other.execute("ROLLBACK")
        assert "The ledger cannot be written (database is locked)" in refused.text
        assert "Nothing was submitted" in refused.text
        assert not sandbox.requests("create")

        assert answer_of(server.submit(REQUEST)).summary == "a new task"
        for path in folder.iterdir():
            path.unlink()
        refused = answer_of(server.submit(OTHER_REQUEST), within_s=BOUND_S)
        assert "The ledger was deleted or replaced" in refused.text
        assert "Nothing was submitted" in refused.text
        repeated = answer_of(server.submit(REQUEST), within_s=BOUND_S)
        assert repeated.is_error
    assert len(sandbox.tasks()) == 1
    assert "call list_tasks to see what was bought before" in repeated.text
