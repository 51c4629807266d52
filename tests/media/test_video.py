"""What the box reader says of real files, made here with PyAV, and of files that are none."""

import io
from typing import Any

import pytest
from clips import make_clip, make_image
from hypothesis import given, settings
from hypothesis import strategies as st

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.sources import MediaFile
from piapi_mcp.media.video import VideoFacts, probe_video


def probe(data: bytes) -> VideoFacts:
    return probe_video(MediaFile(io.BytesIO(data), label="video", size_bytes=len(data)))


def refusal(data: bytes) -> str:
    with pytest.raises(InputRejectedError) as caught:
        probe(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("made", "codec"),
    [
        pytest.param({}, "avc1", id="h264"),
        pytest.param({"codec": "libx265"}, "hev1", id="h265"),
        pytest.param({"codec": "libvpx-vp9"}, "vp09", id="vp9"),
        pytest.param({"codec": "libsvtav1"}, "av01", id="av1"),
        pytest.param({"codec": "mpeg4"}, "mp4v", id="mpeg4"),
        pytest.param({"audio": True}, "avc1", id="with-sound"),
        pytest.param({"options": {"movflags": "faststart"}}, "avc1", id="index-first"),
        pytest.param({"options": {"movflags": "frag_keyframe+empty_moov"}}, "avc1", id="fragmented-empty-moov"),
        pytest.param({"options": {"movflags": "frag_keyframe"}}, "avc1", id="fragmented"),
        pytest.param({"options": {"movflags": "frag_every_frame"}}, "avc1", id="fragment-a-frame"),
    ],
)
def test_size_and_frames_are_exact(made: dict[str, Any], codec: str) -> None:
    facts = probe(make_clip(width=176, height=96, frames=30, fps=15, **made))
    assert (facts.width_px, facts.height_px, facts.stored_frames, facts.codec) == (176, 96, 30, codec)
    assert facts.has_audio == made.get("audio", False)
    assert facts.shown_frames == 30
    assert facts.frames_are_exact == ("frag" not in str(made))


def test_the_duration_is_that_of_the_picture() -> None:
    assert probe(make_clip(frames=30, fps=15)).duration_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "it has no index (moov box); it may be cut off", id="empty"),
        pytest.param(make_image(), "it does not begin as an MP4 file does", id="png"),
        pytest.param(b"#EXTM3U\n#EXTINF:1,\nhttp://a/b.ts\n", "it does not begin as an MP4 file does", id="playlist"),
        pytest.param(b"ffconcat version 1.0\nfile /etc/passwd\n", "it does not begin as an MP4 file does", id="concat"),
        pytest.param(make_clip()[:600], "it has no index (moov box); it may be cut off", id="cut-off"),
        pytest.param(
            make_clip(options={"movflags": "faststart"})[:-50], "it is cut off before its end", id="cut-off-at-the-end"
        ),
        pytest.param(make_clip().replace(b"ftypisom", b"ftypqt  "), "it is a QuickTime file, not MP4", id="quicktime"),
        pytest.param(make_clip().replace(b"vide", b"soun"), "it has no video track", id="no-picture"),
    ],
)
def test_what_is_no_whole_mp4_is_refused_with_the_reason(data: bytes, why: str) -> None:
    assert refusal(data) == (
        f"video cannot be used as a video: {why}. PiAPI accepts MP4 only. Nothing was submitted; "
        "convert it to MP4 (H.264) and call again."
    )


def test_an_absurd_number_of_frames_is_refused_before_memory_is_spent_on_it() -> None:
    """A known attack: a small file whose table claims 80 million samples."""
    clip = make_clip()
    at = clip.index(b"stsz") + 4
    bomb = clip[:at] + bytes(4) + (1).to_bytes(4, "big") + (80_000_000).to_bytes(4, "big") + clip[at + 12 :]
    assert "absurd number of frames" in refusal(bomb)


def test_boxes_within_boxes_end() -> None:
    nested = b""
    for _ in range(5000):
        nested = (len(nested) + 8).to_bytes(4, "big") + b"edts" + nested
    moov = (len(nested) + 16).to_bytes(4, "big") + b"moov" + (len(nested) + 8).to_bytes(4, "big") + b"trak" + nested
    assert "no video track" in refusal(make_clip()[:32] + moov)


CLIPS = [make_clip(frames=10), make_clip(frames=10, options={"movflags": "frag_keyframe+empty_moov"})]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(CLIPS),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    st.integers(0, 4000),
)
def test_whatever_the_bytes_only_our_error_comes_out(clip: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(clip)
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        facts = probe(bytes(data[: len(data) - cut if cut < len(data) else len(data)]))
    except InputRejectedError:
        return
    assert facts.width_px > 0
