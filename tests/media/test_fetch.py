"""What a link leads to is fetched within bounds, and only from where it may lead to."""

import asyncio
import gzip
import io
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.media.fetch import Downloaded, Fetcher, FetchError, Part
from piapi_mcp.media.ssrf import is_public
from tests.support.website import Website, answer

DATA = bytes(range(256)) * 1024


@pytest.fixture
def fetcher(site: Website) -> Fetcher:
    return Fetcher(allowed_origins=frozenset({site.origin}))


async def refusal(fetcher: Fetcher, url: str) -> str:
    """Return why a download failed, having seen that reading a part of it fails for the same reason."""
    with pytest.raises(FetchError) as download:
        await fetcher.download(url, io.BytesIO(), max_bytes=len(DATA))
    with pytest.raises(FetchError) as part:
        await fetcher.read_range(url, 0, 10)
    assert str(part.value) == str(download.value) == f"The file could not be fetched: {part.value.reason}."
    return part.value.reason


async def test_a_file_is_downloaded_as_it_is(site: Website, fetcher: Fetcher) -> None:
    url, file = site.serve("/a.mp4?signature=x", DATA, content_type="Video/MP4; codecs=avc1"), io.BytesIO()
    assert await fetcher.download(url, file, max_bytes=len(DATA)) == Downloaded(len(DATA), "video/mp4")
    assert file.getvalue() == DATA


async def test_a_part_is_read_without_the_rest(site: Website, fetcher: Fetcher) -> None:
    url = site.serve("/a.mp4", DATA)
    assert await fetcher.read_range(url, 255, 2) == Part(b"\xff\x00", len(DATA), "video/mp4")
    assert await fetcher.read_range(url, len(DATA) - 1, 20) == Part(b"\xff", len(DATA), "video/mp4")
    assert [headers["range"] for _, headers in site.requests] == ["bytes=255-256", "bytes=262143-262162"]


async def test_a_server_without_parts_serves_for_the_beginning(site: Website, fetcher: Fetcher) -> None:
    url = site.serve("/a.mp4", DATA, ranges=False)
    assert await fetcher.read_range(url, 0, 10) == Part(DATA[:10], len(DATA), "video/mp4")
    with pytest.raises(FetchError, match="does not send parts"):
        await fetcher.read_range(url, 10, 10)


@pytest.mark.parametrize(
    "content_range", ["bytes 5-14/100", "bytes 0-9", "bytes */100", "bytes 0-9/many", "words 0-9/100"]
)
async def test_another_part_than_asked_for_is_not_taken(site: Website, fetcher: Fetcher, content_range: str) -> None:
    url = site.reply("/a", 206, {"Content-Range": content_range, "Content-Length": "10"}, DATA[:10])
    with pytest.raises(FetchError, match="sends other parts"):
        await fetcher.read_range(url, 0, 10)


async def test_nothing_is_told_but_the_request(
    site: Website, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: no cookies, no keys, no Referer, and no proxy that the environment names."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    site.reply("/start", 302, {"Location": "/end", "Set-Cookie": "a=b", "Content-Length": "0"})
    site.serve("/end", DATA)
    await fetcher.download(site.origin + "/start", io.BytesIO(), max_bytes=len(DATA))
    assert [set(headers) for _, headers in site.requests] == [{"host", "user-agent", "accept", "accept-encoding"}] * 2
    assert site.requests[1][1]["host"] == site.origin.removeprefix("http://")


async def test_redirects_end(site: Website, fetcher: Fetcher) -> None:
    url = site.reply("/a", 302, {"Location": "/a", "Content-Length": "0"})
    assert await refusal(fetcher, url) == "it redirects too often"
    assert len(site.requests) == 2 * 6


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("file:///etc/passwd", "it leads to something else than a plain http or https URL"),
        ("gopher://example.com/", "it leads to something else than a plain http or https URL"),
        ("http://user:password@example.com/", "it leads to something else than a plain http or https URL"),
        ("http://169.254.169.254/latest/meta-data", "it leads to an address that is not public"),
        ("http://127.0.0.1:1/", "it leads to an address that is not public"),
        ("http://[::1]/", "it leads to an address that is not public"),
        ("http://[::ffff:10.0.0.1]/", "it leads to an address that is not public"),
        ("http://127.1/", "it leads to an address that is not public"),
        ("http://2130706433/", "it leads to an address that is not public"),
        ("http://0x7f.0.0.1/", "it leads to an address that is not public"),
        ("http://017700000001/", "it leads to an address that is not public"),
        ("http://localhost/", "it leads to an address that is not public"),
        ("http://" + "a" * 64 + ".invalid/", "there is no such host"),
        ("http://[::1]:99999/", "it leads to something else than a plain http or https URL"),
        ("http://[::1/", "it leads to something that is no URL"),
    ],
)
async def test_a_forbidden_place_is_refused_as_a_link_and_as_a_redirect(
    site: Website, fetcher: Fetcher, location: str, why: str
) -> None:
    assert await refusal(fetcher, location) == why
    assert await refusal(fetcher, site.reply("/a", 302, {"Location": location, "Content-Length": "0"})) == why


