"""Hostile media is refused or fails its task; it never harms the sandbox."""

import base64
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from tests.support.media_files import make_clip, make_image

PLAYLIST = b"ffconcat version 1.0\nfile /etc/passwd\n"


def forged_sample_table() -> bytes:
    """Return a small video whose sample table claims 80 million samples of one byte."""
    clip = bytearray(make_clip(width=64, height=64, frames=10))
    at = clip.find(b"stsz")
    clip[at + 8 : at + 16] = struct.pack(">II", 1, 80_000_000)
    return bytes(clip)


def huge_image() -> bytes:
    """Return the header of a PNG of 60000x60000 pixels, without the pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )


def submit(base_url: str, kind: str, data: bytes) -> httpx.Response:
    body = {
        "model": f"Qubico/{kind}-toolkit",
        "task_type": "upscale",
        "input": {kind: base64.b64encode(data).decode()},
    }
    headers = {"x-api-key": "sandbox-a"}
    return httpx.post(f"{base_url}/api/v1/task", json=body, headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize(
    ("kind", "make_media"),
    [
        pytest.param("video", forged_sample_table, id="80-million-samples"),
        pytest.param("video", lambda: PLAYLIST, id="playlist"),
        pytest.param("video", lambda: b"\0\0\0\x18ftypisom" + PLAYLIST, id="playlist-after-an-mp4-header"),
        pytest.param("video", lambda: make_clip()[:400], id="truncated"),
        pytest.param("video", lambda: b"\0\0\0\x18ftyp" + b"\xff" * 4096, id="noise-after-an-mp4-header"),
        pytest.param("video", make_image, id="image-as-a-video"),
        pytest.param("video", lambda: make_clip(width=1280, height=722, frames=10), id="video-too-high"),
        pytest.param("image", huge_image, id="huge-image"),
        pytest.param("image", lambda: make_image(width=2049, height=8), id="image-too-wide"),
        pytest.param("image", lambda: make_image(image_format="GIF"), id="gif"),
        pytest.param("image", lambda: make_image()[:20], id="header-only"),
        pytest.param("image", make_clip, id="video-as-an-image"),
        pytest.param("image", lambda: b"\0", id="one-zero-byte"),
    ],
)
def test_unreadable_or_oversized_media_is_refused_and_creates_no_task(
    base_url: str, sandbox: SandboxControl, kind: str, make_media: Callable[[], bytes]
) -> None:
    sandbox.set(does_work=True)
    reply = submit(base_url, kind, make_media())
    assert reply.status_code == 400, reply.text
    assert sandbox.tasks() == []


def test_a_truncated_image_fails_as_a_task_and_is_not_charged(base_url: str, sandbox: SandboxControl) -> None:
    """Its header is valid, so the probe accepts it and the upscale fails."""
    sandbox.set(does_work=True)
    whole = make_image(width=300, height=200, image_format="JPEG")
    task_id = submit(base_url, "image", whole[: len(whole) // 2]).json()["data"]["task_id"]
    headers = {"x-api-key": "sandbox-a"}
    task = httpx.get(f"{base_url}/api/v1/task/{task_id}", headers=headers, trust_env=False).json()["data"]
    assert (task["status"], task["error"]["code"], task["meta"]["usage"]["consume"]) == ("failed", 10000, 0)
    assert task["logs"] == ["restored frozen points"]


def test_the_host_process_never_loads_ffmpeg_or_an_image_library() -> None:
    """Ours: hostile media is opened only in a child process."""
    program = """
import base64, json, sys
import httpx
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.sandbox.state import Settings

with SandboxServer(settings=Settings(polls=1)) as server:
    with httpx.Client(base_url=server.base_url, headers={"x-api-key": "sandbox-a"}, trust_env=False) as http:
        source = {"video": base64.b64encode(sys.stdin.buffer.read()).decode()}
        body = {"model": "Qubico/video-toolkit", "task_type": "upscale", "input": source}
        task_id = http.post("/api/v1/task", json=body).json()["data"]["task_id"]
        status = http.get(f"/api/v1/task/{task_id}", timeout=60).json()["data"]["status"]
print(json.dumps([status, sorted({"av", "PIL"} & set(sys.modules))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=make_clip(), capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == ["completed", []]
