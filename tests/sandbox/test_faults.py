"""Ours: a client sees every injected fault on a real connection."""

from collections.abc import Callable

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.sandbox.state import Route

GRID = Sample("6", is_grid=True)
BODY = {"model": "midjourney", "task_type": "upscale", "input": {"origin_task_id": GRID.task_id, "index": "3"}}
UPLOAD = {"file_name": "a.bin", "file_data": "aaaa"}

CALLS: dict[Route, Callable[[httpx.Client], httpx.Response]] = {
    "create": lambda http: http.post("/api/v1/task", json=BODY),
    "read": lambda http: http.get(f"/api/v1/task/{GRID.task_id}"),
    "cancel": lambda http: http.delete(f"/api/v1/task/{GRID.task_id}"),
    "account": lambda http: http.get("/account/info"),
    "history": lambda http: http.get("/api/open/tasks/histories"),
    "upload": lambda http: http.post("/api/ephemeral_resource", json=UPLOAD),
    "result": lambda http: http.get(f"/results/{GRID.file_name}"),
}


@pytest.mark.parametrize("route", CALLS)
def test_an_injected_answer_replaces_one_reply_of_any_route(
    http: httpx.Client, sandbox: SandboxControl, route: Route
) -> None:
    sandbox.fault(route, "answer", status=502, body="<html>bad gateway</html>", headers={"content-type": "text/html"})
    first, second = CALLS[route](http), CALLS[route](http)
    assert (first.status_code, first.text) == (502, "<html>bad gateway</html>")
    assert second.status_code != 502


def test_an_answer_after_a_submission_can_contain_the_id_of_the_task(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    sandbox.fault("create", "answer", when="after", status=200, body='{"task_id": "{task_id}", "n": 1e999} {task_id}')
    reply = CALLS["create"](http)
    (task,) = sandbox.tasks()
    assert reply.text == f'{{"task_id": "{task["task_id"]}", "n": 1e999}} {task["task_id"]}'


def test_an_answer_without_a_created_task_keeps_the_placeholder(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(balance_points=0)
    sandbox.fault("create", "answer", when="after", body="{task_id}")
    sandbox.fault("read", "answer", body="{task_id}")
    assert [CALLS["create"](http).text, CALLS["read"](http).text] == ["{task_id}"] * 2


@pytest.mark.parametrize("size_bytes", [0, 1, 7, 2**20 + 1])
@pytest.mark.parametrize("body", ["x", "żółw", "y" * 300_000], ids=["one-byte", "multi-byte", "long"])
def test_a_stream_repeats_its_body_up_to_the_length_that_was_asked_for(
    http: httpx.Client, sandbox: SandboxControl, size_bytes: int, body: str
) -> None:
    sandbox.fault("read", "stream", status=200, body=body, bytes=size_bytes, headers={"content-type": "text/x"})
    reply = CALLS["read"](http)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/x")
    encoded = body.encode()
    assert reply.content == (encoded * (size_bytes // len(encoded) + 1))[:size_bytes]


def test_a_stream_can_follow_a_submission_and_does_not_stop_the_sandbox(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    body = '{"task_id": "{task_id}"}'
    sandbox.fault("create", "stream", when="after", status=200, body=body, bytes=500 * 2**20)
    with http.stream("POST", "/api/v1/task", json=BODY) as reply:
        start = next(reply.iter_text(64))
    (task,) = sandbox.tasks()
    assert start.startswith(body.replace("{task_id}", task["task_id"]))
    assert http.get("/account/info").status_code == 200


@pytest.mark.parametrize("when", ["before", "after", "midway"])
@pytest.mark.parametrize("route", CALLS)
def test_an_injected_cut_closes_one_connection_of_any_route(
    http: httpx.Client, sandbox: SandboxControl, route: Route, when: str
) -> None:
    sandbox.fault(route, "cut", when=when)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        CALLS[route](http)
    assert CALLS[route](http).status_code < 500


def test_a_cut_midway_delivers_the_headers_and_part_of_the_body(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.fault("result", "cut", when="midway")
    with http.stream("GET", f"/results/{GRID.file_name}") as reply:
        with pytest.raises(httpx.RemoteProtocolError):
            reply.read()
        assert reply.status_code == 200
        assert 0 < reply.num_bytes_downloaded < int(reply.headers["content-length"])


@pytest.mark.parametrize(("when", "created"), [("before", 0), ("after", 1)])
def test_an_injected_answer_hides_whether_the_task_was_created(
    http: httpx.Client, sandbox: SandboxControl, when: str, created: int
) -> None:
    sandbox.fault("create", "answer", when=when, status=500)
    assert CALLS["create"](http).status_code == 500
    assert len(sandbox.tasks()) == created
    spent = 100_000_000 - http.get("/account/info").json()["data"]["wallet"]["point_remain"]
    assert spent == 100_000 * created


def test_null_outputs_hides_the_result_of_a_completed_task(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(null_outputs=True)
    task = CALLS["read"](http).json()["data"]
    assert (task["status"], task["output"]) == ("completed", None)


def test_the_log_describes_every_request_but_never_its_key(
    http: httpx.Client, base_url: str, sandbox: SandboxControl
) -> None:
    submission = CALLS["create"](http).request
    httpx.get(f"{base_url}/results/{GRID.file_name}", trust_env=False)  # without a key
    create, result = sandbox.requests()
    size = len(submission.content)
    assert create == {
        "route": "create",
        "method": "POST",
        "path": "/api/v1/task",
        "has_key": True,
        "content_length": size,
        "is_chunked": False,
        "body_bytes": size,
    }
    assert (result["route"], result["has_key"]) == ("result", False)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/_sandbox/settings", {"mood": 1}),
        ("/_sandbox/reset", {"mood": 1}),
        ("/_sandbox/faults", {"route": "create", "tune": 1}),
        ("/_sandbox/faults", {"route": "create", "kind": "stream", "bytes": 1}),
    ],
)
def test_an_unknown_setting_or_fault_field_is_refused(http: httpx.Client, path: str, body: dict[str, object]) -> None:
    assert http.post(path, json=body).status_code == 400
