"""The server over HTTP as a team runs it: a subprocess, real clients on both transports, keys that share nothing."""

import subprocess

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import SAMPLES
from piapi_mcp.settings import Settings
from tests.support.http_server import COMMAND, OWN_KEY, PAID, Era, call, client, environment, serve
from tests.support.messages import ACCEPT, INITIALIZE

TOKEN = "t0ken-of-the-team"


@pytest.mark.parametrize("transport", ["sse", "streamable-http"])
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_client_submits_waits_with_progress_and_gets_the_result(
    settings: Settings, sandbox: SandboxControl, transport: str, era: Era
) -> None:
    sandbox.set(polls=3)
    heard: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        heard.append(progress)

    with serve(settings, PIAPI_API_KEY=OWN_KEY) as url:
        async with client(url, transport, era) as connected:
            names = [tool.name for tool in (await connected.list_tools()).tools]
            submitted = await call(connected, "midjourney_upscale", PAID)
            arguments = {"task_id": submitted["task_id"], "wait_seconds": 20}
            done = await connected.call_tool("get_task", arguments, progress_callback=note)
    assert "save_result" not in names
    assert done.structured_content is not None
    assert done.structured_content["status"] == "completed"
    assert "save_result" not in done.structured_content["next_step"]
    assert heard == sorted(set(heard))
    assert heard


async def test_keys_share_nothing(settings: Settings, sandbox: SandboxControl) -> None:
    with serve(settings) as url:
        async with client(url, "streamable-http", "legacy", x_api_key="sandbox-a") as a:
            first = await call(a, "midjourney_upscale", PAID)
        async with client(url, "streamable-http", "auto", authorization="Bearer sandbox-b") as b:
            second = await call(b, "midjourney_upscale", PAID)
            listed = await call(b, "list_tasks", {"limit": 100})
            stolen = await b.call_tool("get_task", {"task_id": first["task_id"]})
            cancelled = await b.call_tool("cancel_task", {"task_id": first["task_id"]})
        async with client(url, "streamable-http", "legacy") as nobody:
            refused = await nobody.call_tool("get_account", {})
    assert first["task_id"] != second["task_id"]
    known = {second["task_id"], *(sample.task_id for sample in SAMPLES)}
    assert {task["task_id"] for task in listed["tasks"]} == known
    assert stolen.is_error
    assert cancelled.is_error
    assert refused.is_error
    assert "No PiAPI key came with the request" in str(refused.content)
    assert len(sandbox.tasks()) == 2


async def test_local_files_do_not_exist_over_http(settings: Settings, sandbox: SandboxControl) -> None:
    with serve(settings, PIAPI_API_KEY=OWN_KEY, PIAPI_ALLOWED_DIRS="/") as url:
        async with client(url, "streamable-http", "auto") as connected:
            result = await connected.call_tool("video_upscale", {"video": "/etc/passwd"})
    assert result.is_error
    assert "this server reads none" in str(result.content)
    assert sandbox.requests() == []


def test_the_access_token_opens_the_servers_own_key(settings: Settings) -> None:
    with serve(settings, PIAPI_API_KEY=OWN_KEY, PIAPI_MCP_ACCESS_TOKEN=TOKEN) as url:

        def status(headers: dict[str, str]) -> int:
            return httpx.post(f"{url}/mcp", json=INITIALIZE, headers=ACCEPT | headers, trust_env=False).status_code

        assert status({}) == 401
        assert status({"authorization": "Bearer wrong"}) == 401
        assert status({"authorization": f"Bearer {TOKEN}"}) == 200
        assert status({"x-api-key": "sandbox-own"}) == 200
        assert httpx.get(f"{url}/sse", trust_env=False).status_code == 401
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"host": "evil.example"}, 421, id="another-host"),
        pytest.param({"origin": "https://evil.example"}, 403, id="another-origin"),
        pytest.param({"host": "mcp.example.com"}, 200, id="an-allowed-host"),
        pytest.param({"origin": "https://app.example.com"}, 200, id="an-allowed-origin"),
    ],
)
def test_host_and_origin_are_checked(settings: Settings, headers: dict[str, str], status: int) -> None:
    allowed = ("--allowed-host", "mcp.example.com", "--allowed-origin", "https://app.example.com")
    with serve(settings, *allowed) as url:
        reply = httpx.post(f"{url}/mcp", json=INITIALIZE, headers=ACCEPT | headers, trust_env=False)
    assert reply.status_code == status


def test_browsers_let_allowed_pages_read_the_answers(settings: Settings) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-api-key"}
    with serve(settings, "--allowed-origin", "https://app.example.com") as url:

        def preflight(origin: str) -> str | None:
            reply = httpx.options(f"{url}/mcp", headers=asked | {"origin": origin}, trust_env=False)
            return reply.headers.get("access-control-allow-origin")

        allowed, other = preflight("https://app.example.com"), preflight("https://evil.example")
        reply = httpx.post(
            f"{url}/mcp", json=INITIALIZE, headers=ACCEPT | {"origin": "https://app.example.com"}, trust_env=False
        )
    assert (allowed, other) == ("https://app.example.com", None)
    assert reply.headers["access-control-allow-origin"] == "https://app.example.com"


def test_readiness_tells_what_is_missing(settings: Settings) -> None:
    with serve(settings) as url:
        assert httpx.get(f"{url}/readyz", trust_env=False).json() == {"status": "ok"}
    with serve(settings, PIAPI_BASE_URL="http://127.0.0.1:1") as url:
        reply = httpx.get(f"{url}/readyz", trust_env=False)
    assert reply.status_code == 503
    assert "PiAPI could not be reached" in reply.json()["reason"]


@pytest.mark.parametrize(
    ("arguments", "more", "text"),
    [
        pytest.param(
            ["--host", "0.0.0.0"],  # noqa: S104 -- what must be refused
            {"PIAPI_API_KEY": OWN_KEY},
            "piapi-mcp: On 0.0.0.0, anyone who can connect could spend money with PIAPI_API_KEY. Set "
            "PIAPI_MCP_ACCESS_TOKEN, which clients then send as a bearer token; or set PIAPI_MCP_OAUTH_ISSUER and "
            "PIAPI_MCP_OAUTH_AUDIENCE; or unset PIAPI_API_KEY, so that each client sends its own key; or listen on "
            "127.0.0.1.\n",
            id="its-own-key-for-anybody",
        ),
        pytest.param(
            ["--host", "0.0.0.0"],  # noqa: S104 -- what must be refused
            {},
            "piapi-mcp: On 0.0.0.0, the server must know the host names that clients use; without them, any web page "
            "could reach it. Pass each name with --allowed-host, such as --allowed-host mcp.example.com:*\n",
            id="no-name",
        ),
    ],
)
def test_an_open_server_is_not_started(
    settings: Settings, arguments: list[str], more: dict[str, str], text: str
) -> None:
    env = environment(settings, **more)
    done = subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, text)
