"""Invalid requests get a reply that names the mistake, and create no task."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import SAMPLES, Sample
from tests.support.media_files import make_image

MIDJOURNEY = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "3"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"model": ["midjourney"]}, "model or task_type is not supported", id="model-as-a-list"),
        pytest.param({"input": None}, "invalid index", id="no-input"),
        pytest.param({"input": "3"}, "input must be an object", id="input-as-text"),
        pytest.param({"input": {**MIDJOURNEY, "index": ["3"]}}, "invalid index", id="index-as-a-list"),
        pytest.param({"config": "public"}, "config must be an object", id="config-as-text"),
        pytest.param({"config": {"webhook_config": []}}, "webhook_config must be an object", id="webhook-as-a-list"),
        pytest.param(
            {"config": {"webhook_config": {"endpoint": "example.com"}}},
            "endpoint must be a URL",
            id="endpoint-without-a-scheme",
        ),
        pytest.param(
            {"config": {"webhook_config": {"endpoint": "http://[::1"}}},
            "endpoint must be a URL",
            id="unclosed-ipv6-address",
        ),
        pytest.param(
            {"config": {"webhook_config": {"secret": 1}}},
            "endpoint and secret must be strings",
            id="secret-as-a-number",
        ),
        pytest.param(
            {"model": "Qubico/video-toolkit", "input": {"video": 5}}, "video is required", id="video-as-a-number"
        ),
        pytest.param(
            {"model": "Qubico/video-toolkit", "input": {"video": "no base64!"}},
            "failed to get valid video",
            id="video-that-is-not-base64",
        ),
        pytest.param(
            {"model": "Qubico/image-toolkit", "input": {"image": "http://127.0.0.1:1/a.png"}},
            "failed to get valid image",
            id="unreachable-url",
        ),
        pytest.param(
            {"model": "Qubico/image-toolkit", "input": {"image": "http://[/a.png"}},
            "failed to get valid image",
            id="malformed-url",
        ),
        pytest.param(
            {"model": "Qubico/image-toolkit", "input": {"image": "aaaa", "scale": 3}},
            "scale must be 2, 4 or 8, face_enhance a boolean",
            id="scale-3",
        ),
        pytest.param(
            {"model": "Qubico/image-toolkit", "input": {"image": "aaaa", "scale": 2.0}},
            "scale must be 2, 4 or 8, face_enhance a boolean",
            id="scale-as-a-float",
        ),
        pytest.param(
            {"model": "Qubico/image-toolkit", "input": {"image": "aaaa", "prompt": ""}},
            "unknown field in input: prompt",
            id="unknown-input-field",
        ),
    ],
)
def test_an_invalid_submission_is_refused_with_the_mistake_named(
    http: httpx.Client, sandbox: SandboxControl, change: dict[str, Any], text: str
) -> None:
    reply = http.post(
        "/api/v1/task", json={"model": "midjourney", "task_type": "upscale", "input": MIDJOURNEY} | change
    )
    assert (reply.status_code, reply.json()) == (400, {"code": 400, "data": None, "message": text})
    assert sandbox.tasks() == []


@pytest.mark.parametrize("path", ["/api/v1/task", "/api/ephemeral_resource"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_refused(http: httpx.Client, path: str, body: bytes) -> None:
    reply = http.post(path, content=body)
    assert (reply.status_code, reply.json()["message"]) == (400, "invalid JSON")


def test_a_body_of_undeclared_length_is_refused_once_it_is_too_large(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    """PiAPI's documentation names the status 413; the text comes from client code."""

    def endless() -> Iterator[bytes]:
        for _ in range(15):
            yield bytes(2**20)

    reply = http.post("/api/v1/task", content=endless())
    assert (reply.status_code, reply.json()["message"]) == (413, "task input too large")
    (entry,) = sandbox.requests("create")
    assert entry["is_chunked"]
    assert entry["body_bytes"] > 10 * 2**20


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"page": "x"}, id="page-not-a-number"),
        pytest.param({"page": "0"}, id="page-zero"),
        pytest.param({"page_size": "9"}, id="page-size-too-small"),
        pytest.param({"page_size": "101"}, id="page-size-too-large"),
        pytest.param({"start_time": "-1"}, id="time-before-1970"),
        pytest.param({"limit": "10"}, id="unknown-parameter"),
    ],
)
def test_an_undocumented_history_query_is_refused(http: httpx.Client, query: dict[str, str]) -> None:
    assert http.get("/api/open/tasks/histories", params=query).status_code == 400


def test_the_history_is_paged_and_filtered_by_model_and_time(http: httpx.Client) -> None:
    """PiAPI's documentation: the user task history page."""

    def ids(**query: Any) -> list[str]:
        reply = http.get("/api/open/tasks/histories", params=query).json()["data"]
        assert reply["total"] >= len(reply["data"])
        return [row["task_id"] for row in reply["data"]]

    replies = [
        http.post("/api/v1/task", json={"model": "midjourney", "task_type": "upscale", "input": MIDJOURNEY}).json()
        for _ in range(5)
    ]
    newest_first = [reply["data"]["task_id"] for reply in reversed(replies)]
    samples = [sample.task_id for sample in reversed(SAMPLES)]
    assert ids() + ids(page=2) == ids(page_size=100) == newest_first + samples
    assert ids(model="mj", page_size=100) == newest_first + samples
    assert ids(model="video_toolkit") == []
    assert ids(end_time=0) == ids(start_time=2**40) == []
    assert ids(start_time=0, end_time=2**40, page_size=100) == newest_first + samples


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param({"file_name": "a.png"}, "file_name and file_data are required", id="no-data"),
        pytest.param({"file_name": "a", "file_data": "aaaa"}, "file_name must have an extension", id="no-extension"),
        pytest.param({"file_name": "a.png", "file_data": "?"}, "failed to get valid file", id="not-base64"),
        pytest.param(
            {"file_name": "a.png", "file_data": "aaaa", "x": 1}, "unknown field in request: x", id="unknown-field"
        ),
    ],
)
def test_an_invalid_upload_is_refused_with_the_mistake_named(
    http: httpx.Client, body: dict[str, Any], text: str
) -> None:
    reply = http.post("/api/ephemeral_resource", json=body)
    assert (reply.status_code, reply.json()["message"]) == (400, text)


def test_an_upload_is_served_unchanged_and_is_refused_on_the_free_plan(
    http: httpx.Client, sandbox: SandboxControl
) -> None:
    """PiAPI's documentation, the file upload page: Creator plan and above, 403 otherwise."""
    data = make_image()
    body = {"file_name": "../a.png", "file_data": base64.b64encode(data).decode()}
    reply = http.post("/api/ephemeral_resource", json=body).json()
    assert http.get(reply["data"]["url"]).content == data
    sandbox.set(plan="free")
    assert http.post("/api/ephemeral_resource", json=body).status_code == 403


def test_an_unknown_path_is_answered_404_in_plain_text(http: httpx.Client) -> None:
    """A captured reply."""
    for reply in (http.get("/api/v2/task"), http.put("/api/v1/task")):
        assert (reply.status_code, reply.text) == (404, "404 page not found")
    assert http.get("/results/..%2f..%2fetc%2fpasswd").status_code == 404
