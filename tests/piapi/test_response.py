"""PiAPI's responses, as they come off the network."""

import json

import pytest

from piapi_mcp.piapi.response import redact


@pytest.mark.parametrize("secret", ["key-123456", 'a"quoted\\secret'])
def test_an_echoed_secret_is_redacted(secret: str) -> None:
    body = json.dumps({"message": f"bad key {secret}"}).encode() + secret.encode()
    assert secret not in redact(body, [secret, "", "short"]).decode()
    assert json.dumps(secret)[1:-1] not in redact(body, [secret]).decode()
