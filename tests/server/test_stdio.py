"""The command as clients start it: a subprocess that speaks MCP over its standard streams."""

import subprocess
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from mcp import Client, StdioServerParameters

from piapi_mcp import __version__
from piapi_mcp.commands.demo import run_demo
from piapi_mcp.errors import PiAPIError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from tests.support.media_files import make_clip
from tests.support.messages import INITIALIZE
from tests.support.stdio_server import COMMAND, UPSCALE_ARGUMENTS, environment, exchange, start_server


def test_raw_messages_are_answered_and_stdout_holds_nothing_else(settings: Settings) -> None:
    """The specification: only MCP messages on stdout, and the server ends soon after its input."""
    with start_server(settings, "--log-level", "DEBUG") as server:
        hello = exchange(server, INITIALIZE)
        assert hello["result"]["protocolVersion"] == "2025-11-25"
        assert hello["result"]["serverInfo"]["version"] == __version__
        call = {"name": "midjourney_upscale", "arguments": UPSCALE_ARGUMENTS}
        answer = exchange(server, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call})
        assert answer["result"]["structuredContent"]["status"] == "pending"
        rest, logs = server.communicate(timeout=20)
    assert server.returncode == 0
    assert rest == ""
    assert "s3cr3t" not in logs


def test_a_request_of_the_modern_era_needs_no_handshake(settings: Settings) -> None:
    """The specification of 2026-07-28: each request names its version."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    with start_server(settings) as server:
        listed = exchange(server, {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})
        server.communicate(timeout=20)
    assert listed["result"]["resultType"] == "complete"
    assert listed["result"]["tools"][0]["name"] == "midjourney_upscale"


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_client_submits_polls_and_gets_the_result(
    settings: Settings, sandbox: SandboxControl, era: Literal["auto", "legacy"]
) -> None:
    server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment(settings))
    async with Client(server, mode=era) as client:
        submitted = await client.call_tool("midjourney_upscale", UPSCALE_ARGUMENTS)
        assert submitted.structured_content is not None
        task_id = cast("str", submitted.structured_content["task_id"])
        done = await client.call_tool("get_task", {"task_id": task_id, "wait_seconds": 20})
    assert done.structured_content is not None
    assert done.structured_content["status"] == "completed"
    assert [task["task_id"] for task in sandbox.tasks()] == [task_id]


async def test_a_new_process_for_each_call_loses_nothing(settings: Settings, sandbox: SandboxControl) -> None:
    """Some clients start a new server for every call."""
    server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment(settings))
    answers: list[dict[str, Any]] = []
    for _ in range(2):
        async with Client(server) as client:
            result = await client.call_tool("midjourney_upscale", UPSCALE_ARGUMENTS)
            answers.append(cast("dict[str, Any]", result.structured_content))
    assert answers[0]["task_id"] == answers[1]["task_id"]
    assert answers[1]["notes"][0].startswith("The same request was submitted before")
    assert len(sandbox.tasks()) == 1


async def test_with_the_built_in_sandbox_no_key_is_needed(settings: Settings) -> None:
    env = environment(settings, PIAPI_API_KEY="${PIAPI_API_KEY}")
    server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "--sandbox"], env=env)
    async with Client(server) as client:
        result = await client.call_tool("midjourney_upscale", UPSCALE_ARGUMENTS | {"wait_seconds": 20})
    assert result.structured_content is not None
    assert result.structured_content["status"] == "completed"


def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(settings: Settings) -> None:
    with start_server(settings, PIAPI_SERVICE_MODE="free") as server:
        out, err = server.communicate(timeout=20)
    assert (server.returncode, out) == (2, "")
    assert err == (
        'piapi-mcp: PIAPI_SERVICE_MODE="free" is not valid. Allowed: public or private. Correct it, or unset it.\n'
    )


def test_the_sandbox_command_prints_the_address_of_a_running_sandbox(settings: Settings) -> None:
    with start_server(settings, "sandbox") as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        control = SandboxControl(address)
        assert control.requests() == []
        control.close()
        server.terminate()


def test_the_demo_upscales_a_video_and_an_image(settings: Settings, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = subprocess.run(
        [*COMMAND, "demo", "--output", str(output)],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "checked: 640x360 px, 48 frames, 24 fps, charged $0.0144" in done.stdout
    assert "checked: 1024x1024 px" in done.stdout
    assert {path.name for path in output.iterdir()} == {"clip-2x.mp4", "midjourney-v6-subtle.png"}
    assert '"PIAPI_API_KEY": "your key"' in done.stdout


def test_the_demo_ends_with_status_1_when_the_file_does_not_exist(settings: Settings, tmp_path: Path) -> None:
    command = [*COMMAND, "demo", str(tmp_path / "missing.mp4"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("piapi-mcp: There is no file")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"no video", "cannot be read as a video", id="not-a-video"),
        pytest.param(
            make_clip(frames=9),
            "The video has 9 frames; PiAPI accepts 10 to 240. Nothing was submitted; make it longer",
            id="refused-by-the-server",
        ),
    ],
)
def test_the_demo_refuses_a_file_that_cannot_be_upscaled(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(PiAPIError, match=text):
        run_demo(path, tmp_path / "out")


def test_the_version_is_printed() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"piapi-mcp {__version__}\n"


def test_sigterm_lets_the_built_in_sandbox_remove_its_files(settings: Settings, tmp_path: Path) -> None:
    with start_server(settings, "--sandbox", TMPDIR=str(tmp_path)) as server:
        exchange(server, INITIALIZE)
        assert len(list(tmp_path.glob("piapi-sandbox-*"))) == 1
        server.terminate()
        server.communicate(timeout=20)
    assert server.returncode == 0
    assert list(tmp_path.glob("piapi-sandbox-*")) == []
