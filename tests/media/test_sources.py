import base64
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.sources import LocalFiles, MediaFile, MediaUrl, open_source

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
        "data:video/mp4;base64," + base64.b64encode(DATA).decode(),
    ],
    ids=["bare", "wrapped", "data-uri"],
)
def test_base64_is_decoded(text: str) -> None:
    assert opened(text).read_at(0, LIMIT) == DATA


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
def test_anything_else_is_refused_with_what_can_be_used(text: str, tmp_path: Path) -> None:
    assert refusal(text, tmp_path) == (
        f'video="{text}" is none of what can be used: a full path, an http or https URL, a data URI, or base64. '
        "Nothing was submitted; call again with one."
    )


def test_a_missing_file_is_answered_with_near_names(clip: Path) -> None:
    assert refusal(str(clip.with_name("my_clip.mp4")), clip.parent).startswith(
        f'video="{str(clip.with_name("my_clip.mp4"))[:79]}'
    )
    assert 'Near names there: "my clip.mp4".' in refusal(str(clip.with_name("my_clip.mp4")), clip.parent)


def test_a_file_outside_the_allowed_folders_is_refused_and_not_looked_for(clip: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.mp4").symlink_to(clip)
    for path in (clip, inside / "link.mp4", inside / ".." / clip.name, tmp_path / "missing.mp4"):
        assert "lies outside the folders that may be read" in refusal(str(path), inside)


def test_hidden_folders_are_closed_unless_they_were_opened(tmp_path: Path) -> None:
    home = LocalFiles((tmp_path,), hidden=False)
    assert home.allow(tmp_path / "a" / "b.mp4")
    assert not home.allow(tmp_path / ".ssh" / "id")
    assert LocalFiles.below(str(tmp_path / ".cache")).allow(tmp_path.resolve() / ".cache" / "b.mp4")


def test_without_local_files_a_path_is_refused(clip: Path) -> None:
    assert refusal(str(clip)) == (
        "video names a local file, and this server reads none. Nothing was submitted; call again with a URL."
    )


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: object) -> None:
    path = tmp_path / "thing.mp4"
    assert callable(make)
    make(path)
    assert "is no file" in refusal(str(path), tmp_path)


def test_a_device_is_refused() -> None:
    assert "is no file" in refusal("/dev/zero", Path("/dev"))


def test_what_is_too_large_is_not_read(clip: Path) -> None:
    expected = "Nothing was submitted; make the file smaller first."
    assert refusal(str(clip), clip.parent, max_bytes=100).endswith(expected)
    assert refusal(base64.b64encode(DATA).decode(), max_bytes=100).endswith(expected)


async def test_a_file_that_changes_under_our_hands_is_not_sent(clip: Path) -> None:
    with opened(str(clip), clip.parent) as media:
        os.truncate(clip, 100)
        with pytest.raises(InputRejectedError, match="was changed while it was being sent"):
            _ = [block async for block in media.base64_blocks()]


def test_broken_base64_is_refused() -> None:
    assert refusal("A" * 65) == (
        "video is no valid base64. Nothing was submitted; call again with a full path, an http or https URL, "
        "a data URI, or base64."
    )


@given(st.text(max_size=200))
def test_whatever_the_text_only_our_error_comes_out(text: str) -> None:
    try:
        media = open_source(text, argument="video", local=LocalFiles((Path("/nowhere"),)), max_bytes=LIMIT)
    except InputRejectedError:
        return
    assert isinstance(media, MediaUrl | MediaFile)
