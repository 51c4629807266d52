"""Whatever happens in whatever order, nothing is bought that nobody wanted, and nothing that was bought is lost.

Hypothesis drives services over one ledger against the sandbox: calls, repeats, kills, clock jumps, faults, late truth.
`PIAPI_TEST_EXAMPLES` sets how many runs of steps are tried.
"""

import asyncio
import contextlib
import itertools
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Generator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from piapi_mcp.errors import OutcomeUnknownError, PiAPIError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from tests.support.buying_model import (
    NAMES,
    Call,
    Interrupt,
    Killed,
    Name,
    Outcome,
    Sandbox,
    Service,
    World,
    group_of,
    mark_of,
    open_sandbox,
    request_of,
)
from tests.support.services import GRID, serve, upscale

EXAMPLES = int(os.environ.get("PIAPI_TEST_EXAMPLES", "16"))
STEPS = int(os.environ.get("PIAPI_TEST_STEPS", "12"))
KEYS = ("sandbox-x", "sandbox-x~2", "sandbox-y")
_DAY_S = 86_400.0

SEEN_REFUSALS = (
    "insufficient credits",
    "active task count 2 has reached the plan limit",
    "failed to verify api key",
    "task input too large",
    "failed to get valid image",
    "failed to get valid video",
)
OTHER_WORDS = ("insufficient workers, task queued", "api key cache", "too large", "invalid webhook_config", "busy", "")
CERTAIN_STATUSES = (400, 401, 413)
STATUSES = (200, 201, 302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504)


def envelope(code: int, words: str, data: str = "null") -> str:
    return f'{{"code": {code}, "message": "{words}", "data": {data}}}'


@st.composite
def answers(draw: st.DrawFn, *, when: str) -> dict[str, Any]:
    """Answers of a create; after PiAPI accepted a task, none that PiAPI documents or was seen to refuse with."""
    status = draw(st.sampled_from(STATUSES))
    form = draw(st.sampled_from(["empty", "page", "envelope", "other code", "with id"]))
    words = draw(st.sampled_from(SEEN_REFUSALS + OTHER_WORDS))
    if when == "after" and form == "envelope" and 400 <= status < 500 and status not in (408, 409, 425):
        words = words if words in OTHER_WORDS else "busy"
        status = 422 if status in CERTAIN_STATUSES else status
    body = {
        "empty": "",
        "page": "<html><h1>Bad gateway</h1></html>",
        "envelope": envelope(status, words),
        "other code": envelope(draw(st.sampled_from([200, 400, 500])), words),
        "with id": envelope(status, words, '{"task_id": "{task_id}"}') if when == "after" else "",
    }[form]
    if form == "other code" and when == "after" and f'"code": {status},' in body and status >= 400:
        body = ""
    if when == "before" and 200 <= status < 300 and form == "other code":
        body = ""
    return {"kind": "answer", "status": status, "body": body}


@st.composite
def create_faults(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["cut", "answer", "answer", "refusal", "midway", "fail_task", "delay"]))
    rest = {"skip": draw(st.sampled_from([0, 0, 0, 1])), "times": draw(st.sampled_from([1, 1, 2, 5]))}
    if kind == "midway":
        return {"kind": "cut", "when": "midway"} | rest
    if kind == "fail_task":
        return {"kind": "fail_task", "error": {"code": 10000, "message": "no"}} | rest
    if kind == "refusal":
        status, words = draw(st.sampled_from(CERTAIN_STATUSES)), draw(st.sampled_from(SEEN_REFUSALS + OTHER_WORDS))
        return {"kind": "answer", "status": status, "body": envelope(status, words)} | rest
    when = draw(st.sampled_from(["before", "after", "after"]))
    if kind == "delay":
        return {"kind": "delay", "delay_s": 0.05, "when": when} | rest
    if kind == "cut":
        return {"kind": "cut", "when": when} | rest
    return {"when": when} | draw(answers(when=when)) | rest


