"""A lost task is found again, and never mistaken for another: by its mark, by what PiAPI echoes, or as the only one."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from piapi_mcp.errors import OutcomeUnknownError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.video import VideoUpscale
from tests.support.media_files import make_image
from tests.support.services import serve, upscale, write_clip

ECHOES = ("full", "none", "refused")


@pytest.mark.parametrize("echo", ECHOES)
async def test_a_lost_task_is_found_whatever_piapi_does_with_the_mark(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path, echo: str
) -> None:
    """The one submission of its kind at its time is certain without a mark, too."""
    sandbox.set(config_echo=echo, does_work=True)
    lose(sandbox, skip=1 if echo == "refused" else 0)  # the first answer of that one is the refusal of the mark
    async with serve(settings) as service:
        task = await service.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions())
    assert [task.task_id] == [found["task_id"] for found in sandbox.tasks()]
    assert task.notes is not None
    assert "the task was found in its history" in task.notes[-1]


async def test_twenty_lost_files_at_once_are_all_found_and_none_is_confused(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    """The mark proves what nothing else can: which of many files a task is."""
    sandbox.set(max_concurrent_tasks=100)
    lose(sandbox, times=20)
    async with serve(settings) as service, asyncio.timeout(60):
        clips = [write_clip(tmp_path, f"{number}.mp4", frames=10 + number) for number in range(20)]
        found = await asyncio.gather(*(service.submit(VideoUpscale(clip), SubmitOptions()) for clip in clips))
        again = await asyncio.gather(*(service.submit(VideoUpscale(clip), SubmitOptions()) for clip in clips))
    ids = [task.task_id for task in found]
    assert len(set(ids)) == 20
    assert [task.task_id for task in again] == ids
    assert len(sandbox.tasks()) == 20


@pytest.mark.parametrize("echo", ["none", "refused"])
async def test_without_a_mark_two_lost_files_are_not_mistaken_for_each_other(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path, echo: str
) -> None:
    sandbox.set(config_echo=echo, does_work=True)
    sandbox.fault("create", "cut", skip=1 if echo == "refused" else 0)
    lose(sandbox, skip=2 if echo == "refused" else 1)
    async with serve(settings) as service:
        for width in (10, 11):
            (tmp_path / "a.png").write_bytes(make_image(width=width))
            with pytest.raises(OutcomeUnknownError):
                await service.submit(ImageUpscale(str(tmp_path / "a.png")), SubmitOptions())


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"frozen_points": 999}, id="another-price"),
        pytest.param({"clock_offset_s": 86_400.0}, id="another-time"),
    ],
)
async def test_a_strangers_task_is_not_taken_for_a_lost_file(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path, changed: dict[str, object]
) -> None:
    """Another program may use the same key: only the price and the time tell its tasks apart."""
    sandbox.set(config_echo="none", does_work=True)
    async with serve(settings, state_dir=tmp_path / "elsewhere") as stranger:
        if "clock_offset_s" in changed:
            sandbox.set(**changed)
        await stranger.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions())
        sandbox.set(clock_offset_s=0.0)
    sandbox.fault("create", "cut")  # ours is never accepted
    sandbox.set(**({} if "clock_offset_s" in changed else changed))
    async with serve(settings) as service:
        with pytest.raises(OutcomeUnknownError):
            await service.submit(VideoUpscale(write_clip(tmp_path, fps=25)), SubmitOptions())


@pytest.mark.parametrize("offset_s", [600.0, -600.0])
async def test_a_lost_task_is_found_although_the_clocks_differ(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path, offset_s: float
) -> None:
    sandbox.set(config_echo="none", clock_offset_s=offset_s, does_work=True)
    lose(sandbox)
    async with serve(settings) as service:
        task = await service.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions())
    assert task.task_id == sandbox.tasks()[0]["task_id"]


async def test_a_lost_task_is_found_behind_many_newer_ones(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(config_echo="none", max_concurrent_tasks=1000, balance_points=10**9)
    sandbox.fault("history", "answer", status=502, times=99)
    lose(sandbox)
    async with serve(settings) as service, serve(settings, key="sandbox-s3cr3t-key~other") as other:
        with pytest.raises(OutcomeUnknownError):
            await upscale(service, "1")
        for _ in range(3):
            await asyncio.gather(*(upscale(other, "2", SubmitOptions(allow_repeat=True)) for _ in range(40)))
        sandbox.clear_faults()
        task = await upscale(service, "1")
    assert task.task_id == sandbox.tasks()[0]["task_id"]


async def test_a_row_that_cannot_be_read_hides_no_marked_task_and_proves_nothing_about_a_file(
    settings: Settings, sandbox: SandboxControl, tmp_path: Path
) -> None:
    async with serve(settings, state_dir=tmp_path / "elsewhere") as stranger:
        other = await stranger.submit(VideoUpscale(write_clip(tmp_path)), SubmitOptions())
    for echo in ("full", "none"):
        sandbox.set(config_echo=echo, unreadable_tasks=[other.task_id], does_work=True)
        lose(sandbox)
        async with serve(settings, state_dir=tmp_path / echo) as service:
            submission = service.submit(VideoUpscale(write_clip(tmp_path, frames=12)), SubmitOptions())
            if echo == "full":
                assert (await submission).task_id == sandbox.tasks()[-1]["task_id"]
            else:
                with pytest.raises(OutcomeUnknownError):
                    await submission


async def test_one_task_is_handed_to_one_call_only(settings: Settings, sandbox: SandboxControl) -> None:
    """Two lost submissions of the same request, and one task of them in the history."""
    sandbox.set(config_echo="none")
    sandbox.fault("create", "cut")
    lose(sandbox, skip=1)
    async with serve(settings) as service:
        outcomes = [
            await asyncio.gather(upscale(service, options=SubmitOptions(allow_repeat=True)), return_exceptions=True)
            for _ in range(2)
        ]
        listed = await service.list_tasks(limit=50)
    found = [outcome for (outcome,) in outcomes if not isinstance(outcome, BaseException)]
    assert len(found) == 1
    assert [line.status for line in listed.tasks].count("unknown") == 1


async def test_a_secret_of_the_caller_is_never_replaced_by_a_mark(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(config_echo="refused")  # refuses a secret without an endpoint only
    options = SubmitOptions(webhook_endpoint="http://127.0.0.1:9", webhook_secret=SecretStr("hook-s3cret"))
    async with serve(settings) as service:
        await upscale(service, options=options)
    assert len(sandbox.requests("create")) == 1


def lose(sandbox: SandboxControl, *, times: int = 1, skip: int = 0) -> None:
    """Let PiAPI accept submissions whose replies are lost."""
    sandbox.fault("create", "cut", when="after", times=times, skip=skip)
