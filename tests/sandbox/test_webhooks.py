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
    """Collects what is posted to it: the secret's header and the body."""

    failures = 0
    """How many deliveries it refuses first."""

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


def submit(http: httpx.Client, listener: Listener, phrase: str = "s3cr3t") -> str:
    body = {
        "model": "midjourney",
        "task_type": "upscale",
        "input": {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "1"},
        "config": {"webhook_config": {"endpoint": f"http://127.0.0.1:{listener.server_port}/hook", "secret": phrase}},
    }
    return http.post("/api/v1/task", json=body).json()["data"]["task_id"]


def test_a_webhook_hears_of_the_end_with_its_secret(
    http: httpx.Client, sandbox: SandboxControl, listener: Listener
) -> None:
    """PiAPI's documentation: the secret comes back verbatim in a header."""
    sandbox.set(polls=None, pending_s=0, processing_s=0)
    task_id = submit(http, listener)
    secret, post = listener.posts.get(timeout=10)
    assert secret == "s3cr3t"
    assert isinstance(post["timestamp"], int)
    data = post["data"]
    assert isinstance(data, dict)
    assert (data["task_id"], data["status"]) == (task_id, "completed")


def test_a_webhook_hears_of_a_failure(http: httpx.Client, sandbox: SandboxControl, listener: Listener) -> None:
    """PiAPI's documentation: on completed or failed."""
    sandbox.set(polls=None, pending_s=0, processing_s=0)
    sandbox.fault("create", "fail_task", error={"code": 10000})
    submit(http, listener)
    _, post = listener.posts.get(timeout=10)
    data = post["data"]
    assert isinstance(data, dict)
    assert (data["status"], data["logs"]) == ("failed", ["restored frozen points"])


def test_a_webhook_that_refuses_is_tried_again(http: httpx.Client, sandbox: SandboxControl, listener: Listener) -> None:
    """PiAPI's documentation: at least once."""
    sandbox.set(polls=None, pending_s=0, processing_s=0)
    listener.failures = 2
    submit(http, listener, phrase="é")
    posts = [listener.posts.get(timeout=10)[1] for _ in range(3)]
    assert posts[0] == posts[1] == posts[2]


def test_a_webhook_that_nobody_answers_keeps_no_task_from_its_end(
    http: httpx.Client, sandbox: SandboxControl, listener: Listener
) -> None:
    sandbox.set(polls=1)
    listener.server_close()
    task_id = submit(http, listener)
    assert http.get(f"/api/v1/task/{task_id}").json()["data"]["status"] == "completed"
