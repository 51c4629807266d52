from collections.abc import Generator

import pytest

from tests.support.website import Website, open_website


@pytest.fixture
def site() -> Generator[Website]:
    with open_website() as site:
        yield site