async def test_loopback_is_closed_unless_it_is_allowed_by_scheme_and_port(site: Website) -> None:
    url = site.serve("/a", DATA)
    for origins in ([], [site.origin.replace("http:", "https:")], [site.origin[:-1]], ["http://localhost:80"]):
        assert await refusal(Fetcher(frozenset(origins)), url) == "it leads to an address that is not public"
    assert not site.requests


CLOSED = """
    0.0.0.0 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:a00:1 64:ff9b::a00:1
    64:ff9b::169.254.169.254 64:ff9b:1::808:808 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 fc00::1
    fd00:ec2::254 fe80::1 fe80::1%lo fec0::1 ff02::1 2606:4700::1%eth0
"""


@pytest.mark.parametrize("address", CLOSED.split())
def test_no_address_within_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_as_public_as_the_one_it_carries(address: object) -> None:
    assert is_public(f"::ffff:{address}") == is_public(f"64:ff9b::{address}") == is_public(str(address))


async def test_what_is_too_large_is_not_fetched(site: Website, fetcher: Fetcher) -> None:
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
    assert await fetcher.read_range(site.origin + "/endless", 0, 10) == Part(DATA[:10], None, "")


async def test_nothing_is_decompressed(site: Website, fetcher: Fetcher) -> None:
    bomb = gzip.compress(bytes(1 << 20))
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    assert await refusal(fetcher, site.reply("/a", 200, headers, bomb)) == (
        "it is sent compressed, which was not asked for"
    )


@pytest.mark.parametrize("status", [204, 400, 403, 404, 416, 500, 503])
async def test_only_a_file_is_a_file(site: Website, fetcher: Fetcher, status: int) -> None:
    assert await refusal(fetcher, site.reply("/a", status, {"Content-Length": "0"})) == f"the server answered {status}"


async def test_a_server_that_breaks_off_or_speaks_no_http_is_told(site: Website, fetcher: Fetcher) -> None:
    site.pages["/nonsense"] = lambda request: void(request.wfile.write(b"\x00\xff\r\n\r\n"))
    assert await refusal(fetcher, site.origin + "/nonsense") == "the connection broke off"
    short = site.reply("/short", 200, {"Content-Length": "100"}, b"abc")
    assert await refusal(fetcher, short) == "the connection broke off"


async def test_a_server_that_says_nothing_is_left(site: Website) -> None:
    site.pages["/silence"] = lambda _: void(site.over.wait(30))

    def drip(request: BaseHTTPRequestHandler) -> None:
        answer(request, 200, {})
        while not site.over.wait(0.01):
            request.wfile.write(b"x")

    site.pages["/drip"] = drip
    impatient = Fetcher(frozenset({site.origin}), part_timeout_s=0.2, download_timeout_s=0.2)
    async with asyncio.timeout(20):
        assert await refusal(impatient, site.origin + "/silence") == "it took longer than 0.2 s"
        with pytest.raises(FetchError, match="it took longer than"):
            await impatient.download(site.origin + "/drip", io.BytesIO(), max_bytes=len(DATA))


async def test_a_host_that_takes_no_connections_is_told(site: Website) -> None:
    del site
    assert await refusal(Fetcher(frozenset({"http://127.0.0.1:1"})), "http://127.0.0.1:1/") == (
        "it cannot be connected to"
    )


@given(st.text(max_size=60), st.sampled_from(["", "http://user@", "http://127.0.0.1:1/", "http://[::1]/"]))
async def test_whatever_the_link_only_our_error_comes_out(text: str, begin: str) -> None:
    with pytest.raises(FetchError):
        await Fetcher().read_range(begin + text, 0, 10)


def void(value: object) -> None:
    del value
