"""Local files are opened only below the allowed folders, and only if they are regular files."""

import os
from pathlib import Path

import pytest

from piapi_mcp.errors import InputRejectedError, SettingsError
from piapi_mcp.formatting import quote
from piapi_mcp.media.local_files import LocalFiles


def refusal(text: str, root: Path) -> str:
    with pytest.raises(InputRejectedError) as caught:
        LocalFiles((root.resolve(),)).open(text, argument="video")
    return str(caught.value)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "my clip.mp4"
    path.touch()
    return path


def test_a_missing_file_is_answered_with_similar_names_of_media(clip: Path) -> None:
    for name in ("my clap.txt", ".my clip.mp4", "unlike.mp4"):
        (clip.parent / name).touch()
    path = clip.with_name("my_clip.mp4")
    assert refusal(str(path), clip.parent) == (
        f'video={quote(path)} does not exist. Similar names in its folder: "my clip.mp4". '
        "Nothing was submitted; call again with the full path of a file."
    )


def test_names_outside_the_allowed_folders_are_not_disclosed(clip: Path) -> None:
    """Only the missing path itself is allowed, not its folder."""
    missing = clip.with_name("my clip.mp")
    assert "Similar names" not in refusal(str(missing), missing)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("~nobody-of-that-name/a.mp4", "it is not a valid path"),
        ("file:///a%00b.mp4", "it is not a full path on this system"),
        ("file://server/share/a.mp4", "it is on another machine"),
        ("file:a.mp4", "it is not a full path on this system"),
        ("/\ud800.mp4", "it is not a valid path"),
        ("/" + "a" * 300 + "/a.mp4", "File name too long"),
        *([] if os.name == "nt" else [(r"C:\clips\a.mp4", "it is not a full path on this system")]),
    ],
)
def test_a_path_that_cannot_exist_here_is_refused_with_the_reason(text: str, why: str) -> None:
    assert refusal(text, Path("/")) == (
        f"video={quote(text)} cannot be read ({why}). Nothing was submitted; call again with another file."
    )


def test_a_loop_of_symbolic_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    assert "Nothing was submitted" in refusal(str(tmp_path / "a.mp4"), tmp_path)


def test_a_file_outside_the_allowed_folders_is_refused_whether_it_exists_or_not(clip: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.mp4").symlink_to(clip)
    for path in (clip, inside / "link.mp4", inside / ".." / clip.name, tmp_path / "missing.mp4"):
        assert "is outside the folders that this server may read" in refusal(str(path), inside)


def test_hidden_folders_are_refused_unless_they_are_listed(tmp_path: Path) -> None:
    home = LocalFiles((tmp_path,), includes_hidden=False)
    assert home.allow(tmp_path / "a" / "b.mp4")
    assert not home.allow(tmp_path / ".ssh" / "id")
    assert LocalFiles.below(str(tmp_path / ".cache")).allow(tmp_path.resolve() / ".cache" / "b.mp4")


def test_the_home_folder_is_allowed_by_default_and_an_empty_list_allows_nothing() -> None:
    assert LocalFiles.below(None) == LocalFiles((Path.home().resolve(),), includes_hidden=False)
    assert LocalFiles.below("") == LocalFiles(())
    with pytest.raises(SettingsError, match="set PIAPI_ALLOWED_DIRS"):
        LocalFiles.below("~nobody-of-that-name/clips")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_pipe_or_a_folder_is_refused_at_once(tmp_path: Path, make: object) -> None:
    path = tmp_path / "thing.mp4"
    assert callable(make)
    make(path)
    assert "is not a regular file" in refusal(str(path), tmp_path)


def test_a_device_is_refused() -> None:
    assert "is not a regular file" in refusal("/dev/zero", Path("/dev"))