@st.composite
def read_faults(draw: st.DrawFn) -> dict[str, Any]:
    """Faults of the reads of tasks and of the history: any answer but a false task."""
    fault = draw(
        st.sampled_from(
            [
                {"kind": "cut"},
                {"kind": "cut", "when": "midway"},
                {"kind": "answer", "status": 404, "body": envelope(404, "task not found")},
                {"kind": "answer", "status": 400, "body": envelope(400, "task not found")},
                {"kind": "answer", "status": 401, "body": envelope(401, "failed to verify api key")},
                {"kind": "answer", "status": 403, "body": ""},
                {"kind": "answer", "status": 429, "body": envelope(429, "slow down")},
                {"kind": "answer", "status": 500, "body": envelope(500, "internal server error")},
                {"kind": "answer", "status": 502, "body": "<html>"},
                {"kind": "answer", "status": 200, "body": "<html>"},
                {"kind": "answer", "status": 200, "body": envelope(200, "success", "{}")},
            ]
        )
    )
    return fault | {"times": draw(st.sampled_from([1, 3, 9])), "skip": draw(st.sampled_from([0, 0, 1, 2]))}


CALLS = st.builds(
    Call,
    service=st.integers(0, 2),
    name=st.sampled_from(("mj1", "mj1", *NAMES)),
    repeat=st.sampled_from([False, False, False, True]),
    dry_run=st.sampled_from([False, False, False, False, False, True]),
)
INTERRUPTS = st.one_of(
    st.none(),
    st.builds(Interrupt, at=st.integers(1, 14), kind=st.sampled_from(["kill", "abandon"])),
    st.builds(Interrupt, at=st.integers(1, 14), kind=st.just("steady"), seconds=st.sampled_from([-50.0, 3.0, 9.0])),
    st.builds(Interrupt, at=st.integers(1, 14), kind=st.just("wall"), seconds=st.sampled_from([-4e3, -300.0, 4e3])),
)


