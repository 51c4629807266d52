"""The server over HTTP as a team runs it: a subprocess, real clients on both transports, keys that share nothing."""

import subprocess
from collections.abc import Generator

import httpx
import pytest

from piapi_mcp.errors import SettingsError
from piapi_mcp.hosting.app import check_listen_address, is_loopback
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import SAMPLES
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.settings import Settings
from tests.support.http_server import (
    COMMAND,
    Era,
    HttpServer,
    call_tool,
    connect,
    environment,
    post,
    run_server,
    run_shared_server,
)
from tests.support.messages import INITIALIZE
from tests.support.stdio_server import KEY, UPSCALE_ARGUMENTS

TOKEN = "t0ken-of-the-team"
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 -- the address that must be refused
ORIGIN = "https://app.example.com"
SERVERS_KEY_IS_OPEN = (
    "On 0.0.0.0, anyone who can connect could spend money with PIAPI_API_KEY. Set PIAPI_MCP_ACCESS_TOKEN, which "
    "clients then send as a bearer token; or set PIAPI_MCP_OAUTH_ISSUER and PIAPI_MCP_OAUTH_AUDIENCE; or unset "
    "PIAPI_API_KEY, so that each client sends its own key; or listen on 127.0.0.1."
)
NO_HOST_NAME = (
    "On 0.0.0.0, the server must know the host names that clients use; without them, any web page could reach it. "
    "Pass each name with --allowed-host, such as --allowed-host mcp.example.com:*"
)


@pytest.mark.parametrize("transport", ["sse", "streamable-http"])
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_client_submits_waits_with_progress_and_gets_the_result(
    http_server: HttpServer, own_key: str, sandbox: SandboxControl, transport: str, era: Era
) -> None:
    sandbox.set(polls=3)
    reported: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        reported.append(progress)

    async with connect(http_server.url, transport, era, x_api_key=own_key) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        submitted = await call_tool(client, "midjourney_upscale", UPSCALE_ARGUMENTS)
        arguments = {"task_id": submitted["task_id"], "wait_seconds": 20}
        done = await client.call_tool("get_task", arguments, progress_callback=on_progress)
    assert "save_result" not in names
    assert done.structured_content is not None
    assert done.structured_content["status"] == "completed"
    assert "save_result" not in done.structured_content["next_step"]
    assert reported == sorted(set(reported))
    assert reported


async def test_keys_share_nothing(http_server: HttpServer, own_key: str, sandbox: SandboxControl) -> None:
    url, another_key = http_server.url, f"{own_key}-another"
    async with connect(url, "streamable-http", "legacy", x_api_key=own_key) as one:
        first = await call_tool(one, "midjourney_upscale", UPSCALE_ARGUMENTS)
    async with connect(url, "streamable-http", "auto", authorization=f"Bearer {another_key}") as another:
        second = await call_tool(another, "midjourney_upscale", UPSCALE_ARGUMENTS)
        listed = await call_tool(another, "list_tasks", {"limit": 100})
        stolen = await another.call_tool("get_task", {"task_id": first["task_id"]})
        cancelled = await another.call_tool("cancel_task", {"task_id": first["task_id"]})
    async with connect(url, "streamable-http", "legacy") as without_key:
        refused = await without_key.call_tool("get_account", {})
    assert first["task_id"] != second["task_id"]
    known = {second["task_id"], *(sample.task_id for sample in SAMPLES)}
    assert {task["task_id"] for task in listed["tasks"]} == known
    assert stolen.is_error
    assert cancelled.is_error
    assert refused.is_error
    assert "No PiAPI key came with the request" in str(refused.content)
    assert len(sandbox.tasks()) == 2


async def test_local_files_cannot_be_read_over_http(
    http_server: HttpServer, own_key: str, sandbox: SandboxControl
) -> None:
    """Not even those that PIAPI_ALLOWED_DIRS allows, which this server has set to `/`."""
    async with connect(http_server.url, "streamable-http", "auto", x_api_key=own_key) as client:
        result = await client.call_tool("video_upscale", {"video": "/etc/passwd"})
    assert result.is_error
    assert "this server reads none" in str(result.content)
    assert sandbox.requests("create") == []


