from collections.abc import Generator

import httpx
import pytest


@pytest.fixture
def http(base_url: str) -> Generator[httpx.Client]:
    """Return a plain HTTP client with an account of its own: what it sees, any client sees."""
    with httpx.Client(base_url=base_url, headers={"x-api-key": "sandbox-a"}, trust_env=False, timeout=30) as client:
        yield client
