import ssl
from collections.abc import Generator

import httpx
import pytest


@pytest.fixture
def http(base_url: str) -> Generator[httpx.Client]:
    """Return a plain HTTP client with a key of its own: it sees what any client of PiAPI would see."""
    with httpx.Client(
        base_url=base_url,
        headers={"x-api-key": "sandbox-a"},
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # the sandbox has no TLS; loading certificates takes 30 ms
        trust_env=False,
        timeout=30,
    ) as client:
        yield client
