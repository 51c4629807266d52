"""Videos made with PyAV are probed exactly; files that are not valid videos are refused with the reason."""

import io
import struct
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.mp4 import read_movie
from piapi_mcp.media.sources import MediaFile
from piapi_mcp.media.video import VideoFacts, facts_from_movie, probe_video
from tests.support.media_files import make_clip, make_image


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
    assert facts.shown_frames == 30
    assert facts.frames_are_exact


def test_frames_of_different_durations_are_all_counted() -> None:
    facts = probe(make_clip(frames=20, fps=10, times=tuple(number * (number + 1) // 2 for number in range(20))))
    assert (facts.stored_frames, facts.shown_frames, facts.frames_are_exact) == (20, 20, True)


def test_the_size_of_a_rotated_video_is_the_stored_one() -> None:
    facts = probe(make_clip(frames=10, rotation_degrees=90))
    assert (facts.width_px, facts.height_px) == (160, 90)


def with_edit(clip: bytes, duration_ms: int, start: int) -> bytes:
    """Return *clip* with its edit list replaced by this entry."""
    at = clip.index(b"elst") + 12
    return clip[:at] + struct.pack(">Ii", duration_ms, start) + clip[at + 8 :]


def count_decoded(clip: bytes) -> int:
    with av.open(io.BytesIO(clip), "r", format="mp4") as container:
        return sum(1 for _ in container.decode(video=0))


PLAIN = make_clip(frames=30, fps=15, codec="mpeg4")
REORDERED = make_clip(frames=30, fps=15)
FRAGMENTED = make_clip(frames=10, options={"movflags": "frag_keyframe+empty_moov"})


@pytest.mark.parametrize(
    ("duration_ms", "start_frame", "shown"), [(2000, 0, 30), (1000, 0, 15), (1000, 5, 15), (1400, 9, 21), (200, 27, 3)]
)
def test_frames_that_an_edit_list_hides_are_stored_but_not_shown(
    duration_ms: int, start_frame: int, shown: int
) -> None:
    clip = with_edit(PLAIN, duration_ms, start_frame * 1024)
    facts = probe(clip)
    assert count_decoded(clip) == shown
    assert (facts.stored_frames, facts.shown_frames, facts.frames_are_exact) == (30, shown, True)


def test_an_edit_list_that_shows_nothing_is_refused() -> None:
    assert "it shows no frame" in refusal(with_edit(PLAIN, 1000, 10**6))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([PLAIN, REORDERED]),
    st.integers(1, 2100) | st.integers(1980, 2010),
    st.integers(0, 28_000) | st.just(0) | st.integers(2020, 2080),
)
def test_whatever_the_edit_list_an_exact_count_is_the_count_of_ffmpeg(
    clip: bytes, duration_ms: int, start: int
) -> None:
    edited = with_edit(clip, duration_ms, start)
    facts = facts_from_movie(read_movie(lambda at, length: edited[at : at + length], len(edited)), len(edited))
    with av.open(io.BytesIO(edited), "r", format="mp4") as container:
        shown = sum(1 for packet in container.demux(video=0) if packet.size and not packet.is_discard)
    assert facts.shown_frames == shown or not facts.frames_are_exact


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "it has no index (moov box); it may be truncated", id="empty"),
        pytest.param(make_image(), "it is not an MP4 file", id="png"),
        pytest.param(b"#EXTM3U\n#EXTINF:1,\nhttp://a/b.ts\n", "it is not an MP4 file", id="playlist"),
        pytest.param(b"ffconcat version 1.0\nfile /etc/passwd\n", "it is not an MP4 file", id="concat"),
        pytest.param(make_clip()[:600], "it has no index (moov box); it may be truncated", id="truncated"),
        pytest.param(make_clip(options={"movflags": "faststart"})[:-50], "it is truncated", id="truncated-at-the-end"),
        pytest.param(make_clip().replace(b"ftypisom", b"ftypqt  "), "it is a QuickTime file, not MP4", id="quicktime"),
        pytest.param(make_clip().replace(b"vide", b"soun"), "it has no video track", id="no-image"),
    ],
)
def test_a_file_that_is_not_a_complete_mp4_video_is_refused_with_the_reason(data: bytes, why: str) -> None:
    assert refusal(data) == (
        f"video cannot be used as a video: {why}. PiAPI accepts MP4 only. Nothing was submitted; "
        "convert it to MP4 (H.264) and call again."
    )


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov", "frag_every_frame"])
def test_a_video_whose_last_frame_lacks_a_byte_is_refused(movflags: str) -> None:
    clip = make_clip(options={"movflags": movflags})
    end = clip.rindex(b"mfra") - 4 if b"mfra" in clip else len(clip)
    assert "it is truncated" in refusal(clip[: end - 1])


@pytest.mark.parametrize("appended", [b"PK\x03\x04" + bytes(50), b"\xff" * 20, b"\0" * 9, b"abc"])
def test_data_appended_to_a_complete_video_is_ignored(appended: bytes) -> None:
    assert probe(REORDERED + appended).shown_frames == 30


def test_a_false_size_is_detected_when_the_video_is_demuxed() -> None:
    clip = make_clip(width=640, height=360, frames=10, options={"movflags": "frag_keyframe"})
    at = clip.index(b"avc1", clip.index(b"stsd")) + 28
    false = clip[:at] + struct.pack(">HH", 64, 36) + clip[at + 4 :]
    assert (probe(false).width_px, probe(false).height_px) == (640, 360)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([PLAIN, FRAGMENTED]),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    st.integers(0, 40),
)
def test_whatever_the_bytes_only_our_error_is_raised(clip: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    """The box parser alone has a test with more examples; here FFmpeg gets what the parser lets pass."""
    data = bytearray(clip)
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        facts = probe(bytes(data[: len(data) - cut]))
    except InputRejectedError:
        return
    assert facts.shown_frames > 0
