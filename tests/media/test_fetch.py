"""Files at URLs are fetched within limits, and only from public addresses."""

import asyncio
import gzip
import io
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.media.fetch import FetchedRange, Fetcher, FetchError
from tests.support.website import Website, answer

DATA = bytes(range(256)) * 1024


@pytest.fixture
def fetcher(site: Website) -> Fetcher:
    return Fetcher(allowed_origins=frozenset({site.origin}))


async def refusal(fetcher: Fetcher, url: str) -> str:
    """Return why a download fails, after checking that fetching a range fails for the same reason."""
    with pytest.raises(FetchError) as download:
        await fetcher.download(url, io.BytesIO(), max_bytes=len(DATA))
    with pytest.raises(FetchError) as fetched_range:
        await fetcher.read_range(url, 0, 10)
    assert str(fetched_range.value) == str(download.value) == f"The file could not be fetched: {download.value.reason}."
    return download.value.reason


async def test_a_file_is_downloaded_unchanged(site: Website, fetcher: Fetcher) -> None:
    url, file = site.serve("/a.mp4?signature=x", DATA, content_type="Video/MP4; codecs=avc1"), io.BytesIO()
    await fetcher.download(url, file, max_bytes=len(DATA))
    assert file.getvalue() == DATA


async def test_a_range_is_fetched_without_the_rest(site: Website, fetcher: Fetcher) -> None:
    url = site.serve("/a.mp4", DATA)
    assert await fetcher.read_range(url, 255, 2) == FetchedRange(b"\xff\x00", len(DATA), "video/mp4")
    assert await fetcher.read_range(url, len(DATA) - 1, 20) == FetchedRange(b"\xff", len(DATA), "video/mp4")
    assert [headers["range"] for _, headers in site.requests] == ["bytes=255-256", "bytes=262143-262162"]


async def test_a_server_without_range_requests_serves_the_beginning_only(site: Website, fetcher: Fetcher) -> None:
    url = site.serve("/a.mp4", DATA, ranges=False)
    assert await fetcher.read_range(url, 0, 10) == FetchedRange(DATA[:10], len(DATA), "video/mp4")
    with pytest.raises(FetchError, match="does not support range requests"):
        await fetcher.read_range(url, 10, 10)


@pytest.mark.parametrize(
    "content_range", ["bytes 5-14/100", "bytes 0-9", "bytes */100", "bytes 0-9/many", "words 0-9/100"]
)
async def test_another_range_than_requested_is_refused(site: Website, fetcher: Fetcher, content_range: str) -> None:
    url = site.reply("/a", 206, {"Content-Range": content_range, "Content-Length": "10"}, DATA[:10])
    with pytest.raises(FetchError, match="sent another range"):
        await fetcher.read_range(url, 0, 10)


async def test_nothing_is_sent_but_the_request(
    site: Website, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: no cookies, no keys, no Referer, and no proxy that the environment names."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    site.reply("/start", 302, {"Location": "/end", "Set-Cookie": "a=b", "Content-Length": "0"})
    site.serve("/end", DATA)
    await fetcher.download(site.origin + "/start", io.BytesIO(), max_bytes=len(DATA))
    assert [set(headers) for _, headers in site.requests] == [{"host", "user-agent", "accept", "accept-encoding"}] * 2
    assert site.requests[1][1]["host"] == site.origin.removeprefix("http://")


async def test_a_redirect_loop_is_given_up(site: Website, fetcher: Fetcher) -> None:
    url = site.reply("/a", 302, {"Location": "/a", "Content-Length": "0"})
    assert await refusal(fetcher, url) == "it redirects too many times"
    assert len(site.requests) == 2 * 6


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("file:///etc/passwd", "it leads to a URL that is not a plain http or https one"),
        ("gopher://example.com/", "it leads to a URL that is not a plain http or https one"),
        ("http://user:password@example.com/", "it leads to a URL that is not a plain http or https one"),
        ("http://169.254.169.254/latest/meta-data", "it leads to an address that is not public"),
        ("http://127.0.0.1:1/", "it leads to an address that is not public"),
        ("http://[::1]/", "it leads to an address that is not public"),
        ("http://[::ffff:10.0.0.1]/", "it leads to an address that is not public"),
        ("http://127.1/", "it leads to an address that is not public"),
        ("http://2130706433/", "it leads to an address that is not public"),
        ("http://0x7f.0.0.1/", "it leads to an address that is not public"),
        ("http://017700000001/", "it leads to an address that is not public"),
        ("http://localhost/", "it leads to an address that is not public"),
        ("http://" + "a" * 64 + ".invalid/", "the host name cannot be resolved"),
        ("http://[::1]:99999/", "it leads to a URL that is not a plain http or https one"),
        ("http://[::1/", "it leads to an invalid URL"),
    ],
)
async def test_a_forbidden_url_is_refused_as_a_link_and_as_a_redirect(
    site: Website, fetcher: Fetcher, location: str, why: str
) -> None:
    assert await refusal(fetcher, location) == why
    assert await refusal(fetcher, site.reply("/a", 302, {"Location": location, "Content-Length": "0"})) == why


