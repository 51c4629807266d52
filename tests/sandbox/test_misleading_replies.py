"""Ours: the sandbox can play what a misleading PiAPI would do; each setting has the effect that it names."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample

GRID_ID = Sample("6", is_grid=True).task_id
PRICE_POINTS = 100_000
SECRET_WITHOUT_ENDPOINT = {"service_mode": "public", "webhook_config": {"endpoint": "", "secret": "mark"}}


def submit(http: httpx.Client, **more: Any) -> httpx.Response:
    task_input = {"origin_task_id": GRID_ID, "index": "3"}
    return http.post("/api/v1/task", json={"model": "midjourney", "task_type": "upscale", "input": task_input, **more})


def submit_task(http: httpx.Client, **more: Any) -> dict[str, Any]:
    reply = submit(http, **more)
    assert reply.status_code == 200, reply.text
    return reply.json()["data"]


def read(http: httpx.Client, task_id: str) -> dict[str, Any]:
    return http.get(f"/api/v1/task/{task_id}").json()["data"]


def list_rows(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    return http.get("/api/open/tasks/histories", params={"page_size": 100, **query}).json()["data"]["data"]


def test_a_config_is_echoed_as_it_was_sent_with_a_secret_but_no_endpoint(http: httpx.Client) -> None:
    created = submit_task(http, config=SECRET_WITHOUT_ENDPOINT)
    completed = read(http, created["task_id"])
    assert created["config"] == completed["config"] == SECRET_WITHOUT_ENDPOINT
    assert completed["status"] == "completed"


def test_a_config_that_is_not_echoed_is_absent_from_replies(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(config_echo="none")
    created = submit_task(http, config=SECRET_WITHOUT_ENDPOINT)
    assert "config" not in created
    assert "config" not in read(http, created["task_id"])


def test_a_secret_without_an_endpoint_can_be_refused(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(config_echo="refused")
    for webhook in ({"endpoint": "", "secret": "mark"}, {"secret": "mark"}):
        reply = submit(http, config={"webhook_config": webhook})
        assert (reply.status_code, reply.json()["message"]) == (400, "invalid webhook_config")
    assert sandbox.tasks() == []
    empty = {"webhook_config": {"endpoint": "", "secret": ""}}
    assert submit_task(http, config=empty)["config"] == empty


def test_an_input_that_is_not_echoed_is_an_empty_object(http: httpx.Client, sandbox: SandboxControl) -> None:
    """PiAPI's documentation: the example on the Midjourney upscale page."""
    sandbox.set(input_echo="none")
    created = submit_task(http)
    assert created["input"] == read(http, created["task_id"])["input"] == {}


@pytest.mark.parametrize("points", [0, 10**9])
def test_a_task_reports_a_frozen_price_that_is_not_the_real_one(
    http: httpx.Client, sandbox: SandboxControl, points: int
) -> None:
    sandbox.set(frozen_points=points)
    created = submit_task(http)
    completed = read(http, created["task_id"])
    assert created["meta"]["usage"]["frozen"] == completed["meta"]["usage"]["frozen"] == points
    assert completed["meta"]["usage"]["consume"] == PRICE_POINTS
    assert http.get("/account/info").json()["data"]["wallet"]["point_remain"] == 100_000_000 - PRICE_POINTS


def test_a_completed_task_reports_a_late_refund_and_a_late_charge(http: httpx.Client, sandbox: SandboxControl) -> None:
    task_id = submit_task(http)["task_id"]
    charges = list[tuple[int, int]]()
    for points in (None, 0, 10**9):
        sandbox.set(consumed_points=points)
        consumed = read(http, task_id)["meta"]["usage"]["consume"]
        (row,) = (row for row in list_rows(http) if row["task_id"] == task_id)
        charges.append((consumed, row["usage"]))
    assert charges == [(PRICE_POINTS, PRICE_POINTS), (0, 0), (10**9, 10**9)]


