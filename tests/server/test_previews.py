"""The preview that comes with a finished task."""

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.types import CallToolResult, ImageContent
from PIL import Image

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.server.build import build_server
from piapi_mcp.settings import Settings
from tests.support.media_files import make_clip

GRID = Sample("6", is_grid=True)


@pytest.fixture(autouse=True)
def drawn_grid(base_url: str) -> None:
    """Let the sandbox draw the grid before the time for a preview runs."""
    httpx.get(f"{base_url}/results/{GRID.file_name}", trust_env=False, timeout=60).raise_for_status()


def previews(result: CallToolResult) -> list[ImageContent]:
    assert not result.is_error
    return [part for part in result.content if isinstance(part, ImageContent)]


async def test_a_finished_image_has_a_small_preview(settings: Settings) -> None:
    async with Client(build_server(settings)) as client:
        (preview,) = previews(await client.call_tool("get_task", {"task_id": GRID.task_id}))
    data = base64.b64decode(preview.data)
    with Image.open(io.BytesIO(data)) as image:
        assert (preview.mime_type, image.format, max(image.size)) == ("image/jpeg", "JPEG", 512)
    assert len(data) <= 60_000


async def test_a_finished_video_has_its_first_frame_as_preview(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    sandbox.set(does_work=True)
    (tmp_path / "clip.mp4").write_bytes(make_clip(width=320, height=180, frames=12))
    async with Client(build_server(settings)) as client:
        arguments = {"video": str(tmp_path / "clip.mp4"), "wait_seconds": 30}
        task = (await client.call_tool("video_upscale", arguments)).structured_content
        assert task is not None
        (preview,) = previews(await client.call_tool("get_task", {"task_id": task["task_id"]}))
    with Image.open(io.BytesIO(base64.b64decode(preview.data))) as image:
        assert image.size == (512, 288)


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        pytest.param({"preview": False}, {}, id="by-the-caller"),
        pytest.param({}, {"previews": False}, id="by-the-operator"),
    ],
)
async def test_previews_can_be_turned_off(
    settings: Settings, arguments: dict[str, Any], changed: dict[str, Any]
) -> None:
    async with Client(build_server(settings.model_copy(update=changed))) as client:
        assert previews(await client.call_tool("get_task", {"task_id": GRID.task_id} | arguments)) == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "answer", "status": 404}, id="gone"),
        pytest.param({"kind": "answer", "status": 200, "body": "<html>"}, id="a-page"),
        pytest.param({"kind": "cut", "when": "midway"}, id="cut"),
        pytest.param({"kind": "delay", "delay_s": 60}, id="too-slow"),
    ],
)
async def test_a_preview_that_cannot_be_made_does_not_fail_the_call(
    settings: Settings, sandbox: SandboxControl, fault: dict[str, Any]
) -> None:
    sandbox.fault("result", **fault)
    async with Client(build_server(settings)) as client:
        result = await client.call_tool("get_task", {"task_id": GRID.task_id})
    assert previews(result) == []
    assert result.structured_content is not None
    assert result.structured_content["status"] == "completed"
