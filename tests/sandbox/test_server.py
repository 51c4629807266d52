"""Ours: the life cycle of the server, from start to stop, and how its tasks advance."""

import base64
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.sandbox.state import Settings
from tests.support.media_files import make_clip

MIDJOURNEY = {
    "model": "midjourney",
    "task_type": "upscale",
    "input": {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "3"},
}


def connect(server: SandboxServer) -> httpx.Client:
    return httpx.Client(base_url=server.base_url, headers={"x-api-key": "sandbox-a"}, trust_env=False, timeout=30)


def test_a_server_can_be_stopped_right_after_its_start() -> None:
    server = SandboxServer()
    server.start()
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.base_url, trust_env=False)


def test_stopping_the_server_ends_the_job_that_is_running() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with SandboxServer(settings=Settings(pending_s=0)) as server, connect(server) as http:
        clip = base64.b64encode(make_clip(width=1280, height=720, frames=24)).decode()
        body = {"model": "Qubico/video-toolkit", "task_type": "upscale", "input": {"video": clip}}
        task_id = http.post("/api/v1/task", json=body).json()["data"]["task_id"]
        assert http.get(f"/api/v1/task/{task_id}").json()["data"]["status"] in ("pending", "processing")
    for thread in threading.enumerate():
        if thread.name.startswith("asyncio-waitpid"):
            thread.join(timeout=10)  # asyncio reports the end of the child shortly before this thread of its own ends
    assert {thread.name for thread in threading.enumerate()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="a process on Windows cannot handle SIGTERM")
def test_a_server_ended_by_sigterm_leaves_no_files_behind(tmp_path: Path) -> None:
    program = """
from piapi_mcp.sandbox.server import SandboxServer
with SandboxServer() as server:
    print(server.base_url, flush=True)
    server.wait()
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert httpx.get(f"{url}/nowhere", trust_env=False).status_code == 404
        assert [path.name.startswith("piapi-sandbox-") for path in tmp_path.iterdir()] == [True]
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_reported_by_start() -> None:
    with SandboxServer() as server, pytest.raises(OSError, match="in use"):
        SandboxServer(port=int(server.base_url.rpartition(":")[2])).start()


def test_the_server_listens_on_the_address_and_the_name_of_loopback() -> None:
    for host in ("127.0.0.1", "localhost"):
        with SandboxServer(host=host) as server, connect(server) as http:
            assert http.get("/account/info").status_code == 200


def test_the_times_of_a_task_come_from_the_clock_that_was_passed_in() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ticks = iter(range(10**6))
    with (
        SandboxServer(
            settings=Settings(polls=3, does_work=False), clock=lambda: start + timedelta(seconds=next(ticks))
        ) as server,
        connect(server) as http,
    ):
        task = http.post("/api/v1/task", json=MIDJOURNEY).json()["data"]
        polls = [http.get(f"/api/v1/task/{task['task_id']}").json()["data"] for _ in range(3)]
    metas = [reply["meta"] for reply in (task, *polls)]
    not_yet = "0001-01-01T00:00:00Z"
    assert [(meta["started_at"] != not_yet, meta["ended_at"] != not_yet) for meta in metas] == [
        (False, False),
        (False, False),
        (True, False),
        (True, True),
    ]
    last = metas[-1]
    assert "2026-01-01T00:00:00" < last["created_at"] < last["started_at"] < last["ended_at"] < "2026-01-01T00:01:00"


def test_a_midjourney_task_reports_its_progress(sandbox: SandboxControl, base_url: str) -> None:
    sandbox.set(polls=4)
    with httpx.Client(base_url=base_url, headers={"x-api-key": "sandbox-a"}, trust_env=False) as http:
        task_id = http.post("/api/v1/task", json=MIDJOURNEY).json()["data"]["task_id"]
        polls = [http.get(f"/api/v1/task/{task_id}").json()["data"] for _ in range(4)]
    assert [poll["output"]["progress"] for poll in polls] == [0, 50, 75, 100]


def test_a_grid_links_to_its_four_images(sandbox: SandboxControl, base_url: str) -> None:
    """A captured reply: `temporary_image_urls`."""
    del sandbox
    with httpx.Client(base_url=base_url, headers={"x-api-key": "sandbox-a"}, trust_env=False) as http:
        grid = http.get(f"/api/v1/task/{Sample('6', is_grid=True).task_id}").json()["data"]["output"]
        assert len(grid["temporary_image_urls"]) == 4
        images = {http.get(url).content for url in grid["temporary_image_urls"]}
        upscaled = http.get(f"/api/v1/task/{Sample('6', is_grid=False).task_id}").json()["data"]["output"]
    assert len(images) == 4
    assert all(image.startswith(b"\x89PNG") for image in images)
    assert upscaled["temporary_image_urls"] is None
