"""OAuth as a resource server: a real issuer on loopback, real signatures, a server in a process of its own."""

import json
import time
from collections.abc import Generator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm

from piapi_mcp.errors import SettingsError
from piapi_mcp.hosting.app import build_app
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.settings import Settings
from tests.support.http_server import HttpServer, post, run_server, run_shared_server
from tests.support.messages import INITIALIZE, modern
from tests.support.stdio_server import KEY as SERVERS_KEY
from tests.support.stdio_server import UPSCALE_ARGUMENTS
from tests.support.website import Website, open_website

AUDIENCE = "https://mcp.example.com/mcp"
KEY = ec.generate_private_key(ec.SECP256R1())
ANOTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def issuer() -> Generator[Website]:
    """Return an authorization server that publishes one key."""
    with open_website() as site:
        publish(site)
        yield site


@pytest.fixture(scope="module")
def shared_issuer() -> Generator[Website]:
    """Return an authorization server like `issuer`, for `shared_server`."""
    with open_website() as site:
        publish(site)
        yield site


@pytest.fixture(scope="module")
def shared_server(
    sandbox_server: SandboxServer, shared_issuer: Website, tmp_path_factory: pytest.TempPathFactory
) -> Generator[HttpServer]:
    """Return a server that accepts the tokens of `shared_issuer` and has a PiAPI key."""
    folder = tmp_path_factory.mktemp("oauth")
    options = oauth_options(shared_issuer)
    with run_shared_server(sandbox_server.base_url, folder, *options, PIAPI_API_KEY=SERVERS_KEY) as server:
        yield server


def publish(site: Website) -> None:
    """Let *site* publish its metadata and its key."""
    metadata = {"issuer": f"{site.origin}/team", "jwks_uri": f"{site.origin}/keys"}
    site.reply("/.well-known/oauth-authorization-server/team", 200, {}, json.dumps(metadata).encode())
    keys: list[dict[str, Any]] = [ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "a", "use": "sig"}]
    site.reply("/keys", 200, {}, json.dumps({"keys": keys}).encode())


def sign_token(site: Website, *, key: Any = KEY, kid: str | None = "a", algorithm: str = "ES256", **claims: Any) -> str:
    """Return a token that is valid but for *claims*; None leaves a claim out."""
    valid = {"iss": f"{site.origin}/team", "aud": AUDIENCE, "exp": time.time() + 600, "sub": "ada"}
    signed = {name: value for name, value in (valid | claims).items() if value is not None}
    return jwt.encode(signed, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def oauth_options(site: Website) -> tuple[str, ...]:
    return ("--oauth-issuer", f"{site.origin}/team", "--oauth-audience", AUDIENCE)


def initialize(url: str, token: str | None, **headers: str) -> httpx.Response:
    """Send a handshake with *token*, if there is one."""
    bearer = {"authorization": f"Bearer {token}"} if token else {}
    return post(url, INITIALIZE, **bearer, **headers)


def call_tool(url: str, token: str, tool: str, arguments: dict[str, Any], **headers: str) -> httpx.Response:
    """Call a tool in the era without handshake."""
    routing = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": tool}
    message = modern("tools/call", name=tool, arguments=arguments)
    return post(url, message, authorization=f"Bearer {token}", **routing, **headers)


@pytest.mark.parametrize(
    "valid",
    [
        pytest.param({}, id="as-usual"),
        pytest.param({"kid": None}, id="without-key-id"),
        pytest.param({"nbf": 1}, id="valid-since-long-ago"),
    ],
)
def test_a_token_of_the_issuer_for_this_server_is_accepted(
    shared_server: HttpServer, shared_issuer: Website, valid: dict[str, Any]
) -> None:
    token = sign_token(shared_issuer, **valid)
    account = call_tool(shared_server.url, token, "get_account", {}).json()
    assert initialize(shared_server.url, token).status_code == 200
    assert account["result"]["structuredContent"]["balance_usd"] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"aud": "https://other.example.com/mcp"}, id="for-another-server"),
        pytest.param({"aud": None}, id="without-audience"),
        pytest.param({"iss": "https://evil.example.com"}, id="of-another-issuer"),
        pytest.param({"exp": 1}, id="expired"),
        pytest.param({"exp": None}, id="never-expires"),
        pytest.param({"nbf": time.time() + 3600}, id="not-valid-yet"),
        pytest.param({"key": ANOTHER_KEY}, id="of-another-key"),
        pytest.param({"kid": "b"}, id="of-an-unknown-key"),
        pytest.param({"key": "a-shared-secret-of-some-length-here", "algorithm": "HS256"}, id="of-a-shared-secret"),
        pytest.param({"key": None, "algorithm": "none"}, id="unsigned"),
        pytest.param({"key": rsa.generate_private_key(65537, 2048), "algorithm": "RS256"}, id="of-another-kind"),
    ],
)
def test_any_other_token_is_refused_with_the_address_of_the_metadata(
    shared_server: HttpServer, shared_issuer: Website, wrong: dict[str, Any]
) -> None:
    reply = initialize(shared_server.url, sign_token(shared_issuer, **wrong))
    metadata_url = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
    assert reply.status_code == 401
    assert f'resource_metadata="{metadata_url}"' in reply.headers["www-authenticate"]


