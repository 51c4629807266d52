import base64
import hashlib
import os
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.errors import InputRejectedError, SettingsError
from piapi_mcp.formatting import quote
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
def test_anything_else_is_refused_with_what_can_be_used(text: str, tmp_path: Path) -> None:
    assert refusal(text, tmp_path) == (
        f'video="{text}" is none of what can be used: a full path, an http or https URL, a data URI, or base64. '
        "Nothing was submitted; call again with one."
    )


def test_a_missing_file_is_answered_with_near_names_of_media(clip: Path) -> None:
    for name in ("my clap.txt", ".my clip.mp4", "unlike.mp4"):
        (clip.parent / name).touch()
    path = clip.with_name("my_clip.mp4")
    assert refusal(str(path), clip.parent) == (
        f'video={quote(path)} does not exist. Near names there: "my clip.mp4". '
        "Nothing was submitted; call again with the full path of a file."
    )


def test_names_outside_the_allowed_folders_are_not_told(clip: Path) -> None:
    """The missing folder itself is allowed, the one around it is not."""
    missing = clip.with_name("my clip.mp")
    assert "Near names" not in refusal(str(missing), missing)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("~nobody-of-that-name/a.mp4", "it is no valid path"),
        ("file:///a%00b.mp4", "it is no full path on this system"),
        ("file://server/share/a.mp4", "it lies on another machine"),
        ("file:a.mp4", "it is no full path on this system"),
        ("/\ud800.mp4", "it is no valid path"),
        ("/" + "a" * 300 + "/a.mp4", "File name too long"),
        *([] if os.name == "nt" else [(r"C:\clips\a.mp4", "it is no full path on this system")]),
    ],
)
def test_what_is_no_path_here_is_refused_with_the_reason(text: str, why: str) -> None:
    assert refusal(text, Path("/")) == (
        f"video={quote(text)} cannot be read ({why}). Nothing was submitted; call again with another file."
    )


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    assert "Nothing was submitted" in refusal(str(tmp_path / "a.mp4"), tmp_path)


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


def test_the_home_folder_is_open_by_default_and_nothing_where_nothing_is_named() -> None:
    assert LocalFiles.below(None) == LocalFiles((Path.home().resolve(),), hidden=False)
    assert LocalFiles.below("") == LocalFiles(())
    with pytest.raises(SettingsError, match="set PIAPI_ALLOWED_DIRS"):
        LocalFiles.below("~nobody-of-that-name/clips")


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


def test_what_is_a_byte_too_large_looks_too_large() -> None:
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
        "video is no valid base64. Nothing was submitted; call again with a full path, an http or https URL, "
        "a data URI, or base64."
    )


@given(st.text(max_size=200), st.sampled_from(["", "/", "~", "file://", "data:", "data:;base64,", "http://", "C:\\"]))
def test_whatever_the_text_only_our_error_comes_out(text: str, begin: str) -> None:
    try:
        media = open_source(begin + text, argument="video", local=LocalFiles((Path("/nowhere"),)), max_bytes=LIMIT)
    except InputRejectedError:
        return
    assert isinstance(media, MediaUrl | MediaFile)