async def test_loopback_is_refused_unless_its_scheme_and_port_are_allowed(site: Website) -> None:
    url = site.serve("/a", DATA)
    for origins in ([], [site.origin.replace("http:", "https:")], [site.origin[:-1]], ["http://localhost:80"]):
        assert await refusal(Fetcher(frozenset(origins)), url) == "it leads to an address that is not public"
    assert not site.requests


async def test_a_file_that_is_too_large_is_not_downloaded(site: Website, fetcher: Fetcher) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        answer(request, 200, {})
        while True:
            request.wfile.write(DATA)

    site.pages["/endless"] = endless
    for url in (site.serve("/a", DATA), site.origin + "/endless"):
        file = io.BytesIO()
        with pytest.raises(FetchError, match="larger than 0 MB"):
            await fetcher.download(url, file, max_bytes=1000)
        assert len(file.getvalue()) <= 1000
    assert await fetcher.read_range(site.origin + "/endless", 0, 10) == FetchedRange(DATA[:10], None, "")


async def test_a_compressed_response_is_refused(site: Website, fetcher: Fetcher) -> None:
    bomb = gzip.compress(bytes(1 << 20))
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    assert await refusal(fetcher, site.reply("/a", 200, headers, bomb)) == (
        "the server compressed it although that was not requested"
    )


@pytest.mark.parametrize("status", [204, 400, 403, 404, 416, 500, 503])
async def test_any_other_status_is_an_error(site: Website, fetcher: Fetcher, status: int) -> None:
    assert await refusal(fetcher, site.reply("/a", status, {"Content-Length": "0"})) == f"the server answered {status}"


async def test_a_response_that_ends_early_or_is_not_http_is_an_error(site: Website, fetcher: Fetcher) -> None:
    site.pages["/nonsense"] = lambda request: void(request.wfile.write(b"\x00\xff\r\n\r\n"))
    assert await refusal(fetcher, site.origin + "/nonsense") == "the connection was lost"
    short = site.reply("/short", 200, {"Content-Length": "100"}, b"abc")
    assert await refusal(fetcher, short) == "the connection was lost"


async def test_a_server_that_does_not_answer_in_time_is_given_up(site: Website) -> None:
    site.pages["/silence"] = lambda _: void(site.over.wait(30))

    def drip(request: BaseHTTPRequestHandler) -> None:
        answer(request, 200, {})
        while not site.over.wait(0.01):
            request.wfile.write(b"x")

    site.pages["/drip"] = drip
    impatient = Fetcher(frozenset({site.origin}), range_timeout_s=0.2, download_timeout_s=0.2)
    async with asyncio.timeout(20):
        assert await refusal(impatient, site.origin + "/silence") == "it took longer than 0.2 s"
        with pytest.raises(FetchError, match="it took longer than"):
            await impatient.download(site.origin + "/drip", io.BytesIO(), max_bytes=len(DATA))


async def test_a_host_that_accepts_no_connection_is_an_error() -> None:
    assert await refusal(Fetcher(frozenset({"http://127.0.0.1:1"})), "http://127.0.0.1:1/") == (
        "the server cannot be reached"
    )


@given(st.text(max_size=60), st.sampled_from(["", "http://user@", "http://127.0.0.1:1/", "http://[::1]/"]))
async def test_whatever_the_url_only_our_error_is_raised(text: str, begin: str) -> None:
    with pytest.raises(FetchError):
        await Fetcher().read_range(begin + text, 0, 10)


def void(value: object) -> None:
    del value
