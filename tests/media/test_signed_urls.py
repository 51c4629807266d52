"""A link that was signed anew leads to the same file, and is the same request; another file behind it is not."""

from typing import Any

import pytest

from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.sources import MediaUrl
from piapi_mcp.media.url_probe import identify_signed_url
from tests.support.media_files import make_clip
from tests.support.website import open_website

CLIP = make_clip()


async def identify(served: bytes, path: str, **options: Any) -> str | None:
    with open_website() as site:
        url = site.serve(path, served, **options)
        fetcher = Fetcher(allowed_origins=frozenset({site.origin}))
        identity = await identify_signed_url(MediaUrl(url), fetcher)
        return identity.replace(site.origin, "") if identity else None


async def test_another_signature_is_the_same_file() -> None:
    first, again = await identify(CLIP, "/clip.mp4?sig=1&exp=1"), await identify(CLIP, "/clip.mp4?sig=2&exp=9")
    assert first is not None
    assert first == again


@pytest.mark.parametrize(
    ("served", "path"),
    [
        pytest.param(CLIP, "/other.mp4?sig=1", id="another-path"),
        pytest.param(CLIP[:-1] + b"x", "/clip.mp4?sig=1", id="another-end"),
        pytest.param(b"x" + CLIP[1:], "/clip.mp4?sig=1", id="another-begin"),
        pytest.param(CLIP + b"x", "/clip.mp4?sig=1", id="another-size"),
    ],
)
async def test_another_file_is_another_request(served: bytes, path: str) -> None:
    assert await identify(CLIP, "/clip.mp4?sig=1") != await identify(served, path)


async def test_a_file_that_cannot_be_read_in_ranges_is_known_by_its_whole_url() -> None:
    assert await identify(CLIP * 40, "/clip.mp4?sig=1", ranges=False) is None


async def test_a_url_without_a_query_is_known_by_itself() -> None:
    assert await identify(CLIP, "/clip.mp4") is None
