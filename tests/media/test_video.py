"""What the box reader says of real files, made here with PyAV, and of files that are none."""

import io
import struct
import subprocess
import sys
import tracemalloc
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.mp4 import read_movie
from piapi_mcp.media.reading import BrokenFileError
from piapi_mcp.media.sources import MediaFile
from piapi_mcp.media.video import VideoFacts, facts_of, probe_video
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
    assert facts.has_audio == made.get("audio", False)
    assert facts.shown_frames == 30
    assert facts.frames_are_exact
    assert facts.duration_s == pytest.approx(2.0)
    assert facts.fps == pytest.approx(15)


def test_frames_are_counted_however_long_each_is_shown() -> None:
    facts = probe(make_clip(frames=20, fps=10, times=tuple(number * (number + 1) // 2 for number in range(20))))
    assert (facts.stored_frames, facts.shown_frames, facts.frames_are_exact) == (20, 20, True)
    assert facts.duration_s == pytest.approx(19.1)


@pytest.mark.parametrize(("counter_clockwise", "clockwise"), [(0, 0), (-90, 90), (180, 180), (90, 270)])
def test_a_turned_image_is_told_as_stored_with_the_turn(counter_clockwise: int, clockwise: int) -> None:
    facts = probe(make_clip(frames=10, rotation_degrees=counter_clockwise))
    assert (facts.width_px, facts.height_px, facts.rotation_degrees) == (160, 90, clockwise)


def with_edit(clip: bytes, duration_ms: int, start: int) -> bytes:
    """Return *clip* with another entry in its edit list."""
    at = clip.index(b"elst") + 12
    return clip[:at] + struct.pack(">Ii", duration_ms, start) + clip[at + 8 :]


def count_decoded(clip: bytes) -> int:
    with av.open(io.BytesIO(clip), "r", format="mp4") as container:
        return sum(1 for _ in container.decode(video=0))


PLAIN = make_clip(frames=30, fps=15, codec="mpeg4")
REORDERED = make_clip(frames=30, fps=15)


@pytest.mark.parametrize(
    ("duration_ms", "start_frame", "shown"), [(2000, 0, 30), (1000, 0, 15), (1000, 5, 15), (1400, 9, 21), (200, 27, 3)]
)
def test_frames_that_an_edit_list_cuts_off_are_stored_but_not_shown(
    duration_ms: int, start_frame: int, shown: int
) -> None:
    clip = with_edit(PLAIN, duration_ms, start_frame * 1024)
    facts = probe(clip)
    assert count_decoded(clip) == shown
    assert (facts.stored_frames, facts.shown_frames, facts.frames_are_exact) == (30, shown, True)


def test_an_edit_list_that_shows_nothing_is_refused() -> None:
    assert "it shows no frame" in refusal(with_edit(PLAIN, 1000, 10**6))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([PLAIN, REORDERED]), st.integers(1, 2100), st.integers(0, 28_000))
def test_whatever_the_edit_list_we_count_as_ffmpeg_does(clip: bytes, duration_ms: int, start: int) -> None:
    edited = with_edit(clip, duration_ms, start)
    with av.open(io.BytesIO(edited), "r", format="mp4") as container:
        shown = sum(1 for packet in container.demux(video=0) if packet.size and not packet.is_discard)
    assert probe(edited).shown_frames == shown if shown else "it shows no frame" in refusal(edited)


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
        pytest.param(make_clip().replace(b"vide", b"soun"), "it has no video track", id="no-image"),
    ],
)
def test_what_is_no_whole_mp4_is_refused_with_the_reason(data: bytes, why: str) -> None:
    assert refusal(data) == (
        f"video cannot be used as a video: {why}. PiAPI accepts MP4 only. Nothing was submitted; "
        "convert it to MP4 (H.264) and call again."
    )


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov", "frag_every_frame"])
def test_a_video_of_which_the_last_frame_lacks_a_byte_is_refused(movflags: str) -> None:
    clip = make_clip(options={"movflags": movflags})
    end = clip.rindex(b"mfra") - 4 if b"mfra" in clip else len(clip)
    assert "it is cut off before its end" in refusal(clip[: end - 1])


@pytest.mark.parametrize("appended", [b"PK\x03\x04" + bytes(50), b"\xff" * 20, b"\0" * 9, b"abc"])
def test_what_is_appended_to_a_whole_video_does_no_harm(appended: bytes) -> None:
    assert probe(REORDERED + appended).shown_frames == 30


def test_a_lie_about_the_size_is_seen_where_the_video_is_read_through() -> None:
    clip = make_clip(width=640, height=360, frames=10, options={"movflags": "frag_keyframe"})
    at = clip.index(b"avc1", clip.index(b"stsd")) + 28
    lie = clip[:at] + struct.pack(">HH", 64, 36) + clip[at + 4 :]
    assert (probe(lie).width_px, probe(lie).height_px) == (640, 360)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind: bytes, *numbers: int, then: bytes = b"") -> bytes:
    return box(kind, bytes(4) + struct.pack(f">{len(numbers)}I", *numbers) + then)


def movie(*boxes: bytes) -> bytes:
    return box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", b"".join(boxes))