def test_without_a_valid_token_only_the_metadata_and_the_health_are_served(
    shared_server: HttpServer, shared_issuer: Website
) -> None:
    url = shared_server.url
    refused = [
        initialize(url, None),
        initialize(url, "nonsense"),
        initialize(url, None, x_api_key="sandbox-own"),
        httpx.get(f"{url}/sse", trust_env=False),
    ]
    metadata = httpx.get(f"{url}/.well-known/oauth-protected-resource/mcp", trust_env=False).json()
    assert [reply.status_code for reply in refused] == [401] * 4
    assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    assert metadata["resource"] == AUDIENCE
    assert metadata["authorization_servers"] == [f"{shared_issuer.origin}/team"]


def test_the_keys_are_fetched_once_however_many_tokens_name_an_unknown_one(settings: Settings, issuer: Website) -> None:
    with run_server(settings, *oauth_options(issuer), PIAPI_API_KEY=SERVERS_KEY) as server:
        assert initialize(server.url, sign_token(issuer)).status_code == 200
        for _ in range(5):
            assert initialize(server.url, sign_token(issuer, kid="unknown")).status_code == 401
    assert [path for path, _ in issuer.requests] == ["/.well-known/oauth-authorization-server/team", "/keys"]


def test_while_the_issuer_cannot_be_reached_tokens_are_answered_with_503(settings: Settings) -> None:
    with open_website() as site, run_server(settings, *oauth_options(site), PIAPI_API_KEY=SERVERS_KEY) as server:
        reply = initialize(server.url, sign_token(site))
    assert reply.status_code == 503
    assert "keys cannot be fetched" in reply.json()["error"]


def test_a_key_sent_beside_the_token_pays_instead_of_the_servers_own(
    shared_server: HttpServer, shared_issuer: Website, own_key: str, sandbox: SandboxControl
) -> None:
    token = sign_token(shared_issuer)
    call_tool(shared_server.url, token, "midjourney_upscale", UPSCALE_ARGUMENTS, x_api_key=own_key).raise_for_status()
    task_url = f"{shared_server.settings.base_url}/api/v1/task/{sandbox.tasks()[0]['task_id']}"
    seen_by = [httpx.get(task_url, headers={"x-api-key": key}, trust_env=False) for key in (own_key, SERVERS_KEY)]
    assert [reply.is_success for reply in seen_by] == [True, False]


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        pytest.param({"PIAPI_MCP_OAUTH_ISSUER": "https://id.example.com"}, "OAuth needs both", id="no-audience"),
        pytest.param({"PIAPI_MCP_OAUTH_AUDIENCE": AUDIENCE}, "OAuth needs both", id="no-issuer"),
        pytest.param({"PIAPI_MCP_OAUTH_ISSUER": "http://id.example.com"}, "Allowed: an https URL", id="not-secure"),
        pytest.param(
            {
                "PIAPI_MCP_OAUTH_ISSUER": "https://id.example.com",
                "PIAPI_MCP_OAUTH_AUDIENCE": AUDIENCE,
                "PIAPI_MCP_ACCESS_TOKEN": "t",
            },
            "or an OAuth token, not both",
            id="two-meanings-of-a-bearer-token",
        ),
    ],
)
def test_contradicting_settings_are_refused(environ: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        build_app(Settings.from_env(environ))
