"""The sandbox keeps to PiAPI's documentation and to captured replies, as a plain HTTP client sees it."""

import base64
import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import SAMPLES, Sample
from piapi_mcp.sandbox.server import SandboxServer
from tests.support.media_files import make_clip, make_image

GRID_V6 = Sample("6", is_grid=True).task_id


def submit(http: httpx.Client, model: str, task_input: dict[str, Any], **more: Any) -> httpx.Response:
    return http.post("/api/v1/task", json={"model": model, "task_type": "upscale", "input": task_input, **more})


def submit_midjourney(http: httpx.Client, index: str = "3", origin: str = GRID_V6, **more: Any) -> httpx.Response:
    return submit(http, "midjourney", {"origin_task_id": origin, "index": index}, **more)


def submit_video(http: httpx.Client, clip: bytes) -> httpx.Response:
    return submit(http, "Qubico/video-toolkit", {"video": base64.b64encode(clip).decode()})


def read(http: httpx.Client, task_id: str) -> dict[str, Any]:
    return http.get(f"/api/v1/task/{task_id}").json()["data"]


def test_a_submission_is_answered_with_the_documented_fields(http: httpx.Client) -> None:
    """PiAPI's documentation: the example on the Midjourney upscale page."""
    config = {"service_mode": "", "webhook_config": {"endpoint": "", "secret": ""}}
    reply = submit_midjourney(http, config=config).json()
    assert (reply["code"], reply["message"]) == (200, "success")
    assert set(reply["data"]) == {
        *("task_id", "model", "task_type", "status", "config", "input"),
        *("output", "meta", "detail", "logs", "error"),
    }
    assert reply["data"]["status"] == "pending"
    assert reply["data"]["config"] == config


@pytest.mark.parametrize("key", ["", "another-key"])
def test_a_key_without_the_sandbox_prefix_is_refused(http: httpx.Client, key: str) -> None:
    reply = http.get("/account/info", headers={"x-api-key": key})
    assert reply.status_code == 401
    assert reply.json()["message"] == "failed to verify api key"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param({"model": "other"}, "model or task_type is not supported", id="unknown-model"),
        pytest.param({"extra": 1}, "unknown field in request: extra", id="unknown-field"),
        pytest.param({"input": {"origin_task_id": GRID_V6, "index": 3}}, "invalid index", id="index-as-a-number"),
        pytest.param({"input": {"origin_task_id": "x", "index": "3"}}, "origin task not found", id="no-parent"),
        pytest.param(
            {"input": {"origin_task_id": GRID_V6, "index": "subtle"}},
            "index subtle is not available for the origin task",
            id="index-of-another-parent",
        ),
        pytest.param({"config": {"service_mode": "free"}}, "service_mode must be public or private", id="service-mode"),
        pytest.param({"config": {"webhook": {}}}, "unknown field in config: webhook", id="unknown-config-field"),
    ],
)
def test_an_undocumented_field_or_value_is_refused(http: httpx.Client, body: dict[str, Any], text: str) -> None:
    whole = {"model": "midjourney", "task_type": "upscale", "input": {"origin_task_id": GRID_V6, "index": "3"}} | body
    reply = http.post("/api/v1/task", json=whole)
    assert (reply.status_code, reply.json()["message"]) == (400, text)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file_name)
def test_a_sample_can_be_upscaled_with_each_of_its_actions(http: httpx.Client, sample: Sample) -> None:
    names = [action.removeprefix("upscale").removeprefix("_") for action in sample.actions if "upscale" in action]
    for index in names:
        reply = submit_midjourney(http, index, sample.task_id)
        assert reply.status_code == 200, reply.text
        assert read(http, reply.json()["data"]["task_id"])["status"] == "completed"


