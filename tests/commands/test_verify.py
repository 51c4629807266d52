"""`piapi-mcp verify` against the sandbox, and against a sandbox whose facts are altered."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from piapi_mcp.cli import main
from piapi_mcp.commands import verify_purchases
from piapi_mcp.commands.verify import verify
from piapi_mcp.commands.verify_beliefs import BELIEFS, NEVER_TESTED
from piapi_mcp.errors import SettingsError, UnauthorizedError, UnreachableError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import GRID_ACTIONS, Sample
from piapi_mcp.settings import Settings

FACTS = (Path(__file__).parents[2] / "docs/piapi-facts.md").read_text()
SPEND_USD = Decimal("0.01")
MARK = UUID(int=7)
SAMPLE_ID = Sample("6", is_grid=True).task_id

# Which read and which submission a run makes, in this order.
READ_OLDEST, READ_MIDJOURNEY, READ_UNKNOWN, READ_NEW_IMAGE, READ_DONE_IMAGE = range(5)
FALSE_KEY, NO_IMAGE, UNKNOWN_FIELD, SCALE_3, BAD_BASE64, MIDJOURNEY, IMAGE = range(7)
FREE_SUBMISSIONS = 6

Alter = Callable[[SandboxControl, str], None]


@pytest.fixture(autouse=True)
def working_sandbox(sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox really upscale, end a task at its second read, and make the mark known to the tests."""
    sandbox.set(polls=2, does_work=True)
    monkeypatch.setattr(verify_purchases, "uuid4", lambda: MARK)


