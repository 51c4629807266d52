"""Files made to hurt: each is refused with one of our errors, and nothing is submitted."""

from pathlib import Path

import pytest

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import open_service
from piapi_mcp.tasks.video import VideoUpscale
from tests.support.hostile_files import HOSTILE


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_refused_and_nothing_is_submitted(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path, name: str
) -> None:
    kind, make = HOSTILE[name]
    path = tmp_path / ("thing.mp4" if kind == "video" else "thing.png")
    make(path)
    assert settings.api_key is not None
    service = open_service(settings, settings.api_key)
    if kind == "video":
        submission = service.submit(VideoUpscale(str(path)), SubmitOptions())
    else:
        submission = service.submit(ImageUpscale(str(path)), SubmitOptions())
    with pytest.raises(InputRejectedError, match=r"Nothing was submitted"):
        await submission
    await service.close()
    assert sandbox.requests() == []
