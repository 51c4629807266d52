"""What servers that are killed, or stopped and resumed, leave behind: one task at most, and no untrue answer.

The moments are tied to events. `benchmarks/kills.py` kills and stops at random moments.
"""

import itertools
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from tests.support.gate import Gate
from tests.support.kills import REQUESTS, ServerProcess, answer_of, outcome, states, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process and let it go on"),
]

HOUR_S = 3600.0
ORIGIN_READ = "GET /api/v1/task/"

_requests = itertools.cycle(REQUESTS)


@pytest.fixture
def request_of_its_own() -> dict[str, str]:
    """Return the arguments of a call that no other test here makes: the tests share servers and their ledger."""
    return next(_requests)


@pytest.fixture(scope="module")
def gate(sandbox_server: SandboxServer) -> Generator[Gate]:
    with Gate(sandbox_server.base_url) as gate:
        yield gate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the ledger."""
    return tmp_path_factory.mktemp("kills") / "state"


@pytest.fixture(scope="module")
def servers(gate: Gate, folder: Path) -> Generator[tuple[ServerProcess, ServerProcess]]:
    """Return two servers of one account over one ledger."""
    with ServerProcess(gate.base_url, folder) as first, ServerProcess(gate.base_url, folder) as second:
        yield first, second


@pytest.fixture
def first(servers: tuple[ServerProcess, ServerProcess]) -> ServerProcess:
    return servers[0]


@pytest.fixture
def second(servers: tuple[ServerProcess, ServerProcess]) -> ServerProcess:
    return servers[1]


Hold = Callable[[SandboxControl, Gate, Path, dict[str, str]], Generator[Callable[[], bool]]]


# Each moment prepares the sandbox or the gate, and yields a condition that is true while a submission is held there.


def before_the_row(
    sandbox: SandboxControl, _gate: Gate, _folder: Path, _request: dict[str, str]
) -> Generator[Callable[[], bool]]:
    sandbox.fault("read", "delay", delay_s=0.5)
    yield lambda: bool(sandbox.requests("read"))


def before_the_post(
    _sandbox: SandboxControl, gate: Gate, folder: Path, request: dict[str, str]
) -> Generator[Callable[[], bool]]:
    """The row is written, and no connection can be made: the server makes a pause before it tries again."""
    gate.close_after(ORIGIN_READ)
    yield lambda: states(folder, request)[-1:] == ["submitting"]
    gate.open()


def post_received(
    sandbox: SandboxControl, _gate: Gate, _folder: Path, _request: dict[str, str]
) -> Generator[Callable[[], bool]]:
    sandbox.fault("create", "delay", delay_s=0.5)
    yield lambda: bool(sandbox.requests("create"))


def reply_delayed(
    sandbox: SandboxControl, _gate: Gate, _folder: Path, _request: dict[str, str]
) -> Generator[Callable[[], bool]]:
    sandbox.fault("create", "delay", delay_s=0.5, when="after")
    yield lambda: bool(sandbox.tasks())


def recovering(
    sandbox: SandboxControl, _gate: Gate, _folder: Path, _request: dict[str, str]
) -> Generator[Callable[[], bool]]:
    sandbox.fault("create", "cut", when="after")
    sandbox.fault("history", "delay", delay_s=0.5)
    yield lambda: bool(sandbox.requests("history"))


@pytest.mark.parametrize("moment", [before_the_row, before_the_post, post_received, reply_delayed])
def test_a_killed_server_loses_nothing_and_buys_nothing_twice(
    sandbox: SandboxControl,
    gate: Gate,
    folder: Path,
    second: ServerProcess,
    request_of_its_own: dict[str, str],
    moment: Hold,
) -> None:
    with ServerProcess(gate.base_url, folder) as killed:
        with contextmanager(moment)(sandbox, gate, folder, request_of_its_own) as is_held:
            killed.submit(request_of_its_own)
            wait_until(is_held)
            killed.kill()
        answer = answer_of(second.submit(request_of_its_own))
    found = outcome(sandbox, [answer], second)
    assert found.is_good, found
    assert found.bought <= 1  # whether PiAPI has the request already is a matter of moments


@pytest.mark.parametrize("moment", [before_the_post, post_received, reply_delayed, recovering])
def test_a_stopped_server_that_goes_on_buys_nothing_twice(
    sandbox: SandboxControl,
    gate: Gate,
    folder: Path,
    first: ServerProcess,
    second: ServerProcess,
    request_of_its_own: dict[str, str],
    moment: Hold,
) -> None:
    """The second server takes the first one for dead when its lease has expired; the first one then goes on."""
    with contextmanager(moment)(sandbox, gate, folder, request_of_its_own) as is_held:
        stopped_call = first.submit(request_of_its_own)
        wait_until(is_held)
        first.stop()
    answer = answer_of(second.submit(request_of_its_own))
    first.resume()
    found = outcome(sandbox, [answer_of(stopped_call), answer], second)
    assert found.is_good, found
    assert found.bought <= 1  # a server that was stopped before its POST sends nothing


def test_three_servers_that_are_asked_at_once_buy_one_task_though_one_is_killed_and_one_stopped(
    sandbox: SandboxControl,
    gate: Gate,
    folder: Path,
    first: ServerProcess,
    second: ServerProcess,
    request_of_its_own: dict[str, str],
) -> None:
    sandbox.fault("create", "delay", delay_s=0.5)
    with ServerProcess(gate.base_url, folder) as killed:
        stopped_call = first.submit(request_of_its_own)
        killed.submit(request_of_its_own)
        call = second.submit(request_of_its_own)
        sandbox.wait_for("create")
        first.stop()
        killed.kill()
    answer = answer_of(call)
    first.resume()
    found = outcome(sandbox, [answer_of(stopped_call), answer], second)
    assert found.is_good, found
    assert found.bought == 1


def test_a_clock_that_jumps_ends_no_lease(
    sandbox: SandboxControl,
    first: ServerProcess,
    second: ServerProcess,
    request_of_its_own: dict[str, str],
) -> None:
    sandbox.fault("create", "delay", delay_s=1)
    with ExitStack() as stack:
        stack.callback(first.set_clock, 0)
        stack.callback(second.set_clock, 0)
        call = first.submit(request_of_its_own)
        sandbox.wait_for("create")
        first.set_clock(-HOUR_S)
        second.set_clock(HOUR_S)
        answer = answer_of(second.submit(request_of_its_own))
        found = outcome(sandbox, [answer_of(call), answer], second)
    assert found.told == ("a new task", "the task already bought")
    assert found.bought == 1
    assert not found.is_lost


@pytest.fixture(scope="module")
def ahead(gate: Gate, folder: Path) -> Generator[ServerProcess]:
    """Return a server over the same ledger, whose clock was an hour ahead when it started."""
    with ServerProcess(gate.base_url, folder, ahead_s=HOUR_S) as server:
        yield server


@pytest.mark.parametrize("asks_ahead_first", [True, False])
def test_of_two_servers_an_hour_apart_one_buys(
    sandbox: SandboxControl,
    folder: Path,
    ahead: ServerProcess,
    second: ServerProcess,
    request_of_its_own: dict[str, str],
    *,
    asks_ahead_first: bool,
) -> None:
    """To each of them, a lease of the other has expired or is impossibly long."""
    stopped, other = (ahead, second) if asks_ahead_first else (second, ahead)
    sandbox.fault("create", "delay", delay_s=0.5, when="after")
    call = stopped.submit(request_of_its_own)
    wait_until(lambda: bool(sandbox.tasks()))
    stopped.stop()
    answer = answer_of(other.submit(request_of_its_own))
    stopped.resume()
    found = outcome(sandbox, [answer_of(call), answer], second)
    assert found.is_good, found
    assert found.bought == 1
    assert states(folder, request_of_its_own) == ["submitted"]
