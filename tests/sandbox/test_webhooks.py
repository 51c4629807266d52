"""The sandbox delivers webhooks to a real HTTP server."""

import json
import queue
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample


class Listener(HTTPServer):
    """Collects the secret and the body of every request posted to it."""

    failures = 0
    """How many deliveries it answers with 500 first."""

    def __init__(self) -> None:
        self.posts: queue.Queue[tuple[str | None, dict[str, object]]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, Listener)
        self.server.posts.put((self.headers["x-webhook-secret"], body))
        self.server.failures -= 1
        self.send_response(500 if self.server.failures >= 0 else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        pass


@pytest.fixture
def listener() -> Generator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def submit(http: httpx.Client, listener: Listener, *, secret: str) -> str:
    body = {
        "model": "midjourney",
        "task_type": "upscale",
        "input": {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "1"},
        "config": {"webhook_config": {"endpoint": f"http://127.0.0.1:{listener.server_port}/hook", "secret": secret}},
    }
    return http.post("/api/v1/task", json=body).json()["data"]["task_id"]


def test_a_completed_task_is_delivered_with_the_webhooks_secret(
    http: httpx.Client, sandbox: SandboxControl, listener: Listener
) -> None:
    """PiAPI's documentation: the secret is sent verbatim in a header."""
    sandbox.set(polls=None, pending_s=0, processing_s=0)
    task_id = submit(http, listener, secret="s3cr3t")
    secret, post = listener.posts.get(timeout=10)
    assert secret == "s3cr3t"
    assert isinstance(post["timestamp"], int)
    data = post["data"]
    assert isinstance(data, dict)
    assert (data["task_id"], data["status"]) == (task_id, "completed")


def test_a_failed_task_is_delivered(http: httpx.Client, sandbox: SandboxControl, listener: Listener) -> None:
    """PiAPI's documentation: webhooks are sent on completed or failed."""
    sandbox.set(polls=None, pending_s=0, processing_s=0)
    sandbox.fault("create", "fail_task", error={"code": 10000})
    submit(http, listener, secret="s3cr3t")
    _, post = listener.posts.get(timeout=10)
    data = post["data"]
    assert isinstance(data, dict)
    assert (data["status"], data["logs"]) == ("failed", ["restored frozen points"])


def test_a_failed_delivery_is_tried_again(http: httpx.Client, sandbox: SandboxControl, listener: Listener) -> None:
    """PiAPI's documentation: delivery is at least once."""
    sandbox.set(polls=None, pending_s=0, processing_s=0)
    listener.failures = 2
    submit(http, listener, secret="é")
    posts = [listener.posts.get(timeout=10)[1] for _ in range(3)]
    assert posts[0] == posts[1] == posts[2]


def test_an_unreachable_webhook_does_not_keep_a_task_from_completing(
    http: httpx.Client, sandbox: SandboxControl, listener: Listener
) -> None:
    sandbox.set(polls=1)
    listener.server_close()
    task_id = submit(http, listener, secret="s3cr3t")
    assert http.get(f"/api/v1/task/{task_id}").json()["data"]["status"] == "completed"
