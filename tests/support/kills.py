"""Real servers that are killed, stopped and resumed during a submission, and what they and their agents then know.

The tests stop a server at moments that events define; `benchmarks/kills.py` stops it at random ones, many times.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any, Literal, Self, get_args

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import VERSIONS, Sample
from tests.support.messages import INITIALIZE
from tests.support.stdio_server import inherited_environment

TOOL = "midjourney_upscale"
REQUESTS = [
    {"origin_task_id": Sample(version, is_grid=True).task_id, "index": str(index)}
    for version in VERSIONS
    for index in range(1, 5)
]
"""Arguments of valid calls; no two are the same request."""
_JUMPING_CLOCK = Path(__file__).with_name("jumping_clock.py")
_PATIENCE_S = 50.0
"""A call waits up to 40 s for another process; an answer that takes much longer is a defect."""

Mode = Literal["kill", "stop", "clock"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class Answer:
    """What an agent got for a call."""

    text: str
    is_error: bool
    received_at: float
    """Unix time."""

    @property
    def summary(self) -> str:
        """Say in a few words what the agent was told about the money."""
        if self.is_error:
            if "Nothing was" in self.text:
                return "nothing was bought"
            return "unknown, with what to do" if "may have been bought" in self.text else f"unclear: {self.text}"
        return "the task already bought" if "nothing was bought now" in self.text else "a new task"


class ServerProcess:
    """A real server over stdio, as a client starts it, that can be killed, stopped and resumed."""

    def __init__(
        self, base_url: str, folder: Path, *, ahead_s: float = 0, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start a server.

        Args:
            base_url: Address of the sandbox.
            folder: The folder of the ledger.
            ahead_s: How far the server's clock is ahead, in seconds.
            variables: More of its environment.
        """
        settings = {"PIAPI_API_KEY": "sandbox-kill-key", "PIAPI_BASE_URL": base_url, "PIAPI_STATE_DIR": str(folder)}
        self._clock_folder = tempfile.TemporaryDirectory()  # not beside the ledger, whose disk may be full
        self._offset_file = Path(self._clock_folder.name) / "offset"
        self.set_clock(ahead_s)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_JUMPING_CLOCK), str(self._offset_file)],
            env=inherited_environment() | settings | dict(variables or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answers: dict[int, Future[Answer]] = {}
        self._reader = threading.Thread(target=self._read_answers, daemon=True)
        self._reader.start()
        self._answers[1] = ready = Future[Answer]()  # the id that `INITIALIZE` has
        self._send(INITIALIZE)
        ready.result(_PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()
        self._reader.join(_PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._clock_folder.cleanup()

    def call(self, tool: str, arguments: dict[str, Any]) -> Future[Answer]:
        """Call a tool; the answer comes later, if at all."""
        call_id = len(self._answers) + 1
        self._answers[call_id] = answer = Future[Answer]()
        params = {"name": tool, "arguments": arguments}
        self._send({"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": params})
        return answer

    def submit(self, request: dict[str, str]) -> Future[Answer]:
        """Make the paid call; `answer_of` waits for its answer."""
        return self.call(TOOL, request)

    def list_tasks(self) -> str:
        """Return what `list_tasks` answers."""
        return answer_of(self.call("list_tasks", {"limit": 50})).text

    def set_clock(self, ahead_s: float) -> None:
        """Set the server's clock that far ahead of the real time."""
        new = self._offset_file.with_suffix(".new")
        new.write_text(str(ahead_s))
        new.replace(self._offset_file)  # at once: the server may be reading it

    def stop(self) -> None:
        """Stop the process, as a suspended machine does; return when it no longer runs."""
        os.kill(self._process.pid, SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let the stopped process go on."""
        os.kill(self._process.pid, SIGCONT)

    def kill(self) -> None:
        """End the process at once, as `kill -9` does."""
        self._process.kill()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        if self._process.stdin is None:
            raise RuntimeError("no pipe")
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _read_answers(self) -> None:
        for line in self._process.stdout or ():
            message: dict[str, Any] = json.loads(line)
            if (answer := self._answers.get(message.get("id", 0))) is not None:
                result = message.get("result", {})
                parts = [part.get("text", "") for part in result.get("content", ())]
                answer.set_result(Answer(" ".join(parts), result.get("isError", False), time.time()))


def answer_of(call: "Future[Answer]", *, within_s: float = _PATIENCE_S) -> Answer:
    """Wait for the answer to a call.

    Raises:
        TimeoutError: That took longer than *within_s* seconds.
    """
    return call.result(within_s)


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 40) -> None:
    """Wait until *condition* is true, and return at once when it is.

    Raises:
        TimeoutError: That took longer than *timeout_s* seconds.
    """
    ends_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_at:
            raise TimeoutError
        time.sleep(0.001)


def states(folder: Path, request: dict[str, str]) -> list[str]:
    """Return the states of a request's rows in the ledger, oldest first."""
    path = folder / "ledger.sqlite3"
    summary = f"index {request['index']} of task {request['origin_task_id']}"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT state FROM submissions WHERE summary = ? ORDER BY id", (summary,)).fetchall()
    except sqlite3.OperationalError:  # there is no ledger yet
        return []
    return [state for (state,) in rows]


@dataclass(frozen=True)
class Outcome:
    """What one kill or stop led to."""

    bought_at: tuple[float, ...]
    """When PiAPI accepted tasks, in Unix seconds; more than one is a double purchase."""
    answers: tuple[Answer, ...]
    """What the agents got; the last is the one that asked last."""
    is_lost: bool
    """Whether a bought task's id is neither in an answer nor in `list_tasks`."""

    @property
    def bought(self) -> int:
        """How many tasks PiAPI has in the end."""
        return len(self.bought_at)

    @property
    def told(self) -> tuple[str, ...]:
        """What the agents were told, in a few words."""
        return tuple(answer.summary for answer in self.answers)

    @property
    def is_untrue(self) -> bool:
        """Whether an agent was told that nothing was bought although a task existed then."""
        return any(
            answer.summary == "nothing was bought" and bought_at < answer.received_at
            for answer in self.answers
            for bought_at in self.bought_at
        )

    @property
    def is_good(self) -> bool:
        """Whether nothing was bought twice, lost or denied."""
        is_clear = not any(told.startswith("unclear") for told in self.told)
        return self.bought <= 1 and not self.is_lost and not self.is_untrue and is_clear


def outcome(sandbox: SandboxControl, answers: Sequence[Answer], witness: ServerProcess) -> Outcome:
    """Return what a kill or stop led to, given all answers and a server that still runs."""
    ids = [task["task_id"] for task in sandbox.tasks()]
    listed = witness.list_tasks()
    known = " ".join(answer.text for answer in answers)
    is_lost = not all(task_id in known or task_id in listed for task_id in ids)
    return Outcome(tuple(_bought_at(task_id, listed) for task_id in ids), tuple(answers), is_lost=is_lost)


def _bought_at(task_id: str, listed: str) -> float:
    """Return when a task was accepted, by what `list_tasks` answered; 0 where that does not say."""
    tasks = json.loads(listed).get("tasks", ()) if listed.startswith("{") else ()
    times = [task["created_at"] for task in tasks if task.get("task_id") == task_id and task.get("created_at")]
    return datetime.fromisoformat(times[0]).timestamp() if times else 0.0


def summary(mode: Mode, outcomes: list[Outcome]) -> str:
    """Return the counts of *outcomes* in one line."""
    told = ", ".join(
        f"{count} x {' + '.join(told)}" for told, count in sorted(Counter(found.told for found in outcomes).items())
    )
    doubled = sum(found.bought > 1 for found in outcomes)
    lost = sum(found.is_lost for found in outcomes)
    untrue = sum(found.is_untrue for found in outcomes)
    return f"{mode}: {len(outcomes)} times, {doubled} doubled, {lost} lost, {untrue} untrue; answers: {told}"


def kill_at_random(sandbox: SandboxControl, base_url: str, folder: Path, *, latest_s: float) -> list[Outcome]:
    """Kill a server at a random moment of a submission, then send the same call to a new server; once."""
    _reset(sandbox)
    with ServerProcess(base_url, folder) as server:
        server.submit(REQUESTS[0])
        time.sleep(_random_s(latest_s))
        server.kill()
    with ServerProcess(base_url, folder) as server:
        return [outcome(sandbox, [answer_of(server.submit(REQUESTS[0]))], server)]


def stop_at_random(
    sandbox: SandboxControl, base_url: str, folder: Path, *, latest_s: float, times: int, with_clocks: bool = False
) -> list[Outcome]:
    """Stop a server at a random moment, send the same call to a second one, resume the first; for up to 12 requests.

    Args:
        sandbox: Control of the sandbox.
        base_url: Address of the sandbox.
        folder: The folder of the ledger.
        latest_s: The latest moment, in seconds after the call.
        times: How many requests to do this with.
        with_clocks: Whether the clocks of both servers jump by up to an hour, before and while one is stopped.
    """
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess(base_url, folder)) for _ in range(2)]
        for request in REQUESTS[:times]:
            _reset(sandbox)
            first, second = random.sample(servers, 2)
            if with_clocks:
                _jump(servers)
            first_call = first.submit(request)
            time.sleep(_random_s(latest_s))
            first.stop()
            if with_clocks:
                _jump(servers)
            second_call = second.submit(request)
            # Sometimes the first goes on while the second is still working.
            if random.random() < 0.5:  # noqa: S311 -- no secret
                answer_of(second_call)
            else:
                time.sleep(_random_s(5))
            first.resume()
            outcomes.append(outcome(sandbox, [answer_of(first_call), answer_of(second_call)], second))
    return outcomes


def _reset(sandbox: SandboxControl) -> None:
    sandbox.reset(does_work=False)
    # PiAPI takes a moment before and after it accepts a task, so that kills and stops fall there too.
    sandbox.fault("create", "delay", delay_s=0.03)
    sandbox.fault("create", "delay", delay_s=0.03, when="after")


def _jump(servers: list[ServerProcess]) -> None:
    for server in servers:
        server.set_clock(random.uniform(-3600, 3600))  # noqa: S311 -- no secret


def _random_s(latest_s: float) -> float:
    return random.uniform(0, latest_s)  # noqa: S311 -- any moment
