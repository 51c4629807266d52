import json
import queue
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from piapi_mcp.sandbox.control import SandboxControl
from piapi_mcp.sandbox.samples import Sample


class Listener(HTTPServer):
    """Collects what is posted to it: the secret's header and the body."""

    def __init__(self) -> None:
        self.posts: queue.Queue[tuple[str | None, dict[str, object]]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, Listener)
        self.server.posts.put((self.headers["x-webhook-secret"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        pass


@pytest.fixture
def listener() -> Generator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_webhook_hears_of_the_end_with_its_secret(sandbox: SandboxControl, base_url: str, listener: Listener) -> None:
    """PiAPI's documentation: the secret comes back verbatim in a header."""
    sandbox.set(looks=None, pending_s=0, processing_s=0)
    body = {
        "model": "midjourney",
        "task_type": "upscale",
        "input": {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "1"},
        "config": {"webhook_config": {"endpoint": f"http://127.0.0.1:{listener.server_port}/hook", "secret": "s3cr3t"}},
    }
    reply = httpx.post(f"{base_url}/api/v1/task", json=body, headers={"x-api-key": "sandbox-a"}, trust_env=False)
    secret, post = listener.posts.get(timeout=10)
    assert secret == "s3cr3t"
    assert isinstance(post["timestamp"], int)
    data = post["data"]
    assert isinstance(data, dict)
    assert (data["task_id"], data["status"]) == (reply.json()["data"]["task_id"], "completed")