def test_a_midjourney_upscale_returns_a_real_enlarged_image(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(does_work=True)
    first = read(http, submit_midjourney(http, "2").json()["data"]["task_id"])
    second = read(http, submit_midjourney(http, "creative", first["task_id"]).json()["data"]["task_id"])
    sizes = [Image.open(io.BytesIO(http.get(task["output"]["image_url"]).content)).size for task in (first, second)]
    assert sizes == [(512, 512), (1024, 1024)]


def test_a_video_upscale_doubles_the_size_and_keeps_frames_rate_and_audio(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    sandbox.set(does_work=True)
    task = read(http, submit_video(http, make_clip(frames=30, fps=15, audio=True)).json()["data"]["task_id"])
    assert task["meta"]["usage"]["consume"] == 30 * 3000  # 30 frames at $0.0003
    with av.open(io.BytesIO(http.get(task["output"]["video_url"]).content)) as result:
        video = result.streams.video[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", 320, 180)
        assert (video.frames, video.average_rate) == (30, Fraction(15))
        assert len(result.streams.audio) == 1


@pytest.mark.parametrize(
    ("make_media", "status"),
    [
        pytest.param(lambda: make_clip(width=1282, height=64, frames=10), 400, id="too-wide"),
        pytest.param(lambda: make_clip(frames=9), 400, id="too-short"),
        pytest.param(lambda: make_clip(width=64, height=64, frames=241), 400, id="too-long"),
        pytest.param(make_image, 400, id="not-a-video"),
        pytest.param(lambda: bytes(10 * 2**20 + 1), 413, id="too-large"),
    ],
)
def test_a_video_over_a_documented_limit_is_refused(
    http: httpx.Client, sandbox: SandboxControl, make_media: Callable[[], bytes], status: int
) -> None:
    sandbox.set(does_work=True)
    assert submit_video(http, make_media()).status_code == status
    assert sandbox.tasks() == []


def test_an_image_upscale_returns_a_real_enlarged_image(
    http: httpx.Client, sandbox: SandboxControl, base_url: str
) -> None:
    sandbox.set(does_work=True)
    file_data = base64.b64encode(make_image(width=40, height=30)).decode()
    upload = http.post("/api/ephemeral_resource", json={"file_name": "a.png", "file_data": file_data}).json()
    assert upload["data"]["url"].startswith(base_url)
    reply = submit(http, "Qubico/image-toolkit", {"image": upload["data"]["url"], "scale": 4}).json()
    result = http.get(read(http, reply["data"]["task_id"])["output"]["image_url"]).content
    assert Image.open(io.BytesIO(result)).size == (160, 120)


def test_a_failed_task_returns_its_price(http: httpx.Client, sandbox: SandboxControl) -> None:
    """A captured reply: `consume` returns to 0, and `logs` says so."""
    sandbox.fault("create", "fail_task", error={"code": 10003, "message": "content policy"}, logs=["worker says no"])
    task = read(http, submit_midjourney(http).json()["data"]["task_id"])
    assert (task["status"], task["error"]["code"], task["meta"]["usage"]["consume"]) == ("failed", 10003, 0)
    assert task["logs"] == ["worker says no", "restored frozen points"]
    assert http.get("/account/info").json()["data"]["wallet"] == {"point_remain": 100_000_000, "point_frozen": 0}


def test_a_submission_beyond_the_balance_or_the_plans_limit_is_refused(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    sandbox.set(balance_points=99_999)
    assert submit_midjourney(http).json()["message"] == "insufficient credits"
    sandbox.set(balance_points=10**9, max_concurrent_tasks=1, polls=5)
    assert submit_midjourney(http).status_code == 200
    assert submit_midjourney(http).json()["message"] == "active task count 1 has reached the plan limit"


def test_only_a_pending_task_can_be_cancelled(http: httpx.Client, sandbox: SandboxControl) -> None:
    """PiAPI's documentation: the cancel task page."""
    sandbox.set(polls=5)
    task_id = submit_midjourney(http).json()["data"]["task_id"]
    assert http.delete(f"/api/v1/task/{task_id}").json() == {"code": 200, "message": f"task {task_id} canceled"}
    assert read(http, task_id)["meta"]["usage"]["consume"] == 0
    assert http.delete(f"/api/v1/task/{task_id}").status_code == 400


def test_an_account_does_not_see_the_tasks_of_another(http: httpx.Client) -> None:
    task_id = submit_midjourney(http).json()["data"]["task_id"]
    other = {"x-api-key": "sandbox-b"}
    assert http.get(f"/api/v1/task/{task_id}", headers=other).status_code == 404
    rows = http.get("/api/open/tasks/histories", headers=other).json()["data"]["data"]
    assert {row["task_id"] for row in rows} == {sample.task_id for sample in SAMPLES}


def test_tasks_advance_poll_by_poll(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(polls=3)
    task_id = submit_midjourney(http).json()["data"]["task_id"]
    assert [read(http, task_id)["status"] for _ in range(3)] == ["pending", "processing", "completed"]


def test_an_injected_answer_is_sent_for_the_requests_that_were_chosen(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    sandbox.fault("account", "answer", status=503, body="<html>", headers={"retry-after": "7"}, times=2, skip=1)
    replies = [http.get("/account/info") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 503, 503, 200]
    assert (replies[1].text, replies[1].headers["retry-after"]) == ("<html>", "7")


@pytest.mark.parametrize(("when", "created"), [("before", 0), ("after", 1), ("midway", 1)])
def test_a_cut_connection_hides_whether_the_task_was_created(
    http: httpx.Client, sandbox: SandboxControl, when: str, created: int
) -> None:
    sandbox.fault("create", "cut", when=when)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):  # which one depends on how much was still unread
        submit_midjourney(http)
    assert len(sandbox.tasks()) == created


def test_a_delayed_reply_exceeds_the_clients_timeout(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.fault("account", "delay", delay_s=5)
    with pytest.raises(httpx.ReadTimeout):
        http.get("/account/info", timeout=0.1)


def test_settings_select_every_known_form_of_piapis_replies(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(capitalised=True, bare_task_ids=True, camel_case_history=True)
    created = submit_midjourney(http).json()
    assert list(created) == ["task_id"]
    assert read(http, created["task_id"])["status"] == "Completed"
    assert "taskId" in http.get("/api/open/tasks/histories").json()["data"]["data"][0]
    sandbox.set(midjourney_withdrawn=True)
    assert submit_midjourney(http).json()["message"] == "model midjourney is no longer supported"


def test_the_server_refuses_to_listen_beyond_loopback() -> None:
    with pytest.raises(ValueError, match="loopback addresses only"):
        SandboxServer(host="0.0.0.0")  # noqa: S104 -- the address that must be refused