class Buying(RuleBasedStateMachine):
    """The steps, and what must be true after each of them."""

    sandbox: Sandbox
    folder: Path
    account_faults = False
    """Whether PiAPI may fail to tell which account a key belongs to; then each key may buy."""
    stale_ids = False
    """Whether PiAPI may answer a submission with the id of an earlier task."""
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.wanted_once = set[tuple[str, Name]]()
        self.has_clock_trouble = False
        self.echo = "full"

    @initialize(
        echo=st.sampled_from(["full", "full", "none", "refused"]),
        polls=st.sampled_from([1, 2, 3]),
        frozen=st.sampled_from([None, None, 0, 10**7]),
        consumed=st.sampled_from([None, None, 0, 10**7]),
        budget=st.sampled_from([None, None, Decimal("0.025")]),
        plan_limit=st.sampled_from([100, 100, 2]),
        bare=st.booleans(),
        skew_s=st.sampled_from([0.0, 0.0, 500.0, -500.0]),
        keys=st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS), st.sampled_from(KEYS)),
    )
    def begin(
        self,
        *,
        echo: str,
        polls: int,
        frozen: int | None,
        consumed: int | None,
        budget: Decimal | None,
        plan_limit: int,
        bare: bool,
        skew_s: float,
        keys: tuple[str, ...],
    ) -> None:
        clocks = self.sandbox.clocks
        clocks.wall_ahead_s = clocks.steady_ahead_s = 0.0
        self.sandbox.control.reset(
            does_work=False,
            polls=polls,
            config_echo=echo,
            frozen_points=frozen,
            consumed_points=consumed,
            max_concurrent_tasks=plan_limit,
            bare_task_ids=bare,
            clock_offset_s=skew_s,
        )
        self.echo = echo
        self.world = World(self.sandbox, self.folder / str(next(self.numbers)), budget)
        for key in keys:
            self.world.open(key)

    # Steps -----------------------------------------------------------------------------------------------------------

    @rule(calls=st.lists(CALLS, min_size=1, max_size=3), interrupt=INTERRUPTS, settles=st.booleans())
    def submit(self, *, calls: list[Call], interrupt: Interrupt | None, settles: bool) -> None:
        world = self.here
        self.note_clock_trouble(interrupt)
        before, was_settled = world.sandbox.tasks(), world.is_settled()
        for call in calls:
            self.want(call, is_alone=was_settled and len(calls) == 1)
        world.services[calls[0].service].arm(interrupt)

        async def step() -> list[Outcome]:
            outcomes = await asyncio.gather(*(world.submit(call) for call in calls))
            if settles:
                await world.settle()
            return outcomes

        outcomes: list[Outcome] = world.run(step())
        self.check_answers(calls, outcomes)
        if was_settled and world.is_settled():
            self.check_words(calls, outcomes, before)
        self.replace_dead_services()
        self.check()

    @rule(call=CALLS, interrupt=INTERRUPTS, settles=st.booleans())
    def submit_one(self, *, call: Call, interrupt: Interrupt | None, settles: bool) -> None:
        self.submit(calls=[call], interrupt=interrupt, settles=settles)

    @rule(call=CALLS, fault=create_faults())
    def submit_with_a_fault(self, call: Call, fault: dict[str, Any]) -> None:
        self.sandbox.control.fault("create", **fault)
        self.submit(calls=[call], interrupt=None, settles=True)

    @rule(call=CALLS, interrupt=INTERRUPTS)
    def submit_the_same_twice(self, call: Call, interrupt: Interrupt | None) -> None:
        self.submit(calls=[call], interrupt=interrupt, settles=False)
        self.submit(calls=[call], interrupt=None, settles=True)

    @rule(service=st.integers(0, 2), which=st.integers(0, 99), kind=st.sampled_from(["cancel", "get"]))
    def cancel_or_get(self, service: int, which: int, kind: str) -> None:
        world = self.here
        if not world.told:
            return
        task_id = list(world.told)[which % len(world.told)]
        asked = world.services[service]
        work = asked.service.cancel(task_id) if kind == "cancel" else asked.service.get(task_id)
        result = self.free_call(asked, work)
        if not isinstance(result, BaseException):
            assert world.told[task_id] == asked.account, f"{asked.account} was shown a task of another account"

    @rule(service=st.integers(0, 2), interrupt=INTERRUPTS)
    def list_tasks(self, service: int, interrupt: Interrupt | None) -> None:
        self.note_clock_trouble(interrupt)
        asked = self.here.services[service]
        asked.arm(interrupt)
        listed = self.free_call(asked, asked.service.list_tasks(limit=50))
        if not isinstance(listed, BaseException):
            self.check_listed(asked, listed)

    @rule(service=st.integers(0, 2), key=st.sampled_from(KEYS))
    def kill(self, service: int, key: str) -> None:
        self.here.services[service].kill()
        self.replace_dead_services(key)

    @rule()
    def settle(self) -> None:
        self.here.run(self.here.settle())
        self.check()

    @rule(fault=create_faults())
    def let_create_fail(self, fault: dict[str, Any]) -> None:
        self.sandbox.control.fault("create", **fault)

    @rule(route=st.sampled_from(["read", "history"]), fault=read_faults())
    def let_reads_fail(self, route: Any, fault: dict[str, Any]) -> None:
        self.sandbox.control.fault(route, **fault)

    @precondition(lambda self: self.account_faults)
    @rule(times=st.sampled_from([3, 99]))
    def let_account_fail(self, times: int) -> None:
        self.sandbox.control.fault("account", "answer", status=502, times=times)

    @precondition(lambda self: self.stale_ids)
    @rule(which=st.integers(0, 9), when=st.sampled_from(["before", "after"]))
    def let_create_answer_an_earlier_id(self, which: int, when: str) -> None:
        if not (ids := list(self.sandbox.tasks())):
            return
        body = envelope(200, "success", f'{{"task_id": "{ids[which % len(ids)]}"}}')
        self.sandbox.control.fault("create", "answer", status=200, body=body, when=when)

    @rule(which=st.integers(0, 9))
    def let_a_task_be_unreadable(self, which: int) -> None:
        ids = list(self.sandbox.tasks()) or [GRID]
        self.sandbox.control.set(unreadable_tasks=[ids[which % len(ids)]])

    @rule()
    def lift_faults(self) -> None:
        self.sandbox.control.clear_faults()
        self.sandbox.control.set(history_lag=0, reads_until_visible=0, unreadable_tasks=[])

    @rule(
        change=st.sampled_from(
            [
                {"history_lag": 99},
                {"history_lag": 1},
                {"history_lag": 0},
                {"reads_until_visible": 2},
                {"input_echo": "none"},
                {"input_echo": "full"},
                {"camel_case_history": True},
                {"capitalised": True},
            ]
        )
    )
    def change_piapi(self, change: dict[str, Any]) -> None:
        self.sandbox.control.set(**change)

    @rule(points=st.sampled_from([None, 0, 1, 10**7]))
    def lie_about_frozen(self, points: int | None) -> None:
        self.sandbox.control.set(frozen_points=points)

    @rule(seconds=st.sampled_from([1.0, 3.0, 40.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.sandbox.clocks.now_s += seconds

    @rule(
        clock=st.sampled_from(["wall", "steady"]), seconds=st.sampled_from([-4000.0, -100.0, -5.0, 5.0, 100.0, 4000.0])
    )
    def let_a_clock_jump(self, clock: Any, seconds: float) -> None:
        self.note_clock_trouble(Interrupt(1, clock, seconds))
        if clock == "wall":
            self.sandbox.clocks.wall_ahead_s += seconds
        else:
            self.sandbox.clocks.steady_ahead_s += seconds

    @rule()
    def let_a_day_pass(self) -> None:
        """What has completed may be bought again."""
        self.sandbox.clocks.now_s += 2 * _DAY_S
        for wanted in self.here.wanted:
            self.here.wanted[wanted] += 1
        self.has_clock_trouble = True

    # What must be true -----------------------------------------------------------------------------------------------

    @property
    def here(self) -> World:
        assert self.world is not None
        return self.world

    def note_clock_trouble(self, interrupt: Interrupt | None) -> None:
        if interrupt and interrupt.kind == "wall":
            self.has_clock_trouble = True

    def want(self, call: Call, *, is_alone: bool) -> None:
        """Count what a call allows; of calls at the same time, one without `allow_repeat` may come first and buy."""
        if call.dry_run:
            return
        service = self.here.services[call.service]
        wanted = (service.key if self.account_faults else service.account, call.name)
        if call.repeat:
            self.here.wanted[wanted] += 1
        elif not self.here.wanted[wanted] or (not is_alone and wanted not in self.wanted_once):
            self.here.wanted[wanted] += 1
            self.wanted_once.add(wanted)

    def free_call(self, service: Service, work: Any) -> Any:
        """Make a call that buys nothing; return its result or its exception."""
        before, was_settled = set(self.sandbox.tasks()), self.here.is_settled()
        result = self.here.run(self.here.call(service, work))
        if was_settled:
            assert set(self.sandbox.tasks()) == before, "a free call bought a task"
        if isinstance(result, BaseException):
            assert isinstance(result, PiAPIError | Killed | asyncio.CancelledError), repr(result)
        self.replace_dead_services()
        return result

    def check_listed(self, asked: Service, listed: Any) -> None:
        tasks = self.sandbox.tasks()
        for line in listed.tasks:
            task = tasks.get(line.task_id or "")
            assert task is None or task.owner == asked.account, "the task of another account is listed"

    def replace_dead_services(self, key: str | None = None) -> None:
        world = self.here
        for number, service in enumerate(world.services[:3]):
            if service.is_dead:
                world.services.append(service)  # to be disposed of
                world.services[number] = Service(world, key or service.key)

    def check_answers(self, calls: list[Call], outcomes: list[Outcome]) -> None:
        """Check that every answered id is the caller's own, and is answered as bought now once."""
        tasks, world = self.sandbox.tasks(), self.here
        for call, outcome in zip(calls, outcomes, strict=True):
            if outcome.task_id is None:
                continue
            account = world.services[call.service].account
            task = tasks.get(outcome.task_id)
            assert task is not None, f"{outcome} is not a task of PiAPI's"
            assert task.owner == account, f"{outcome} belongs to {task.owner}, not to {account}"
            assert request_of(task) == group_of(call.name), f"{outcome} is another request's: {request_of(task)}"
            if outcome.kind == "bought":
                assert outcome.task_id not in world.bought, f"{outcome}: the id of another submission"
                world.bought.add(outcome.task_id)
            world.told[outcome.task_id] = account

    def check_words(self, calls: list[Call], outcomes: list[Outcome], before: dict[str, Any]) -> None:
        """Check that only calls that do not deny it bought something."""
        new = Counter(
            (task.owner, request_of(task)) for name, task in self.sandbox.tasks().items() if name not in before
        )
        allowed = Counter[tuple[str, str]]()
        bought = Counter[tuple[str, str]]()
        for call, outcome in zip(calls, outcomes, strict=True):
            group = (self.here.services[call.service].account, group_of(call.name))
            allowed[group] += outcome.may_have_bought
            bought[group] += outcome.kind == "bought"
        assert new <= allowed, f"bought {new}, but the answers were {outcomes}"
        assert bought <= new, f"bought {new}, but the answers were {outcomes}"

    def check(self) -> None:
        world = self.here
        tasks = self.sandbox.tasks()
        live = Counter((task.owner, request_of(task)) for task in tasks.values() if task.status != "failed")
        wanted = Counter[tuple[str, str]]()
        for (key, name), times in world.wanted.items():
            wanted[key.partition("~")[0], group_of(name)] += times
        assert live <= wanted, f"bought {live}, wanted {wanted}"
        self.check_ledger()

    def check_ledger(self) -> None:
        tasks, rows = self.sandbox.tasks(), self.here.rows()
        owners = defaultdict[str, set[str]](set)
        ids = Counter(row["task_id"] for row in rows if row["task_id"])
        assert all(times == 1 for times in ids.values()), "two rows have the same task"
        for row in rows:
            if task := tasks.get(row["task_id"] or ""):
                owners[row["account"]].add(task.owner)
                assert (task.model, task.task_type) == (row["model"], row["task_type"])
                if self.echo == "full" and mark_of(task):
                    assert mark_of(task) == row["mark"], "a task was recorded for another submission"
        assert all(len(of_row) == 1 for of_row in owners.values()), "one account of the ledger, two of PiAPI's"
        self.check_budget(rows)

    def check_budget(self, rows: list[dict[str, Any]]) -> None:
        """Check that no submission was admitted beyond the budget; what PiAPI overcharges was not known then."""
        if self.here.budget_usd is None:
            return
        spent = defaultdict[tuple[str, str], Decimal](Decimal)
        for row in rows:
            if row["state"] == "refused":
                continue
            day = datetime.fromtimestamp(row["created_at"], UTC).date().isoformat()
            quoted = Decimal(row["quoted_usd"])
            charged = quoted if row["charged_usd"] is None else Decimal(row["charged_usd"])
            spent[row["account"], day] += min(quoted, charged)
        assert all(usd <= self.here.budget_usd for usd in spent.values()), f"spent {dict(spent)}"

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            if sys.exc_info()[0] is None:  # else a step has failed
                self.check_the_end()
        finally:
            self.world.close()

    def check_the_end(self) -> None:
        """Check that, with all faults lifted, everything is found again or said to be unknown."""
        world = self.here
        self.sandbox.control.clear_faults()
        self.sandbox.control.set(
            history_lag=0, reads_until_visible=0, unreadable_tasks=[], input_echo="full", max_concurrent_tasks=100
        )
        world.run(world.settle())
        self.check()
        self.sandbox.clocks.now_s += 60
        self.sandbox.clocks.wall_ahead_s = 0
        numbers = {key: world.open(key) for key in KEYS}
        shown = set(world.told)
        for number in numbers.values():
            service = world.services[number]
            for _ in range(3):  # each recovers some
                listed = self.free_call(service, service.service.list_tasks(limit=100))
                assert not isinstance(listed, BaseException), repr(listed)
                self.check_listed(service, listed)
                shown |= {line.task_id for line in listed.tasks if line.task_id}
        assert set(self.sandbox.tasks()) <= shown, "a task was lost"
        self.check_recovered()
        for key, name in list(world.wanted):
            call = Call(numbers[key], name)
            self.submit(calls=[call], interrupt=None, settles=True)
            self.submit(calls=[call], interrupt=None, settles=True)

    def check_recovered(self) -> None:
        """Check that PiAPI's echo of the marks brings everything back, unless a clock jumped."""
        if self.echo != "full" or self.has_clock_trouble:
            return
        recorded = {row["task_id"] for row in self.here.rows()}
        lost = [task_id for task_id, task in self.sandbox.tasks().items() if task_id not in recorded and mark_of(task)]
        assert not lost, f"not recorded: {lost}"


def run_model(folder: Path, *, examples: int, account_faults: bool = False, stale_ids: bool = False) -> None:
    """Try *examples* runs of steps."""
    with open_sandbox() as sandbox:
        facts = {"sandbox": sandbox, "folder": folder, "account_faults": account_faults, "stale_ids": stale_ids}
        run_state_machine_as_test(
            type("Buying", (Buying,), facts),
            settings=hypothesis_settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize="PIAPI_TEST_EXAMPLES" not in os.environ,
                database=None,
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                print_blob=False,
            ),
        )


def test_whatever_happens_nothing_is_bought_twice_or_lost(tmp_path: Path) -> None:
    run_model(tmp_path, examples=EXAMPLES)


def test_whatever_happens_while_piapi_does_not_tell_the_account(tmp_path: Path) -> None:
    run_model(tmp_path, examples=EXAMPLES // 2, account_faults=True)


def test_whatever_happens_when_piapi_answers_with_an_earlier_id(tmp_path: Path) -> None:
    run_model(tmp_path, examples=EXAMPLES // 2, stale_ids=True)


# What the model found, each as the shortest way to it


@pytest.mark.parametrize("opens_ledger_early", [True, False])
async def test_an_account_that_another_service_identified_is_known_to_all(
    settings: Settings, sandbox: SandboxControl, *, opens_ledger_early: bool
) -> None:
    """Where PiAPI's id of the account is known in the ledger, no service of the same key may go by the key."""
    async with serve(settings) as one, serve(settings) as other:
        if opens_ledger_early:
            await one.list_tasks(limit=10)
            await upscale(other, "1")
        else:
            sandbox.fault("account", "answer", status=502, times=3)
            await upscale(one, "1")
            await upscale(other, "2")  # identifies the account; the first row becomes the account's
        bought = len(sandbox.tasks())
        sandbox.fault("account", "answer", status=502, times=99)
        again = await upscale(one, "1")
    assert (again.bought_now, len(sandbox.tasks())) == (False, bought)


@pytest.mark.parametrize("earlier_key", ["sandbox-s3cr3t-key", "sandbox-another-account"])
async def test_the_id_of_an_earlier_task_is_not_told_as_a_new_one(
    settings: Settings, sandbox: SandboxControl, earlier_key: str
) -> None:
    async with serve(settings) as service, serve(settings, key=earlier_key) as earlier:
        before = await upscale(earlier, "1")
        body = envelope(200, "success", f'{{"task_id": "{before.task_id}"}}')
        sandbox.fault("create", "answer", status=200, body=body, when="after")
        with contextlib.suppress(OutcomeUnknownError):
            task = await upscale(service, "2")
            assert task.task_id == sandbox.tasks()[-1]["task_id"]


@pytest.mark.parametrize("key", ["sandbox-s3cr3t-key", "sandbox-s3cr3t-key~new"])
async def test_a_service_that_has_only_listed_shows_what_another_left_unknown(
    settings: Settings, sandbox: SandboxControl, key: str
) -> None:
    """The next step after an unknown outcome is list_tasks, perhaps with a new key or in an older server."""
    async with serve(settings) as service, serve(settings, key=key) as other:
        await other.list_tasks(limit=50)
        sandbox.fault("create", "cut")
        with pytest.raises(OutcomeUnknownError):
            await upscale(service, "1")
        listed = await other.list_tasks(limit=50)
    assert [line.status for line in listed.tasks].count("unknown") == 1


@pytest.mark.parametrize("jump_s", [600.0, -600.0])
def test_a_marked_task_is_found_although_the_clock_was_set_since(tmp_path: Path, jump_s: float) -> None:
    """The mark proves the task; the time of the submission was written by the clock as it was then."""
    with _opened(tmp_path) as world:
        world.sandbox.control.set(history_lag=9)
        world.sandbox.control.fault("create", "cut", when="after")
        assert world.run(world.submit(Call(0, "mj1"))).kind == "unknown"
        world.sandbox.control.set(history_lag=0)
        world.sandbox.clocks.wall_ahead_s = jump_s
        assert world.run(world.submit(Call(0, "mj1"))).kind == "replay"


def test_a_task_that_another_service_recorded_is_not_called_unrecorded(tmp_path: Path) -> None:
    """A reply so late that another service has recovered the task meanwhile, as after SIGSTOP and SIGCONT."""
    with _opened(tmp_path) as world:
        world.open("sandbox-x")
        world.sandbox.control.fault("create", "delay", when="after", delay_s=0.6)

        async def both() -> tuple[Outcome, Outcome]:
            late = asyncio.create_task(world.submit(Call(0, "mj1")))
            await asyncio.to_thread(world.sandbox.control.wait_for, "create")
            world.sandbox.clocks.now_s += 3  # the lease expires
            other = await world.submit(Call(1, "mj1"))
            return await late, other

        late, other = world.run(both())
        assert late.task_id == other.task_id == world.rows()[0]["task_id"]
        assert "could not be written to the ledger" not in late.text


@contextlib.contextmanager
def _opened(folder: Path) -> Generator[World]:
    """Open a world with one service."""
    with open_sandbox() as sandbox:
        sandbox.control.reset(does_work=False, polls=3)
        world = World(sandbox, folder)
        world.open("sandbox-x")
        try:
            yield world
        finally:
            world.close()
