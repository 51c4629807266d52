"""The origin task is checked with PiAPI, free of charge, before an upscale of it is bought."""

from typing import Any

import pytest

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.midjourney import MidjourneyUpscale
from piapi_mcp.tasks.request import SubmitOptions
from tests.support.services import GRID, serve, upscale


@pytest.mark.parametrize(
    ("origin", "index", "text"),
    [
        pytest.param(
            Sample("6", is_grid=True).task_id,
            "subtle",
            f"index=subtle is not offered for the origin task {GRID}. Allowed for it: 1, 2, 3, 4. "
            "Nothing was submitted; call again with one that is.",
            id="index-of-another-kind",
        ),
        pytest.param(
            Sample("5", is_grid=False).task_id,
            "1",
            f"index=1 is not offered for the origin task {Sample('5', is_grid=False).task_id}. Allowed for it: 2x, 4x. "
            "Nothing was submitted; call again with one that is.",
            id="grid-index-of-an-upscaled-image",
        ),
        pytest.param(
            "no-such-task",
            "1",
            'PiAPI shows no task "no-such-task" to this key. Pass the task_id exactly as the submission returned it. '
            "This call bought nothing. list_tasks shows the tasks that can be upscaled. Nothing was submitted.",
            id="unknown-origin",
        ),
    ],
)
async def test_an_index_that_the_origin_task_does_not_offer_is_refused_with_those_it_does(
    settings: Settings, sandbox: SandboxControl, origin: str, index: Any, text: str
) -> None:
    async with serve(settings) as service:
        with pytest.raises(InputRejectedError) as caught:
            await service.submit(MidjourneyUpscale(origin, index), SubmitOptions())
    assert str(caught.value) == text
    assert sandbox.requests("create") == []


async def test_an_unfinished_origin_task_is_refused(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=1000)
    async with serve(settings) as service:
        running = await upscale(service)
        assert running.task_id is not None
        with pytest.raises(InputRejectedError, match=r"is (pending|processing), not completed"):
            await service.submit(MidjourneyUpscale(running.task_id, "subtle"), SubmitOptions())
    assert len(sandbox.tasks()) == 1


async def test_an_origin_task_that_cannot_be_read_stops_nothing(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.fault("read", "answer", status=502, times=3)
    async with serve(settings) as service:
        task = await upscale(service)
    assert task.notes == ["PiAPI does not list what can be done with the origin task, so the index was not checked."]