class Run:
    """One run, and what it printed."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str], spend_usd: Decimal = SPEND_USD) -> None:
        self.status = verify(settings, spend_usd=spend_usd, as_json=True, sleep=lambda _seconds: None)
        self.text = capsys.readouterr().out
        self.report: dict[str, Any] = json.loads(self.text)

    def beliefs(self, status: str) -> set[str]:
        return {belief["id"] for belief in self.report["beliefs"] if belief["status"] == status}

    def detail(self, belief: str) -> str:
        return next(found["detail"] for found in self.report["beliefs"] if found["id"] == belief)

    @property
    def notes(self) -> str:
        return " ".join(self.report["notes"])


def task(*, points: int = 6400, **changes: Any) -> dict[str, Any]:
    """Return an image upscale as the sandbox would show it right after its purchase, with *changes*."""
    time = "2026-11-01T10:00:00.123456789+08:00"
    return {
        "task_id": SAMPLE_ID,
        "model": "Qubico/image-toolkit",
        "task_type": "upscale",
        "status": "pending",
        "config": {"webhook_config": {"endpoint": "", "secret": f"piapi-mcp-{MARK.hex}"}},
        "input": {"image": "<file>", "scale": 2, "face_enhance": False},
        "output": None,
        "meta": {
            "created_at": time,
            "started_at": "0001-01-01T00:00:00Z",
            "ended_at": "0001-01-01T00:00:00Z",
            "usage": {"type": "point", "frozen": points, "consume": points},
        },
        "logs": None,
        "error": {"code": 0, "raw_message": "", "message": "", "detail": None},
    } | changes


def midjourney_task(**changes: Any) -> dict[str, Any]:
    output: dict[str, Any] = {
        "image_url": "",
        "image_urls": None,
        "temporary_image_urls": None,
        "actions": [],
        "progress": 100,
    }
    return task(status="completed", output=output | {"actions": list(GRID_ACTIONS)} | changes)


def account(**changes: Any) -> dict[str, Any]:
    return {
        "account_id": "1",
        "name": "sandbox",
        "plan": "creator",
        "equivalent_in_usd": 10,
        "wallet": {"point_remain": 100_000_000, "point_frozen": 0},
        "credit_pack_info": {},
        "max_concurrent_task_count": 5,
    } | changes


def history(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(rows), "page": 1, "size": 10, "total": len(rows)}


def row(day: int, **changes: Any) -> dict[str, Any]:
    known = {"task_id": SAMPLE_ID, "task_model": "mj", "status": "completed", "created_at": f"2026-11-0{day}T10:00:00Z"}
    return known | changes


def answer(route: Any, skip: int, data: Any, *, status: int = 200, **details: Any) -> Alter:
    """Replace the data of one reply; the request takes effect all the same."""
    body = json.dumps({"code": status, "data": data, "message": "success"})
    return replace(route, skip, status, body, **{"when": "after"} | details)


def refuse(route: Any, skip: int, status: int, **body: Any) -> Alter:
    """Refuse one request; it does not take effect."""
    return replace(route, skip, status, json.dumps({"code": status, "message": "no"} | body))


def replace(route: Any, skip: int, status: int, body: str, **details: Any) -> Alter:
    return lambda sandbox, _: sandbox.fault(route, "answer", skip=skip, status=status, body=body, **details)


def change(**changed: Any) -> Alter:
    return lambda sandbox, _: sandbox.set(**changed)


def fail_image(sandbox: SandboxControl, _base_url: str) -> None:
    sandbox.fault("create", "fail_task", skip=IMAGE, error={"code": 10000, "message": "no worker"})


def return_another_size(sandbox: SandboxControl, base_url: str) -> None:
    done = task(status="completed", output={"image_url": f"{base_url}/results/sample-grid-v6.png"})
    answer("read", READ_DONE_IMAGE, done)(sandbox, base_url)


def show_task_bare(**changes: Any) -> Alter:
    """Answer a purchase with the task id alone, so that the first read shows its price."""

    def alter(sandbox: SandboxControl, base_url: str) -> None:
        sandbox.set(bare_task_ids=True)
        answer("read", READ_NEW_IMAGE, task(**changes))(sandbox, base_url)

    return alter


FREE_ALTERATIONS: dict[str, tuple[Alter, set[str]]] = {
    "midjourney-gone": (
        refuse("create", MIDJOURNEY, 410),
        {"service.midjourney_refusal", "create.failures"},
    ),
    "account-without-plan": (
        answer("account", 0, {"account_id": "1", "name": "sandbox", "wallet": {}}),
        {"account.info"},
    ),
    "account-without-id": (change(shows_account_id=False), {"account.id"}),
    "other-points": (answer("account", 0, account(equivalent_in_usd=20)), {"money.points"}),
    "rate-limit-header": (
        answer("account", 0, account(), headers={"x-ratelimit-remaining": "9"}),
        {"poll.limits"},
    ),
    "odd-date": (answer("account", 0, account(), headers={"date": "yesterday"}), {"service.date"}),
    "unknown-task-400": (refuse("read", READ_UNKNOWN, 400), {"read.unknown_task"}),
    "code-that-differs": (refuse("read", READ_UNKNOWN, 404, code=200), {"create.code"}),
    "false-key-403": (refuse("create", FALSE_KEY, 403, message="failed to verify api key"), {"create.bad_key"}),
    "false-key-other-words": (refuse("create", FALSE_KEY, 401), {"create.bad_key"}),
    "no-image-422": (refuse("create", NO_IMAGE, 422), {"create.failures"}),
    "no-image-accepted": (answer("create", NO_IMAGE, {"task_id": SAMPLE_ID}), {"create.failures"}),
    "no-words": (refuse("create", UNKNOWN_FIELD, 400, message=None), {"create.refusal_place"}),
    "bad-base64-other-words": (refuse("create", BAD_BASE64, 400), {"create.bad_media"}),
    "no-route": (
        replace("create", SCALE_3, 404, "404 page not found"),
        {"create.route", "create.failures", "create.refusal_place"},
    ),
    "old-task-gone": (refuse("read", READ_OLDEST, 404), {"read.lifetime", "read.route"}),
    "other-times": (
        answer("read", READ_OLDEST, task(meta={"created_at": 1, "started_at": 1, "ended_at": 1})),
        {"read.times"},
    ),
    "logs-are-objects": (answer("read", READ_OLDEST, task(logs=[{"text": "a"}])), {"read.logs"}),
    "error-is-text": (answer("read", READ_OLDEST, task(error="none")), {"read.error"}),
    "midjourney-output": (answer("read", READ_MIDJOURNEY, task(output={"url": ""})), {"read.midjourney_output"}),
    "midjourney-actions": (
        answer("read", READ_MIDJOURNEY, midjourney_task(actions=["upscale_max"])),
        {"midjourney.action_names"},
    ),
    "history-with-output": (answer("history", 0, history(row(1, output={"video_url": "a"}))), {"history.output"}),
    "oldest-first": (answer("history", 0, history(row(1), row(2))), {"history.order"}),
    "task-ids-are-numbers": (answer("history", 0, history(row(2, task_id=123456), row(1))), {"create.task_id"}),
    "pages-repeat": (answer("history", 1, history(row(1, task_id=SAMPLE_ID))), {"history.route"}),
    "end-time-ignored": (answer("history", 2, history(row(1))), {"history.route"}),
    "model-ignored": (answer("history", 3, history(row(1, task_model="kling"))), {"history.route"}),
}
"""What the free checks notice: how the sandbox is altered, and which beliefs that contradicts."""

PAID_ALTERATIONS: dict[str, tuple[Alter, set[str]]] = {
    "capitalised": (change(capitalised=True), {"read.status"}),
    "bare-task-ids": (change(bare_task_ids=True), {"create.envelope"}),
    "camel-case-history": (change(camel_case_history=True), {"history.spelling"}),
    "null-outputs": (
        change(null_outputs=True),
        {"read.image_output", "read.video_output", "read.midjourney_output"},
    ),
    "midjourney-withdrawn": (change(midjourney_withdrawn=True), {"service.midjourney_refusal"}),
    "other-charge": (
        answer("account", 2, account(wallet={"point_remain": 99_000_000, "point_frozen": 0})),
        {"money.truth"},
    ),
    "mark-refused": (refuse("create", IMAGE, 400), {"service.mark"}),
    "mark-not-echoed": (answer("read", READ_NEW_IMAGE, task(config={})), {"service.mark", "read.secret"}),
    "input-not-echoed": (answer("read", READ_NEW_IMAGE, task(input={})), {"read.echo"}),
    "nothing-frozen": (show_task_bare(points=0), {"create.envelope", "money.frozen"}),
    "other-image-price": (show_task_bare(points=4800), {"create.envelope", "image.price"}),
    "price-by-input": (show_task_bare(points=1600), {"create.envelope", "image.price_basis"}),
    "image-fails": (fail_image, {"service.toolkits"}),
    "result-is-a-page": (replace("result", 0, 200, "<html>"), {"storage.link"}),
    "result-needs-a-key": (replace("result", 0, 403, ""), {"storage.link"}),
    "result-of-another-size": (return_another_size, {"image.scale"}),
    "cancel-refused": (refuse("cancel", 0, 400), {"cancel.route"}),
    "new-task-not-listed": (
        replace("history", 4, 200, json.dumps({"code": 200, "data": history(row(1))}), times=3),
        {"history.order"},
    ),
}
"""What is altered in a run with purchases."""


def test_the_ids_are_those_of_the_page() -> None:
    page = {
        heading: re.findall(r"^\| `(\w+\.\w+)` \|", section, re.MULTILINE)
        for heading, section in re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", FACTS, re.MULTILINE)
    }
    beliefs = {heading: sorted(ids) for heading, ids in page.items() if ids}
    assert {heading: sorted(reasons) for heading, reasons in BELIEFS.items()} == beliefs


def test_every_testable_belief_is_seen_in_the_sandbox(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(settings, capsys)
    assert run.beliefs("contradicted") == set()
    assert run.beliefs("untested") == NEVER_TESTED
    assert run.status == 0
    assert run.report["spent_usd"] == "0.00364"  # 0.64 megapixels and 10 frames; the third task was cancelled
    assert run.report["notes"] == []


@pytest.mark.parametrize("name", FREE_ALTERATIONS | PAID_ALTERATIONS)
def test_an_altered_fact_is_contradicted_and_no_other(
    settings: Settings, sandbox: SandboxControl, base_url: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    alter, contradicted = (FREE_ALTERATIONS | PAID_ALTERATIONS)[name]
    alter(sandbox, base_url)
    run = Run(settings, capsys, SPEND_USD if name in PAID_ALTERATIONS else Decimal(0))
    assert run.beliefs("contradicted") == contradicted
    assert run.status == 1


@pytest.mark.parametrize("spend", ["0", "0.001", "0.009999"])
def test_below_one_cent_nothing_is_bought(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str], spend: str
) -> None:
    run = Run(settings, capsys, Decimal(spend))
    assert sandbox.tasks() == []
    assert len(sandbox.requests("create")) == FREE_SUBMISSIONS
    assert sandbox.requests("cancel") == []
    assert run.beliefs("contradicted") == set()
    assert (run.status, run.report["spent_usd"]) == (0, "0")
    assert ("less than $0.01 may be spent" in run.notes) == (spend != "0")


def test_a_lost_answer_ends_the_run_and_names_what_may_have_been_bought(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.fault("create", "cut", when="after", skip=IMAGE)
    run = Run(settings, capsys)
    assert len(sandbox.tasks()) == 1
    assert len(sandbox.requests("create")) == FREE_SUBMISSIONS + 1
    assert "May have been bought: an image upscale, at most $0.001." in run.notes
    assert (run.status, run.report["spent_usd"], run.beliefs("contradicted")) == (1, "0.001", set())


@pytest.mark.parametrize("status", [200, 202, 302, 408, 429, 500, 502])
def test_an_answer_that_is_no_certain_refusal_ends_the_run(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    sandbox.fault("create", "answer", skip=IMAGE, status=status, body=json.dumps({"code": status, "message": "queued"}))
    run = Run(settings, capsys)
    assert len(sandbox.requests("create")) == FREE_SUBMISSIONS + 1
    assert "May have been bought: an image upscale" in run.notes
    assert run.status == 1


def test_what_was_charged_counts_against_the_limit(
    settings: Settings, sandbox: SandboxControl, base_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = task(status="completed", points=90_000, output={"image_url": f"{base_url}/results/none.png"})
    answer("read", READ_DONE_IMAGE, done)(sandbox, base_url)
    run = Run(settings, capsys)
    assert "a video upscale was not bought: it may cost $0.003, and $0.001 may be spent." in run.notes
    assert len(sandbox.tasks()) == 2
    assert "an image upscale costs $0.009, more than was expected." in run.notes
    assert run.report["spent_usd"] == "0.009"


def test_the_operators_limit_for_one_task_is_kept(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(settings.model_copy(update={"max_cost_usd": Decimal("0.002")}), capsys)
    assert {bought["model"] for bought in sandbox.tasks()} == {"Qubico/image-toolkit"}
    assert "a video upscale was not bought" in run.notes


def test_the_operators_budget_is_kept(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(settings.model_copy(update={"daily_budget_usd": Decimal("0.009")}), capsys)
    assert sandbox.tasks() == []


def test_too_little_credit_is_a_finding_and_nothing_is_bought(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.set(balance_points=0)
    run = Run(settings, capsys)
    assert sandbox.tasks() == []
    assert "create.no_credit" in run.beliefs("seen")
    assert (run.status, run.report["spent_usd"]) == (0, "0")


@pytest.mark.parametrize("as_json", [False, True])
def test_the_output_shows_nothing_private(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    assert settings.api_key is not None
    key = settings.api_key.get_secret_value()
    sandbox.fault("account", "answer", status=200, body=json.dumps({"code": 200, "data": account(name="Jane Q")}))
    words = f"{key} of Jane Q (jane@example.com) for https://cdn.example/a.png?sig=5ecre7 of {key} " + "x " * 20 + key
    for skip in (NO_IMAGE, MIDJOURNEY, IMAGE):
        refuse("create", skip, 400, message=words)(sandbox, "")
    verify(settings, spend_usd=SPEND_USD, as_json=as_json, sleep=lambda _seconds: None)
    printed = "".join(capsys.readouterr())
    assert "[redacted] of [redacted] ([address]) for [address] of [redacted]" in printed
    # The last one is the balance, in points.
    for private in (key, key[:12], "Jane", "5ecre7", "example", MARK.hex, SAMPLE_ID, "100000000"):
        assert private not in printed
    assert settings.base_url not in printed


def test_nothing_but_the_account_is_read_with_a_key_that_is_refused(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnauthorizedError, match="did not accept PIAPI_API_KEY"):
        Run(Settings.from_env({"PIAPI_API_KEY": "wrong-key", "PIAPI_BASE_URL": settings.base_url}), capsys)
    assert [request["route"] for request in sandbox.requests()] == ["account"]


def test_the_key_is_never_sent_for_a_result(
    settings: Settings, sandbox: SandboxControl, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(settings, capsys)
    assert [request["has_key"] for request in sandbox.requests("result")] == [False, False]


def test_a_service_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnreachableError):
        Run(Settings.from_env({"PIAPI_API_KEY": "k" * 9, "PIAPI_BASE_URL": "http://127.0.0.1:1"}), capsys)


def test_without_a_key_it_is_a_settings_error(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="PIAPI_API_KEY"):
        Run(settings.model_copy(update={"api_key": None}), capsys)


def test_settings_errors_have_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIAPI_API_KEY", raising=False)
    assert main(["verify"]) == 2


@pytest.mark.parametrize("spend", ["much", "-1", "nan", "inf"])
def test_an_amount_that_is_none_is_refused(spend: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["verify", f"--spend={spend}"])


def test_the_command_prints_a_line_for_each_belief(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "piapi_mcp", "verify", "--sandbox", "--spend", "0.01"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = re.findall(r"^  (seen|contradicted|untested) +(\S+) +\S", done.stdout, re.MULTILINE)
    assert [belief for _, belief in lines] == [belief for group in BELIEFS.values() for belief in group]
    assert "contradicted" not in {status for status, _ in lines}
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == "Buying an image upscale, at most $0.001."