def test_a_task_that_has_not_completed_reports_its_real_charge(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(consumed_points=5)
    sandbox.fault("create", "fail_task")
    task = submit_task(http)
    assert task["meta"]["usage"]["consume"] == PRICE_POINTS
    assert read(http, task["task_id"])["meta"]["usage"]["consume"] == 0


@pytest.mark.parametrize("offset", [timedelta(hours=7), timedelta(minutes=-20)], ids=["ahead", "behind"])
def test_a_clock_that_is_wrong_governs_tasks_the_history_and_every_date_header(
    http: httpx.Client, sandbox: SandboxControl, offset: timedelta
) -> None:
    sandbox.reset(polls=1, does_work=False, clock_offset_s=offset.total_seconds())
    sandbox.fault("cancel", "answer", body="")

    def is_now_by_its_clock(moment: datetime) -> bool:
        return abs(moment - offset - datetime.now(UTC)) < timedelta(minutes=1)

    task = read(http, submit_task(http)["task_id"])
    replies = [submit(http), http.get("/account/info"), http.get("/nowhere"), http.delete("/api/v1/task/x")]
    dates = [parsedate_to_datetime(value) for reply in replies for value in reply.headers.get_list("date")]
    assert [is_now_by_its_clock(date) for date in dates] == [True] * len(replies)
    for name in ("created_at", "started_at", "ended_at"):
        assert is_now_by_its_clock(datetime.fromisoformat(task["meta"][name]))
    sample = read(http, GRID_ID)["meta"]
    assert is_now_by_its_clock(datetime.fromisoformat(sample["created_at"]) + timedelta(days=1))

    its_time_s = int((datetime.now(UTC) + offset).timestamp())
    new = list_rows(http, start_time=its_time_s - 60, end_time=its_time_s + 60)
    assert task["task_id"] in {row["task_id"] for row in new}
    assert list_rows(http, start_time=its_time_s + 60) == []


def test_a_clock_that_is_set_right_leaves_earlier_times_as_they_were(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    sandbox.set(clock_offset_s=3600)
    task = submit_task(http)
    sandbox.set(clock_offset_s=0)
    meta = read(http, task["task_id"])["meta"]
    assert meta["created_at"] == task["meta"]["created_at"] > meta["ended_at"]


def test_a_fault_can_send_a_date_header_of_its_own(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.fault("account", "answer", headers={"date": "tomorrow"})
    assert http.get("/account/info").headers.get_list("date") == ["tomorrow"]


def test_the_newest_tasks_of_an_account_are_missing_from_a_history_that_lags(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    samples = [row["task_id"] for row in list_rows(http)]
    older, newer = submit_task(http)["task_id"], submit_task(http)["task_id"]
    shown = list[list[str]]()
    for lag in (0, 1, 2, 9):
        sandbox.set(history_lag=lag)
        shown.append([row["task_id"] for row in list_rows(http)])
    assert shown == [[newer, older, *samples], [older, *samples], samples, samples]
    assert read(http, newer)["task_id"] == newer


def test_the_tasks_that_were_named_cannot_be_read(http: httpx.Client, sandbox: SandboxControl) -> None:
    broken, sound = submit_task(http)["task_id"], submit_task(http)["task_id"]
    sandbox.set(unreadable_tasks=[broken])
    assert [http.get(f"/api/v1/task/{task_id}").status_code for task_id in (broken, sound)] == [500, 200]
    assert {broken, sound} < {row["task_id"] for row in list_rows(http)}
    sandbox.set(unreadable_tasks=[])
    assert read(http, broken)["task_id"] == broken


def test_a_task_is_not_found_until_it_was_read_a_number_of_times(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(reads_until_visible=2)
    task_ids = [submit_task(http)["task_id"] for _ in range(2)]
    unknown = http.get("/api/v1/task/x")
    for task_id in task_ids:
        replies = [http.get(f"/api/v1/task/{task_id}") for _ in range(4)]
        assert [reply.status_code for reply in replies] == [404, 404, 200, 200]
        assert replies[0].json() == unknown.json() == {"code": 404, "data": None, "message": "task not found"}
    assert http.get(f"/api/v1/task/{GRID_ID}").status_code == 200
