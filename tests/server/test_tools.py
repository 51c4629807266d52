"""The tools as an agent meets them: through a real client, with the sandbox in place of PiAPI.

Both protocol eras are tried where the answer depends on the protocol: lists, results, errors, progress, cancellation.
"""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any, Literal, cast

import httpx
import pytest
from mcp import Client
from mcp.types import CallToolResult, ResourceLink, TextContent

from piapi_mcp import __version__
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.server.build import build_server
from piapi_mcp.settings import Settings
from tests.support.media_files import make_clip

GRID = Sample("6", is_grid=True).task_id
PAID = {"origin_task_id": GRID, "index": "3"}
GOLDEN = Path(__file__).with_name("tools_list.json")

Era = Literal["auto", "legacy"]
both_eras = pytest.mark.parametrize("era", ["auto", "legacy"])


def text_of(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


def facts_of(result: CallToolResult) -> dict[str, Any]:
    """Return the structured answer, after checking that the text carries the same."""
    assert not result.is_error, text_of(result)
    assert json.loads(text_of(result)) == result.structured_content
    return cast("dict[str, Any]", result.structured_content)


@both_eras
async def test_the_server_says_who_it_is(settings: Settings, era: Era) -> None:
    async with Client(build_server(settings), mode=era) as client:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("piapi-mcp", __version__)
        assert client.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[era]
        assert "get_task" in (client.instructions or "")


@both_eras
async def test_the_list_of_tools_is_the_reviewed_one(era: Era) -> None:
    """A change of what models read is reviewed: check the difference, then write the new list into the file."""
    async with Client(build_server(Settings.from_env({})), mode=era) as client:
        tools = (await client.list_tools()).tools
    listed = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    assert listed == json.loads(GOLDEN.read_text())


async def test_every_schema_is_flat_described_and_small() -> None:
    async with Client(build_server(Settings.from_env({}))) as client:
        tools = (await client.list_tools()).tools
    for tool in tools:
        schema = tool.input_schema
        assert schema["additionalProperties"] is False
        assert not {"anyOf", "oneOf", "allOf", "$ref", "$defs"} & set(schema)
        assert "$ref" not in json.dumps([schema, tool.output_schema])
        words = {"description", "type", "enum", "pattern", "minimum", "maximum", "default"}
        assert all("description" in argument for argument in schema["properties"].values())
        assert all(set(argument) <= words for argument in schema["properties"].values())
        assert len(tool.description or "") <= 300
        hints = tool.annotations
        assert hints is not None
        assert None not in (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
    sizes = [len(json.dumps([tool.name, tool.description, tool.input_schema], separators=(",", ":"))) for tool in tools]
    assert sum(sizes) <= 6000


@both_eras
async def test_a_midjourney_image_is_upscaled(settings: Settings, era: Era) -> None:
    async with Client(build_server(settings), mode=era) as client:
        submitted = facts_of(await client.call_tool("midjourney_upscale", PAID))
        result = await client.call_tool("get_task", {"task_id": submitted["task_id"]})
    assert submitted["status"] == "pending"
    assert submitted["next_step"].startswith("It is running: call get_task with this task_id")
    done = facts_of(result)
    assert (done["status"], done["charged_usd"], done["progress_percent"]) == ("completed", 0.01, 100)
    (link,) = [part for part in result.content if isinstance(part, ResourceLink)]
    assert [link.uri] == done["result_urls"]
    assert link.mime_type == "image/png"


@pytest.mark.parametrize("form", ["path", "base64", "data-uri"])
async def test_a_video_is_quoted_by_its_frames_and_submitted(
    settings: Settings, tmp_path: Path, sandbox: SandboxControl, form: str
) -> None:
    sandbox.set(does_work=True)
    clip = make_clip(frames=30)
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    encoded = base64.b64encode(clip).decode()
    video = {"path": str(path), "base64": encoded, "data-uri": f"data:video/mp4;base64,{encoded}"}[form]
    async with Client(build_server(settings)) as client:
        task = facts_of(await client.call_tool("video_upscale", {"video": video, "wait_seconds": 30}))
    assert (task["status"], task["quoted_usd"], task["charged_usd"]) == ("completed", 0.009, 0.009)


async def test_a_video_at_a_url_is_probed_and_passed_on(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(does_work=True)
    file_data = base64.b64encode(make_clip(frames=30)).decode()
    upload = httpx.post(
        f"{settings.base_url}/api/ephemeral_resource",
        json={"file_name": "a.mp4", "file_data": file_data},
        headers={"x-api-key": "sandbox-a"},
        trust_env=False,
    ).json()
    async with Client(build_server(settings)) as client:
        arguments = {"video": upload["data"]["url"], "wait_seconds": 30}
        task = facts_of(await client.call_tool("video_upscale", arguments))
    assert (task["status"], task["quoted_usd"], task["charged_usd"]) == ("completed", 0.009, 0.009)


async def test_a_video_that_cannot_be_probed_is_passed_on_with_a_note(
    settings: Settings, sandbox: SandboxControl
) -> None:
    """Ours: PiAPI fetches the video from elsewhere, so what fails here may succeed there."""
    async with Client(build_server(settings)) as client:
        arguments: dict[str, Any] = {"video": "http://127.0.0.1:9/a.mp4", "dry_run": True}
        task = facts_of(await client.call_tool("video_upscale", arguments))
        limited = await client.call_tool("video_upscale", arguments | {"max_cost_usd": 0.05})
    assert "quoted_usd" not in task
    assert task["at_most_usd"] == 0.072
    assert task["notes"][0].startswith("The video at the URL was not checked here (")
    assert text_of(limited).startswith("This task costs at most $0.072, more than max_cost_usd of $0.05.")
    assert sandbox.requests("create") == []


@pytest.mark.parametrize(
    ("made", "text"),
    [
        pytest.param(
            {"width": 1920, "height": 1080, "frames": 10},
            "The video is 1920x1080 px; PiAPI accepts at most 1280x720. Nothing was submitted; scale it down first.",
            id="too-large",
        ),
        pytest.param(
            {"frames": 9},
            "The video has 9 frames; PiAPI accepts 10 to 240. Nothing was submitted; make it longer first.",
            id="too-short",
        ),
        pytest.param(
            {"frames": 241, "width": 64, "height": 64},
            "The video has 241 frames; PiAPI accepts 10 to 240. Nothing was submitted; cut it into parts first.",
            id="too-long",
        ),
    ],
)
async def test_a_video_over_a_limit_is_never_submitted(
    settings: Settings, tmp_path: Path, sandbox: SandboxControl, made: dict[str, Any], text: str
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(make_clip(**made))
    async with Client(build_server(settings)) as client:
        result = await client.call_tool("video_upscale", {"video": str(path)})
    assert result.is_error
    assert text_of(result) == text
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        pytest.param(
            "midjourney_upscale",
            PAID | {"index": "5"},
            'index="5" cannot be used: allowed are 1, 2, 3, 4, light, beta, 2x, 4x, subtle, creative. '
            "Nothing was submitted; call midjourney_upscale again with that corrected.",
            id="not-in-the-enumeration",
        ),
        pytest.param(
            "midjourney_upscale",
            PAID | {"service_mod": "public", "index": "1"},
            '"service_mod" is not an argument of midjourney_upscale. Did you mean service_mode? Allowed: '
            "origin_task_id, index, service_mode, webhook_endpoint, webhook_secret, wait_seconds, max_cost_usd, "
            "allow_unknown_price, dry_run, allow_repeat. Nothing was submitted; call midjourney_upscale again with "
            "that corrected.",
            id="misspelt",
        ),
        pytest.param(
            "get_task",
            {"task_id": "../account/info"},
            'task_id="../account/info" cannot be used: it takes 6 to 64 letters, digits, - and _. '
            "Nothing was submitted; call get_task again with that corrected.",
            id="not-an-id",
        ),
        pytest.param(
            "get_task",
            {"task_id": GRID, "wait_seconds": -1},
            'wait_seconds="-1" cannot be used: it takes a number from 0 or more. '
            "Nothing was submitted; call get_task again with that corrected.",
            id="no-wait",
        ),
        pytest.param(
            "midjourney_upscale",
            PAID | {"max_cost_usd": True},
            'max_cost_usd="True" cannot be used: it takes a number from 0 or more. '
            "Nothing was submitted; call midjourney_upscale again with that corrected.",
            id="a-boolean-is-not-a-number",
        ),
        pytest.param(
            "get_account",
            {"x": 1},
            '"x" is not an argument of get_account. It takes no arguments. '
            "Nothing was submitted; call get_account again with that corrected.",
            id="no-arguments-at-all",
        ),
        pytest.param(
            "video_upscale",
            {},
            "video is missing. Full path or URL of an MP4 file, or a data URI, or base64. "
            "Nothing was submitted; call video_upscale again with that corrected.",
            id="missing",
        ),
        pytest.param(
            "midjourney_upscale",
            PAID | {"webhook_secret": "with\nnewline"},
            "webhook_secret cannot be used: it takes at most 500 printable ASCII characters, without spaces. "
            "Nothing was submitted; call midjourney_upscale again with that corrected.",
            id="a-secret-is-not-shown",
        ),
        pytest.param(
            "midjourney_upscale",
            PAID | {"webhook_secret": "alone"},
            "webhook_secret is given, but no webhook_endpoint to send it to. Nothing was submitted; "
            "call again with both or with neither.",
            id="a-secret-without-endpoint",
        ),
    ],
)
async def test_a_wrong_argument_is_refused_with_what_is_allowed(
    settings: Settings, sandbox: SandboxControl, tool: str, arguments: dict[str, Any], text: str
) -> None:
    async with Client(build_server(settings)) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert text_of(result) == text
    assert sandbox.requests("create") == []


async def test_a_whole_number_is_accepted_for_its_digits(settings: Settings, sandbox: SandboxControl) -> None:
    async with Client(build_server(settings)) as client:
        facts_of(await client.call_tool("midjourney_upscale", PAID | {"index": 3}))
    assert len(sandbox.tasks()) == 1


@both_eras
async def test_without_a_key_the_tools_are_listed_and_the_first_call_says_what_to_set(era: Era) -> None:
    async with Client(build_server(Settings.from_env({})), mode=era) as client:
        assert len((await client.list_tools()).tools) > 0
        result = await client.call_tool("get_task", {"task_id": GRID})
    assert result.is_error
    assert text_of(result) == (
        "No PiAPI key is set. Get one at https://piapi.ai/workspace/key, set PIAPI_API_KEY in the env block of this "
        "server's entry in the client's configuration (clients pass on no other variables), and restart the client. "
        "Nothing was submitted."
    )


@both_eras
async def test_a_wait_reports_progress_that_rises(settings: Settings, sandbox: SandboxControl, era: Era) -> None:
    sandbox.set(polls=4)
    reports: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, total, message))

    async with Client(build_server(settings), mode=era) as client:
        submitted = facts_of(await client.call_tool("midjourney_upscale", PAID))
        arguments = {"task_id": submitted["task_id"], "wait_seconds": 20}
        done = facts_of(await client.call_tool("get_task", arguments, progress_callback=note))
    assert done["status"] == "completed"
    values = [progress for progress, _, _ in reports]
    assert values == sorted(set(values))
    assert len(values) == 4
    assert reports[-1][1:] == (20, "completed, 100 %")


