"""The tasks extension as it goes over the wire, against a server in a process of its own."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from tests.support.http_server import HttpServer, connect, post, run_server
from tests.support.messages import INITIALIZE, MODERN, TASKS, modern
from tests.support.stdio_server import UPSCALE_ARGUMENTS, exchange, start_server

UNKNOWN = "00000000-0000-4000-8000-000000000000"

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def ask(http_server: HttpServer, own_key: str) -> Ask:
    """Return a function that sends a message with a key of the test's own and returns the answer."""
    return lambda message: post_routed(http_server.url, message, x_api_key=own_key).json()


def post_routed(url: str, message: dict[str, Any], **headers: str) -> httpx.Response:
    """Post *message* with the routing headers that belong to its content."""
    params = message["params"]
    name = params.get("taskId", params.get("name"))
    routing = {"mcp_protocol_version": MODERN, "mcp_method": message["method"]} | ({"mcp_name": name} if name else {})
    return post(url, message, **(routing | headers))


def upscale(*extensions: str, **arguments: Any) -> dict[str, Any]:
    """Return a paid call of a client that declares *extensions*."""
    return modern("tools/call", *extensions, name="midjourney_upscale", arguments=UPSCALE_ARGUMENTS | arguments)


def tasks(method: str, task_id: str, **params: Any) -> dict[str, Any]:
    """Return a request of the extension about a task."""
    return modern(f"tasks/{method}", TASKS, taskId=task_id, **params)


def start_task(ask: Ask, **arguments: Any) -> str:
    """Submit a task and return its id."""
    return ask(upscale(TASKS, **arguments))["result"]["taskId"]


def test_a_paid_call_is_answered_with_a_handle_that_any_process_can_follow(
    http_server: HttpServer, own_key: str, sandbox: SandboxControl
) -> None:
    sandbox.set(polls=2)

    def ask(url: str, message: dict[str, Any]) -> dict[str, Any]:
        return post_routed(url, message, x_api_key=own_key).json()["result"]

    handle = ask(http_server.url, upscale(TASKS))
    working = ask(http_server.url, tasks("get", handle["taskId"]))
    with run_server(http_server.settings) as another:
        done = ask(another.url, tasks("get", handle["taskId"]))
        task = ask(another.url, modern("tools/call", name="get_task", arguments={"task_id": handle["taskId"]}))
    assert (handle["resultType"], handle["status"]) == ("task", "working")
    assert handle["ttlMs"] == 3 * 24 * 3600 * 1000
    assert handle["pollIntervalMs"] >= 1000
    assert handle["statusMessage"].startswith("pending")
    assert (working["resultType"], working["status"]) == ("complete", "working")
    assert "result" not in working
    assert (done["resultType"], done["status"]) == ("complete", "completed")
    assert done["createdAt"] == working["createdAt"]
    assert {"content", "structuredContent"} <= done["result"].keys()
    assert done["result"]["structuredContent"] == task["structuredContent"]
    assert done["result"]["content"] == task["content"]
    assert sandbox.tasks()[0]["task_id"] == handle["taskId"]


def test_clients_that_do_not_declare_it_see_no_difference(ask: Ask) -> None:
    answer = ask(upscale())["result"]
    refused = ask(modern("tasks/get", taskId=answer["structuredContent"]["task_id"]))["error"]
    listening = ask(modern("subscriptions/listen", notifications={"taskIds": ["x"]}))["error"]
    assert answer["resultType"] == "complete"
    assert answer["structuredContent"]["status"] == "pending"
    for error in (refused, listening):
        assert error["code"] == -32021
        assert error["data"]["requiredCapabilities"]["extensions"] == {TASKS: {}}


def test_final_answers_are_not_tasks(ask: Ask, sandbox: SandboxControl) -> None:
    quoted = ask(upscale(TASKS, dry_run=True))["result"]
    refused = ask(upscale(TASKS, index="subtle"))["result"]
    waited = ask(upscale(TASKS, wait_seconds=20))["result"]
    account = ask(modern("tools/call", TASKS, name="get_account", arguments={}))["result"]
    assert quoted["structuredContent"]["status"] == "dry_run"
    assert refused["isError"]
    assert waited["structuredContent"]["status"] == "completed"
    assert "balance_usd" in account["structuredContent"]
    assert len(sandbox.tasks()) == 1


