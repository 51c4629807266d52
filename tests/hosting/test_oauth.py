"""OAuth as a resource server: a real issuer on loopback, real signatures, a server in a process of its own."""

import json
import subprocess
import time
from collections.abc import Generator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from tests.support.http_server import COMMAND, OWN_KEY, PAID, environment, serve
from tests.support.messages import ACCEPT, INITIALIZE, modern
from tests.support.website import Website, open_website

AUDIENCE = "https://mcp.example.com/mcp"
KEY = ec.generate_private_key(ec.SECP256R1())
ANOTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def issuer() -> Generator[Website]:
    """Return an authorization server that publishes one key."""
    with open_website() as site:
        metadata = {"issuer": f"{site.origin}/team", "jwks_uri": f"{site.origin}/keys"}
        site.reply("/.well-known/oauth-authorization-server/team", 200, {}, json.dumps(metadata).encode())
        publish(site, a=KEY)
        yield site


def publish(site: Website, **keys: ec.EllipticCurvePrivateKey) -> None:
    published: list[dict[str, Any]] = [
        ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": name, "use": "sig"} for name, key in keys.items()
    ]
    site.reply("/keys", 200, {}, json.dumps({"keys": published}).encode())


def token(site: Website, *, key: Any = KEY, kid: str | None = "a", algorithm: str = "ES256", **claims: Any) -> str:
    """Return a token that is valid, but for what *claims* say; None leaves a claim out."""
    usual = {"iss": f"{site.origin}/team", "aud": AUDIENCE, "exp": time.time() + 600, "sub": "ada"}
    said = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(said, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def options(site: Website) -> tuple[str, ...]:
    return ("--oauth-issuer", f"{site.origin}/team", "--oauth-audience", AUDIENCE)


def knock(url: str, bearer: str | None, **headers: str) -> httpx.Response:
    brought = {"authorization": f"Bearer {bearer}"} if bearer else {}
    sent = ACCEPT | brought | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}/mcp", json=INITIALIZE, headers=sent, trust_env=False, timeout=30)


def test_a_token_of_the_issuer_for_this_server_opens_it(settings: Settings, issuer: Website) -> None:
    with serve(settings, *options(issuer), PIAPI_API_KEY=OWN_KEY) as url:
        entered = [knock(url, token(issuer)), knock(url, token(issuer, kid=None)), knock(url, token(issuer, nbf=1))]
        headers = {"authorization": f"Bearer {token(issuer)}"} | ACCEPT
        call = modern("tools/call", name="get_account", arguments={})
        routing = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "get_account"}
        account = httpx.post(f"{url}/mcp", json=call, headers=headers | routing, trust_env=False, timeout=30).json()
    assert [reply.status_code for reply in entered] == [200, 200, 200]
    assert account["result"]["structuredContent"]["balance_usd"] > 0
    assert [path for path, _ in issuer.requests] == ["/.well-known/oauth-authorization-server/team", "/keys"]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"aud": "https://other.example.com/mcp"}, id="for-another-server"),
        pytest.param({"aud": None}, id="for-nobody"),
        pytest.param({"iss": "https://evil.example.com"}, id="of-another-issuer"),
        pytest.param({"exp": 1}, id="expired"),
        pytest.param({"exp": None}, id="never-expires"),
        pytest.param({"nbf": time.time() + 3600}, id="not-yet"),
        pytest.param({"key": ANOTHER_KEY}, id="of-another-key"),
        pytest.param({"kid": "b"}, id="of-an-unknown-key"),
        pytest.param({"key": "a-shared-secret-of-some-length-here", "algorithm": "HS256"}, id="of-a-shared-secret"),
        pytest.param({"key": None, "algorithm": "none"}, id="unsigned"),
        pytest.param({"key": rsa.generate_private_key(65537, 2048), "algorithm": "RS256"}, id="of-another-kind"),
    ],
)
def test_any_other_token_is_refused_with_the_way_in(settings: Settings, issuer: Website, wrong: dict[str, Any]) -> None:
    with serve(settings, *options(issuer), PIAPI_API_KEY=OWN_KEY) as url:
        reply = knock(url, token(issuer, **wrong))
    metadata_url = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
    assert reply.status_code == 401
    assert f'resource_metadata="{metadata_url}"' in reply.headers["www-authenticate"]


def test_without_a_token_nobody_comes_in_and_everybody_finds_the_issuer(settings: Settings, issuer: Website) -> None:
    with serve(settings, *options(issuer), PIAPI_API_KEY=OWN_KEY) as url:
        statuses = [knock(url, None).status_code, knock(url, "nonsense").status_code]
        own_key = knock(url, None, x_api_key="sandbox-own").status_code
        stream = httpx.get(f"{url}/sse", trust_env=False).status_code
        found = httpx.get(f"{url}/.well-known/oauth-protected-resource/mcp", trust_env=False).json()
        alive = httpx.get(f"{url}/healthz", trust_env=False).status_code
    assert [*statuses, own_key, stream, alive] == [401, 401, 401, 401, 200]
    assert found["resource"] == AUDIENCE
    assert found["authorization_servers"] == [f"{issuer.origin}/team"]


def test_a_key_that_the_issuer_changed_is_fetched_again_but_not_for_every_stranger(
    settings: Settings, issuer: Website
) -> None:
    with serve(settings, *options(issuer), PIAPI_API_KEY=OWN_KEY) as url:
        for _ in range(5):
            assert knock(url, token(issuer, kid="unknown")).status_code == 401
    assert [path for path, _ in issuer.requests].count("/keys") == 1


def test_while_the_issuer_is_gone_nobody_can_tell(settings: Settings) -> None:
    with open_website() as site, serve(settings, *options(site), PIAPI_API_KEY=OWN_KEY) as url:
        reply = knock(url, token(site))
    assert reply.status_code == 503
    assert "keys cannot be fetched" in reply.json()["error"]


def test_a_key_of_ones_own_pays_where_it_is_brought_along(
    settings: Settings, issuer: Website, sandbox: SandboxControl
) -> None:
    headers = {
        "authorization": f"Bearer {token(issuer)}",
        "x-api-key": "sandbox-own",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "midjourney_upscale",
    }
    call = modern("tools/call", name="midjourney_upscale", arguments=PAID)
    with serve(settings, *options(issuer), PIAPI_API_KEY=OWN_KEY) as url:
        httpx.post(f"{url}/mcp", json=call, headers=ACCEPT | headers, trust_env=False, timeout=30).raise_for_status()
    bought = f"{settings.base_url}/api/v1/task/{sandbox.tasks()[0]['task_id']}"
    seen_by = [httpx.get(bought, headers={"x-api-key": key}, trust_env=False) for key in ("sandbox-own", OWN_KEY)]
    assert [reply.is_success for reply in seen_by] == [True, False]


@pytest.mark.parametrize(
    ("given", "text"),
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
            id="two-ways",
        ),
    ],
)
def test_settings_that_say_it_unclearly_are_refused(settings: Settings, given: dict[str, str], text: str) -> None:
    env = environment(settings, **given)
    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert text in done.stderr