def test_the_servers_own_key_is_used_only_with_the_access_token(settings: Settings) -> None:
    with run_server(settings, PIAPI_API_KEY=KEY, PIAPI_MCP_ACCESS_TOKEN=TOKEN) as server:
        url = server.url
        assert post(url, INITIALIZE).status_code == 401
        assert post(url, INITIALIZE, authorization="Bearer wrong").status_code == 401
        assert post(url, INITIALIZE, authorization=f"Bearer {TOKEN}").status_code == 200
        assert post(url, INITIALIZE, x_api_key="sandbox-own").status_code == 200
        assert httpx.get(f"{url}/sse", trust_env=False).status_code == 401
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok"}


@pytest.fixture(scope="module")
def published_url(sandbox_server: SandboxServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Return the address of a server that one more name and the pages of one origin may use."""
    options = ("--allowed-host", "mcp.example.com", "--allowed-origin", ORIGIN)
    with run_shared_server(sandbox_server.base_url, tmp_path_factory.mktemp("published"), *options) as server:
        yield server.url


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"host": "evil.example"}, 421, id="another-host"),
        pytest.param({"origin": "https://evil.example"}, 403, id="another-origin"),
        pytest.param({"host": "mcp.example.com"}, 200, id="an-allowed-host"),
        pytest.param({"origin": ORIGIN}, 200, id="an-allowed-origin"),
    ],
)
def test_host_and_origin_are_checked(published_url: str, headers: dict[str, str], status: int) -> None:
    assert post(published_url, INITIALIZE, **headers).status_code == status


def test_browsers_let_only_allowed_pages_read_the_answers(published_url: str) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-api-key"}

    def allowed_origin(origin: str) -> str | None:
        reply = httpx.options(f"{published_url}/mcp", headers=preflight | {"origin": origin}, trust_env=False)
        return reply.headers.get("access-control-allow-origin")

    assert allowed_origin(ORIGIN) == ORIGIN
    assert allowed_origin("https://evil.example") is None
    assert post(published_url, INITIALIZE, origin=ORIGIN).headers["access-control-allow-origin"] == ORIGIN


def test_a_server_that_reaches_piapi_is_ready(http_server: HttpServer) -> None:
    assert httpx.get(f"{http_server.url}/readyz", trust_env=False).json() == {"status": "ok"}


def test_a_server_that_does_not_reach_piapi_says_so(settings: Settings) -> None:
    with run_server(settings, PIAPI_BASE_URL="http://127.0.0.1:1") as server:
        reply = httpx.get(f"{server.url}/readyz", trust_env=False)
    assert reply.status_code == 503
    assert "PiAPI could not be reached" in reply.json()["reason"]


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        pytest.param({"PIAPI_API_KEY": KEY}, SERVERS_KEY_IS_OPEN, id="its-own-key-for-anybody"),
        pytest.param({}, NO_HOST_NAME, id="no-host-name"),
    ],
)
def test_a_server_that_strangers_could_misuse_is_refused(environ: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_listen_address(Settings.from_env(environ), ALL_ADDRESSES)
    assert str(caught.value) == text


def test_only_loopback_addresses_count_as_this_machine() -> None:
    hosts = ("127.0.0.1", "::1", "localhost", "10.0.0.1", ALL_ADDRESSES, "mcp.example.com")
    assert [host for host in hosts if is_loopback(host)] == ["127.0.0.1", "::1", "localhost"]


def test_a_server_that_strangers_could_misuse_does_not_start(settings: Settings) -> None:
    command = [*COMMAND, "--host", ALL_ADDRESSES]
    env = environment(settings, PIAPI_API_KEY=KEY)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, f"piapi-mcp: {SERVERS_KEY_IS_OPEN}\n")