@pytest.mark.parametrize("method", ["get", "update", "cancel"])
@pytest.mark.parametrize(
    ("task_id", "header", "code"),
    [
        pytest.param(UNKNOWN, UNKNOWN, -32602, id="unknown"),
        pytest.param("../../account/info", "../../account/info", -32602, id="a-path"),
        pytest.param("x\n", "x", -32020, id="malformed"),
    ],
)
def test_an_unknown_id_is_refused(
    http_server: HttpServer, own_key: str, sandbox: SandboxControl, method: str, task_id: str, header: str, code: int
) -> None:
    request = tasks(method, task_id, inputResponses={})
    error = post_routed(http_server.url, request, x_api_key=own_key, mcp_name=header).json()["error"]
    assert error["code"] == code
    assert all(".." not in request["path"] for request in sandbox.requests())


def test_a_header_that_names_another_task_is_refused(http_server: HttpServer, own_key: str, ask: Ask) -> None:
    request = tasks("get", start_task(ask))
    reply = post_routed(http_server.url, request, x_api_key=own_key, mcp_name=UNKNOWN)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, -32020)


def test_the_task_of_another_key_is_unknown(http_server: HttpServer, own_key: str, ask: Ask) -> None:
    task_id = start_task(ask)
    refused = [
        post_routed(http_server.url, tasks(method, task_id, inputResponses={}), x_api_key=f"{own_key}-another").json()
        for method in ("get", "update", "cancel")
    ]
    without_key = post_routed(http_server.url, tasks("get", task_id)).json()["error"]
    assert [answer["error"]["code"] for answer in refused] == [-32602] * 3
    assert ask(tasks("get", task_id))["result"]["taskId"] == task_id
    assert "No PiAPI key came with the request" in without_key["message"]


def test_a_pending_task_is_cancelled_and_a_finished_one_is_left_alone(ask: Ask, sandbox: SandboxControl) -> None:
    sandbox.set(polls=3)
    first = start_task(ask)
    acknowledged = ask(tasks("cancel", first))["result"]
    cancelled = ask(tasks("get", first))["result"]
    updated = ask(tasks("update", first, inputResponses={"never": {"asked": True}}))["result"]
    sandbox.set(polls=1)
    second = start_task(ask, index="2")
    ask(tasks("get", second))
    too_late = ask(tasks("cancel", second))["result"]
    done = ask(tasks("get", second))["result"]
    for answer in (acknowledged, updated, too_late):
        assert {key: value for key, value in answer.items() if key != "_meta"} == {"resultType": "complete"}
    # What PiAPI calls a cancelled task is not documented; the sandbox calls it failed, and gives its price back.
    assert cancelled["result"]["structuredContent"]["error"] == "task canceled"
    assert done["status"] == "completed"


def test_a_task_that_failed_is_a_completed_call_that_says_why(ask: Ask, sandbox: SandboxControl) -> None:
    sandbox.fault("create", "fail_task", error={"code": 10000, "message": "no face was found"})
    done = ask(tasks("get", start_task(ask)))["result"]
    assert done["status"] == "completed"
    assert done["result"]["structuredContent"]["status"] == "failed"


def test_a_failing_piapi_is_an_internal_error_with_its_cause(ask: Ask, sandbox: SandboxControl) -> None:
    task_id = start_task(ask)
    sandbox.fault("read", "answer", status=503, body="down", times=50)
    error = ask(tasks("get", task_id))["error"]
    assert error["code"] == -32603
    assert "PiAPI" in error["message"]


async def test_the_older_era_does_not_know_it(http_server: HttpServer, own_key: str) -> None:
    hello = post(http_server.url, INITIALIZE)
    request = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": UNKNOWN}}
    error = post(http_server.url, request)
    async with connect(http_server.url, "sse", "legacy", x_api_key=own_key) as client:
        answer = await client.call_tool("midjourney_upscale", UPSCALE_ARGUMENTS)
    assert "extensions" not in hello.text
    assert "-32601" in error.text
    assert answer.structured_content is not None


def test_over_stdio_there_are_no_headers_to_check(settings: Settings) -> None:
    with start_server(settings) as server:
        handle = exchange(server, upscale(TASKS))["result"]
        done = exchange(server, tasks("get", handle["taskId"]))["result"]
        discovered = exchange(server, modern("server/discover"))["result"]
        server.communicate(timeout=20)
    assert done["status"] == "completed"
    assert discovered["capabilities"]["extensions"] == {TASKS: {}}
