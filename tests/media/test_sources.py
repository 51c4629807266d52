"""Sources are opened in every form that callers use; anything else is refused with the accepted forms."""

import asyncio
import base64
import gc
import hashlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.local_files import LocalFiles
from piapi_mcp.media.sources import MediaAccess, MediaFile, MediaUrl, open_source

DATA = bytes(range(256)) * 4
LIMIT = 10_000


def opened(text: str, root: Path | None = None, max_bytes: int = LIMIT) -> MediaFile:
    local = None if root is None else LocalFiles((root.resolve(),))
    media = open_source(text, argument="video", local=local, max_bytes=max_bytes)
    assert isinstance(media, MediaFile)
    return media


def refusal(text: str, root: Path | None = None, max_bytes: int = LIMIT) -> str:
    with pytest.raises(InputRejectedError) as caught:
        opened(text, root, max_bytes)
    return str(caught.value)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "my clip.mp4"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "  {}\n"])
async def test_a_local_file_is_sent_as_it_is(clip: Path, spelling: str) -> None:
    with opened(spelling.format(clip), clip.parent) as media:
        sent = b"".join([block async for block in media.base64_blocks()])
        assert base64.b64decode(sent) == DATA
        assert len(sent) == media.base64_length
        assert await media.sha256() == hashlib.sha256(DATA).hexdigest()
        assert media.read_at(255, 2) == b"\xff\x00"
        assert media.read_at(10**9, 5) == b""


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(DATA).decode(),
        base64.encodebytes(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode(),
        "data:video/mp4;base64," + base64.b64encode(DATA).decode(),
        "DATA:video/mp4;codecs=avc1;BASE64," + base64.urlsafe_b64encode(DATA).decode(),
        "data:;base64," + quote_plus(base64.b64encode(DATA)),
    ],
    ids=["bare", "wrapped", "url-safe", "data-uri", "data-uri-in-capitals", "data-uri-quoted"],
)
def test_base64_is_decoded(text: str) -> None:
    assert opened(text).read_at(0, LIMIT) == DATA


@pytest.mark.parametrize("size", [60, 600, 6000])
def test_base64_of_a_jpeg_is_not_taken_for_a_path(size: int) -> None:
    data = b"\xff\xd8\xff\xe0" + bytes(range(256)) * (size // 60)
    assert opened(base64.b64encode(data).decode(), max_bytes=10**6).read_at(0, 10**6) == data


def test_a_link_is_passed_on() -> None:
    url = "https://example.com/a.mp4?signature=x"
    assert open_source(url, argument="video", local=None, max_bytes=LIMIT) == MediaUrl(url)


@pytest.mark.parametrize(
    "url", ["https://", "http://user:pw@example.com/a.mp4", "https://example.com/a b.mp4", "http://["]
)
def test_a_link_that_cannot_be_fetched_is_refused(url: str) -> None:
    assert refusal(url) == (
        "video is a URL that cannot be used: it needs a host, no spaces, and no user name or password. "
        "Nothing was submitted; call again with a plain link to the file."
    )


@pytest.mark.parametrize(
    "text", ["", "clip.mp4", "../clip.mp4", "ftp://example.com/a.mp4", "javascript:alert(1)", "abc"]
)
def test_anything_else_is_refused_with_the_accepted_forms(text: str, tmp_path: Path) -> None:
    assert refusal(text, tmp_path) == (
        f'video="{text}" is not a source that can be used: a full path, an http or https URL, a data URI, or base64. '
        "Nothing was submitted; call again with one of these."
    )


def test_without_local_files_a_path_is_refused(clip: Path) -> None:
    assert refusal(str(clip)) == (
        "video names a local file, and this server reads none. Nothing was submitted; call again with a URL."
    )


def test_a_source_that_is_too_large_is_not_read(clip: Path) -> None:
    expected = "Nothing was submitted; make the file smaller first."
    assert refusal(str(clip), clip.parent, max_bytes=100).endswith(expected)
    assert refusal(base64.b64encode(DATA).decode(), max_bytes=100).endswith(expected)


async def test_a_file_that_changes_while_it_is_sent_is_not_submitted(clip: Path) -> None:
    with opened(str(clip), clip.parent) as media:
        os.truncate(clip, 100)
        with pytest.raises(InputRejectedError, match="changed while it was being sent"):
            _ = [block async for block in media.base64_blocks()]


def test_a_source_one_byte_too_large_also_looks_too_large() -> None:
    limit = 3 << 20
    assert refusal(base64.b64encode(bytes(limit + 1)).decode(), max_bytes=limit) == (
        "video is 3.01 MB; PiAPI accepts at most 3 MB. Nothing was submitted; make the file smaller first."
    )
    assert opened(base64.encodebytes(bytes(limit)).decode(), max_bytes=limit).size_bytes == limit


@pytest.mark.parametrize("uri", ["data:", "data:video/mp4", "data:video/mp4,abc", "data:base64,AAAA"])
def test_a_data_uri_without_base64_is_refused(uri: str) -> None:
    assert refusal(uri) == (
        "video is a data URI without base64 (data:video/mp4;base64,...). Nothing was submitted; call again with "
        "a full path, an http or https URL, a data URI, or base64."
    )


@pytest.mark.parametrize("text", ["A" * 65, "AA==" * 20, "A" * 64 + "é" * 4, "data:;base64,A"])
def test_broken_base64_is_refused(text: str) -> None:
    assert refusal(("A" * 4096 if "é" in text else "") + text) == (
        "video is not valid base64. Nothing was submitted; call again with a full path, an http or https URL, "
        "a data URI, or base64."
    )


@dataclass(frozen=True)
class SlowFiles(LocalFiles):
    """Files below the allowed folders, on a disk that answers only once the test says so."""

    is_asked: threading.Event = field(default_factory=threading.Event)
    answers: threading.Event = field(default_factory=threading.Event)

    def allow(self, path: Path) -> bool:
        self.is_asked.set()
        return self.answers.wait(10) and super().allow(path)


async def test_access_opens_files_and_links(clip: Path) -> None:
    access = MediaAccess(LocalFiles((clip.parent,)), Fetcher())
    media = await access.open(str(clip), argument="video", max_bytes=LIMIT)
    assert isinstance(media, MediaFile)
    with media:
        assert media.read_at(0, LIMIT) == DATA
    url = "https://example.com/a.mp4"
    assert await access.open(url, argument="video", max_bytes=LIMIT) == MediaUrl(url)
    with pytest.raises(InputRejectedError, match="this server reads none"):
        await MediaAccess(None, Fetcher()).open(str(clip), argument="video", max_bytes=LIMIT)


async def test_a_caller_that_is_cancelled_leaves_no_file_open(clip: Path) -> None:
    """An unclosed file would fail the test by its ResourceWarning."""
    files = SlowFiles((clip.parent,))
    opening = asyncio.ensure_future(MediaAccess(files, Fetcher()).open(str(clip), argument="video", max_bytes=LIMIT))
    assert await asyncio.to_thread(files.is_asked.wait, 10)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    files.answers.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    gc.collect()


@given(st.text(max_size=200), st.sampled_from(["", "/", "~", "file://", "data:", "data:;base64,", "http://", "C:\\"]))
def test_whatever_the_text_only_our_error_comes_out(text: str, begin: str) -> None:
    try:
        media = open_source(begin + text, argument="video", local=LocalFiles((Path("/nowhere"),)), max_bytes=LIMIT)
    except InputRejectedError:
        return
    assert isinstance(media, MediaUrl | MediaFile)