async def test_a_wait_that_ends_before_the_task_returns_its_state(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=1000)
    async with Client(build_server(settings)) as client:
        submitted = facts_of(await client.call_tool("midjourney_upscale", PAID))
        waited = facts_of(await client.call_tool("get_task", {"task_id": submitted["task_id"], "wait_seconds": 0.6}))
    assert waited["status"] in ("pending", "processing")
    assert waited["task_id"] == submitted["task_id"]


@both_eras
async def test_a_failed_task_is_returned_with_cause_logs_and_refund(
    settings: Settings, sandbox: SandboxControl, era: Era
) -> None:
    sandbox.fault("create", "fail_task", error={"code": 10003, "message": "content policy"}, logs=["worker says no"])
    async with Client(build_server(settings), mode=era) as client:
        task = facts_of(await client.call_tool("midjourney_upscale", PAID | {"wait_seconds": 20}))
    assert (task["status"], task["error"], task["charged_usd"]) == ("failed", "content policy", 0)
    assert task["logs"] == ["worker says no", "restored frozen points"]
    assert task["next_step"].startswith("It failed and was not charged")


@both_eras
async def test_a_call_that_is_cancelled_leaves_its_submission_alone(
    settings: Settings, sandbox: SandboxControl, era: Era
) -> None:
    sandbox.fault("create", "delay", delay_s=0.5)
    async with Client(build_server(settings), mode=era) as client:
        call = asyncio.create_task(client.call_tool("midjourney_upscale", PAID))
        await asyncio.to_thread(sandbox.wait_for, "create")
        call.cancel()
        await asyncio.wait({call})
    assert len(sandbox.tasks()) == 1
    async with Client(build_server(settings), mode=era) as client:
        again = facts_of(await client.call_tool("midjourney_upscale", PAID))
    assert again["task_id"] == sandbox.tasks()[0]["task_id"]


async def test_the_webhook_secret_appears_in_no_answer(settings: Settings) -> None:
    arguments = PAID | {"webhook_endpoint": "http://127.0.0.1:9/hook", "webhook_secret": "hook-s3cr3t"}
    async with Client(build_server(settings)) as client:
        submitted = await client.call_tool("midjourney_upscale", arguments)
        result = await client.call_tool("get_task", {"task_id": facts_of(submitted)["task_id"]})
    assert "s3cr3t" not in f"{submitted} {result}"
