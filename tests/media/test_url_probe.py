"""Files at URLs are probed by a few small ranges; those that cannot be probed are left to PiAPI."""

import re
from http.server import BaseHTTPRequestHandler

import pytest

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.image import ImageFacts, ImageFormat
from piapi_mcp.media.sources import MediaUrl
from piapi_mcp.media.url_probe import NotProbed, probe_image_url, probe_video_url
from piapi_mcp.media.video import VideoFacts
from tests.support.media_files import make_clip, make_image
from tests.support.website import Website, answer

CLIP = make_clip(frames=30, fps=15)


def padded(clip: bytes, size_bytes: int) -> bytes:
    """Return *clip* with *size_bytes* more before its index, as if its frames were large."""
    at = clip.index(b"moov") - 4
    return clip[:at] + (size_bytes + 8).to_bytes(4, "big") + b"free" + bytes(size_bytes) + clip[at:]


async def probe_video(site: Website, url: str) -> VideoFacts | NotProbed:
    return await probe_video_url(MediaUrl(url), Fetcher(frozenset({site.origin})))


async def probe_image(site: Website, url: str) -> ImageFacts | NotProbed:
    return await probe_image_url(MediaUrl(url), Fetcher(frozenset({site.origin})))


@pytest.mark.parametrize("size_bytes", [0, 100_000, 10_000_000])
async def test_a_video_is_probed_by_small_ranges_wherever_its_index_is(site: Website, size_bytes: int) -> None:
    data = padded(CLIP, size_bytes)
    facts = await probe_video(site, site.serve("/a.mp4", data))
    assert isinstance(facts, VideoFacts)
    assert (facts.width_px, facts.height_px, facts.stored_frames, facts.frames_are_exact) == (160, 90, 30, True)
    assert facts.size_bytes == len(data)
    ranges = [re.findall(r"\d+", headers["range"]) for _, headers in site.requests]
    assert len(ranges) <= 3
    assert sum(int(last) - int(first) + 1 for first, last in ranges) <= 200 * 1024


async def test_the_frame_count_of_a_fragmented_video_is_not_exact(site: Website) -> None:
    clip = make_clip(frames=30, options={"movflags": "frag_keyframe+empty_moov"})
    facts = await probe_video(site, site.serve("/a.mp4", clip))
    assert isinstance(facts, VideoFacts)
    assert (facts.stored_frames, facts.frames_are_exact) == (30, False)


@pytest.mark.parametrize(("width", "image_format"), [(640, "PNG"), (640, "JPEG")])
async def test_an_image_is_probed_by_its_header(site: Website, width: int, image_format: ImageFormat) -> None:
    data = make_image(width=width, height=480, image_format=image_format)
    facts = await probe_image(site, site.serve("/a", data + bytes(10**6), content_type="image/any"))
    assert facts == ImageFacts(width, 480, image_format, len(data) + 10**6)
    assert len(site.requests) == 1


async def test_a_file_that_is_something_else_is_refused(site: Website) -> None:
    with pytest.raises(InputRejectedError) as video:
        await probe_video(site, site.serve("/a", make_image(), content_type="image/png"))
    assert str(video.value) == (
        "The file at the URL cannot be used as a video: it is not an MP4 file. PiAPI accepts MP4 only. "
        "Nothing was submitted; convert it to MP4 (H.264) and call again."
    )
    with pytest.raises(InputRejectedError, match="it is neither JPEG nor PNG"):
        await probe_image(site, site.serve("/b", CLIP))
    with pytest.raises(InputRejectedError, match="it is empty"):
        await probe_image(site, site.serve("/c", b"", ranges=False))


async def test_a_file_that_cannot_be_probed_from_here_is_left_to_piapi(site: Website) -> None:
    large, page = padded(CLIP, 10**6), b"<html>Are you human?</html>"
    fragments = make_clip(frames=200, options={"movflags": "frag_every_frame"})
    scattered = fragments + ((100_008).to_bytes(4, "big") + b"free" + bytes(100_000)) * 9

    def endless(request: BaseHTTPRequestHandler) -> None:
        answer(request, 200, {})
        request.wfile.write(large)

    site.pages["/endless"] = endless
    reasons = {
        site.reply("/forbidden", 403, {"Content-Length": "0"}): "the server answered 403",
        site.reply("/page", 200, {"Content-Type": "text/html; charset=utf-8"}, page): (
            "the server answered with a web page"
        ),
        site.origin + "/endless": "the server does not report its size",
        site.serve("/whole-only", large, ranges=False): "the server does not support range requests",
        site.serve("/scattered", scattered): "it would need too many requests",
        site.serve("/large-index", CLIP[:32] + (300_008).to_bytes(4, "big") + b"moov" + bytes(300_000)): (
            "its metadata is too large to fetch"
        ),
        "http://127.0.0.1:1/a.mp4": "it leads to an address that is not public",
    }
    for url, reason in reasons.items():
        assert await probe_video(site, url) == NotProbed(reason)