def track(*tables: bytes) -> bytes:
    handler = box(b"hdlr", bytes(8) + b"vide" + bytes(12))
    return box(b"trak", box(b"mdia", handler + box(b"minf", box(b"stbl", b"".join(tables)))))


FORMAT = full(b"stsd", 1, then=box(b"avc1", bytes(24) + struct.pack(">HH", 160, 90)))
MILLION = 1_000_000

HOSTILE = [
    pytest.param(
        movie(track(FORMAT, full(b"stsz", 1, 80 * MILLION))), "absurd number of frames", id="80-million-frames"
    ),
    pytest.param(movie(track(FORMAT, full(b"stsz", 0, 100))), "a box is cut off", id="table-too-short"),
    pytest.param(movie(track(FORMAT, full(b"stsz", 1000, 100))), "names more bytes than it has", id="frames-too-large"),
    pytest.param(
        movie(track(FORMAT, full(b"stsz", 0, 2, 1, 2**32 - 1))), "names more bytes than it has", id="a-frame-too-large"
    ),
    pytest.param(movie(track(FORMAT, full(b"stts", MILLION))), "absurd number of frames", id="times-too-many"),
    pytest.param(movie(track(FORMAT, full(b"ctts", 1000))), "a box is cut off", id="times-too-short"),
    pytest.param(
        movie(box(b"trak", box(b"edts", full(b"elst", MILLION, then=bytes(12 * MILLION // 2))))),
        "absurd number of cuts",
        id="edits",
    ),
    pytest.param(movie(track(FORMAT, FORMAT)), "stands twice", id="two-formats"),
    pytest.param(movie(track(full(b"stsd", MILLION))), "no format, or far too many", id="formats"),
    pytest.param(movie(track(full(b"stsd", 2, then=b"\0\0\0\x09avc1\0"))), "a box is cut off", id="format-missing"),
    pytest.param(movie(track(FORMAT)) + box(b"moov", track(FORMAT)), "it has two indexes", id="two-indexes"),
    pytest.param(movie(*[track(FORMAT)] * 5000), "far too many tracks", id="5000-tracks"),
    pytest.param(movie(box(b"free", b"") * MILLION), "far too many boxes", id="a-million-boxes"),
    pytest.param(movie() + box(b"free", b"") * MILLION, "far too many boxes", id="a-million-boxes-outside"),
    pytest.param(movie() + box(b"moof", box(b"free", b"") * 1000) * 900, "far too many boxes", id="boxes-in-fragments"),
    pytest.param(movie(box(b"free", bytes(9 * MILLION))), "far too large", id="huge-index"),
    pytest.param(movie(b"\0\0\0\x04free"), "smaller than its header", id="box-of-no-size"),
    pytest.param(movie(b"\0\0\0\x01free" + b"\xff" * 8), "reaches out of the one around it", id="box-of-2-to-the-64"),
    pytest.param(movie(track(FORMAT.replace(b"avc1", b"encv"))), "it is encrypted", id="encrypted"),
    pytest.param(movie(track(FORMAT, full(b"stsz", 0, 0))), "it has no frames", id="no-frames"),
]


@pytest.mark.parametrize(("data", "why"), HOSTILE)
def test_an_attack_on_the_reader_is_refused_before_memory_is_spent_on_it(data: bytes, why: str) -> None:
    media = MediaFile(io.BytesIO(data), label="video", size_bytes=len(data))
    tracemalloc.start()
    try:
        with pytest.raises(InputRejectedError, match=why):
            probe_video(media)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_boxes_within_boxes_end() -> None:
    nested = b""
    for _ in range(5000):
        nested = box(b"edts", nested)
    assert "no video track" in refusal(movie(box(b"trak", nested)))


def test_ffmpeg_sees_nothing_of_a_stranger_within_the_server() -> None:
    """Ours: it reads in a process of its own, which knows none of our secrets."""
    script = (
        "import io, sys; from piapi_mcp.media.sources import MediaFile; from piapi_mcp.media.video import probe_video;"
        "data = sys.stdin.buffer.read(); media = MediaFile(io.BytesIO(data), label='video', size_bytes=len(data));"
        "print(probe_video(media).frames_are_exact, sorted({'av', 'PIL'} & set(sys.modules)))"
    )
    clip = make_clip(options={"movflags": "frag_keyframe"})
    done = subprocess.run([sys.executable, "-c", script], input=clip, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == "True []"


CLIPS = [make_clip(frames=10), make_clip(frames=10, options={"movflags": "frag_keyframe+empty_moov"})]


CHANGES = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8)


def changed(clip: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    data = bytearray(clip)
    for offset, value in changes:
        data[offset % len(data)] = value
    return bytes(data[: max(0, len(data) - cut)])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CLIPS), CHANGES, st.integers(0, 4000))
def test_whatever_the_bytes_the_boxes_are_read_or_broken(clip: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = changed(clip, changes, cut)
    try:
        facts = facts_of(read_movie(lambda offset, length: data[offset : offset + length], len(data)), len(data))
    except BrokenFileError:
        return
    assert facts.width_px > 0


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(CLIPS), CHANGES, st.integers(0, 40))
def test_whatever_the_bytes_only_our_error_comes_out(clip: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    try:
        facts = probe(changed(clip, changes, cut))
    except InputRejectedError:
        return
    assert facts.shown_frames > 0
