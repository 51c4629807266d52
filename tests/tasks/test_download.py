"""Results on the user's disk, fetched from the sandbox."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from piapi_mcp.errors import InputRejectedError, PiAPIError, ResultError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.midjourney import MidjourneyUpscale
from piapi_mcp.tasks.models import SavedFile
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import TaskService, open_service
from piapi_mcp.tasks.video import VideoUpscale
from tests.support.media_files import make_clip, make_image

UPSCALED = Sample("6", is_grid=False).task_id


@pytest.fixture
def output(tmp_path: Path, settings: Settings, sandbox: SandboxControl) -> Path:
    """Return the folder that results are saved in; the sandbox really upscales."""
    del settings
    sandbox.set(does_work=True)
    return tmp_path / "results"


@asynccontextmanager
async def serve(settings: Settings, output: Path) -> AsyncGenerator[TaskService]:
    assert settings.api_key is not None
    service = open_service(settings.model_copy(update={"output_dir": output}), settings.api_key)
    try:
        yield service
    finally:
        await service.close()


async def finished_video(service: TaskService, folder: Path) -> str:
    clip = folder / "clip.mp4"
    clip.write_bytes(make_clip(width=96, height=64, frames=12))
    task = await service.submit(VideoUpscale(str(clip)), SubmitOptions(wait_s=30))
    assert task.task_id is not None
    return task.task_id


async def test_a_video_is_saved_once_under_the_name_of_its_task(
    settings: Settings, output: Path, tmp_path: Path
) -> None:
    async with serve(settings, output) as service:
        task_id = await finished_video(service, tmp_path)
        first = await service.save(task_id)
        second = await service.save(task_id)
    (saved,) = first.files
    assert saved == SavedFile(
        path=str(output / f"video-upscale-{task_id[:8]}.mp4"),
        width_px=192,
        height_px=128,
        size_bytes=Path(saved.path).stat().st_size,
    )
    assert second == first
    assert [path.name for path in output.iterdir()] == [Path(saved.path).name]


async def test_an_image_is_quoted_by_its_result_and_saved(settings: Settings, output: Path, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(make_image(width=250, height=100))
    async with serve(settings, output) as service:
        task = await service.submit(ImageUpscale(str(image), scale=4, face_enhance=True), SubmitOptions(wait_s=30))
        assert task.task_id is not None
        assert (task.status, task.quoted_usd, task.at_most_usd) == ("completed", None, Decimal("0.0004"))
        (saved,) = (await service.save(task.task_id)).files
    assert (saved.width_px, saved.height_px, Path(saved.path).suffix) == (1000, 400, ".png")


async def test_a_midjourney_image_is_saved(settings: Settings, output: Path) -> None:
    async with serve(settings, output) as service:
        task = await service.submit(MidjourneyUpscale(UPSCALED, "subtle"), SubmitOptions(wait_s=30))
        assert task.task_id is not None
        (saved,) = (await service.save(task.task_id)).files
    assert (saved.width_px, saved.height_px) == (1024, 1024)
    assert Path(saved.path).name == f"midjourney-upscale-{task.task_id[:8]}.png"


async def test_another_file_of_that_name_is_left_alone(settings: Settings, output: Path, tmp_path: Path) -> None:
    async with serve(settings, output) as service:
        task_id = await finished_video(service, tmp_path)
        output.mkdir()
        taken = output / f"video-upscale-{task_id[:8]}.mp4"
        taken.write_text("the user's own")
        (saved,) = (await service.save(task_id)).files
    assert taken.read_text() == "the user's own"
    assert Path(saved.path).name == f"video-upscale-{task_id[:8]} (2).mp4"


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        pytest.param(
            {"kind": "answer", "status": 200, "body": "<html>expired</html>"},
            ResultError,
            "The file behind PiAPI's link is a web page. Nothing was written; the task keeps its result: call "
            "save_result again in a minute, or open the link in result_urls.",
            id="a-page",
        ),
        pytest.param({"kind": "answer", "status": 404}, PiAPIError, None, id="gone"),
        pytest.param({"kind": "cut"}, PiAPIError, None, id="cut"),
    ],
)
async def test_a_download_that_is_not_media_is_not_saved(
    settings: Settings,
    output: Path,
    tmp_path: Path,
    sandbox: SandboxControl,
    fault: dict[str, Any],
    error: type[PiAPIError],
    text: str | None,
) -> None:
    async with serve(settings, output) as service:
        task_id = await finished_video(service, tmp_path)
        sandbox.fault("result", **fault)
        with pytest.raises(error) as caught:
            await service.save(task_id)
        assert text in (None, str(caught.value))
        assert list(output.iterdir()) == []
        assert len((await service.save(task_id)).files) == 1


async def test_a_running_task_has_nothing_to_save(settings: Settings, output: Path, sandbox: SandboxControl) -> None:
    sandbox.set(polls=1000)
    async with serve(settings, output) as service:
        task = await service.submit(MidjourneyUpscale(UPSCALED, "subtle"), SubmitOptions())
        with pytest.raises(InputRejectedError, match="has no result to save"):
            await service.save(task.task_id or "")


@pytest.mark.parametrize("directory", ["/etc", "relative", "~/../../etc", "~nobody-here/x", "/home/a\0b"])
async def test_a_folder_outside_the_allowed_ones_is_refused(settings: Settings, output: Path, directory: str) -> None:
    async with serve(settings, output) as service:
        with pytest.raises(InputRejectedError, match="is outside the folders that may be used"):
            await service.save(UPSCALED, directory)


async def test_a_folder_that_the_caller_names_is_created(settings: Settings, output: Path, tmp_path: Path) -> None:
    async with serve(settings, output) as service:
        (saved,) = (await service.save(UPSCALED, str(tmp_path / "mine" / "deep"))).files
    assert Path(saved.path).parent == tmp_path / "mine" / "deep"


async def test_a_folder_that_cannot_be_written_is_refused_with_a_remedy(
    settings: Settings, tmp_path: Path, output: Path
) -> None:
    del output
    (tmp_path / "taken").write_text("a file where the folder should be")
    async with serve(settings, tmp_path / "taken") as service:
        with pytest.raises(ResultError, match=r"The result cannot be written \(.*\)\. Nothing was lost"):
            await service.save(UPSCALED)


def reply_with(output: dict[str, Any]) -> dict[str, Any]:
    """Plan a reply that shows a completed task with this *output*."""
    task = {"task_id": UPSCALED, "model": "Qubico/image-toolkit", "status": "completed", "output": output}
    return {"kind": "answer", "status": 200, "body": json.dumps({"code": 200, "data": task, "message": "success"})}


async def test_a_result_in_base64_is_saved(settings: Settings, output: Path, sandbox: SandboxControl) -> None:
    """Client code: the image toolkit may answer with `image_base64`."""
    image = base64.b64encode(make_image(width=40, height=30)).decode()
    sandbox.fault("read", **reply_with({"image_base64": image}))
    async with serve(settings, output) as service:
        (saved,) = (await service.save(UPSCALED)).files
    assert (saved.width_px, saved.height_px) == (40, 30)


async def test_several_results_are_all_saved(
    settings: Settings, output: Path, sandbox: SandboxControl, base_url: str
) -> None:
    urls = [f"{base_url}/results/{Sample(version, is_grid=True).file_name}" for version in ("5", "6")]
    sandbox.fault("read", **reply_with({"image_urls": urls}))
    async with serve(settings, output) as service:
        files = (await service.save(UPSCALED)).files
    assert [Path(saved.path).stem[-2:] for saved in files] == ["-1", "-2"]
    assert len({saved.path for saved in files}) == 2
