"""The box parser refuses attacks before it spends memory on them, and raises nothing but its own error."""

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piapi_mcp.media.mp4 import read_movie
from piapi_mcp.media.parsing import InvalidMediaError
from piapi_mcp.media.video import VideoFacts, facts_from_movie
from tests.support.media_files import make_clip


def parse(data: bytes) -> VideoFacts:
    return facts_from_movie(read_movie(lambda offset, length: data[offset : offset + length], len(data)), len(data))


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
    pytest.param(movie(track(FORMAT, full(b"stsz", 1, 80 * MILLION))), "far too many frames", id="80-million-frames"),
    pytest.param(movie(track(FORMAT, full(b"stsz", 0, 100))), "a box is truncated", id="table-too-short"),
    pytest.param(
        movie(track(FORMAT, full(b"stsz", 1000, 100))), "declares more data than it has", id="frames-too-large"
    ),
    pytest.param(
        movie(track(FORMAT, full(b"stsz", 0, 2, 1, 2**32 - 1))),
        "declares more data than it has",
        id="a-frame-too-large",
    ),
    pytest.param(movie(track(FORMAT, full(b"stts", MILLION))), "far too many frames", id="times-too-many"),
    pytest.param(movie(track(FORMAT, full(b"ctts", 1000))), "a box is truncated", id="times-too-short"),
    pytest.param(
        movie(box(b"trak", box(b"edts", full(b"elst", MILLION, then=bytes(12 * MILLION // 2))))),
        "far too many edits",
        id="edits",
    ),
    pytest.param(movie(track(FORMAT, FORMAT)), "must be unique appears twice", id="two-formats"),
    pytest.param(movie(track(full(b"stsd", MILLION))), "no format, or far too many", id="formats"),
    pytest.param(movie(track(full(b"stsd", 2, then=b"\0\0\0\x09avc1\0"))), "a box is truncated", id="format-missing"),
    pytest.param(movie(track(FORMAT)) + box(b"moov", track(FORMAT)), "it has two indexes", id="two-indexes"),
    pytest.param(movie(*[track(FORMAT)] * 5000), "far too many tracks", id="5000-tracks"),
    pytest.param(movie(box(b"free", b"") * MILLION), "far too many boxes", id="a-million-boxes"),
    pytest.param(movie() + box(b"free", b"") * MILLION, "far too many boxes", id="a-million-boxes-outside"),
    pytest.param(movie() + box(b"moof", box(b"free", b"") * 1000) * 900, "far too many boxes", id="boxes-in-fragments"),
    pytest.param(movie(box(b"free", bytes(9 * MILLION))), "far too large", id="huge-index"),
    pytest.param(movie(b"\0\0\0\x04free"), "smaller than its header", id="box-of-no-size"),
    pytest.param(movie(b"\0\0\0\x01free" + b"\xff" * 8), "extends beyond its parent", id="box-of-2-to-the-64"),
    pytest.param(movie(track(FORMAT.replace(b"avc1", b"encv"))), "it is encrypted", id="encrypted"),
    pytest.param(movie(track(FORMAT, full(b"stsz", 0, 0))), "it has no frames", id="no-frames"),
]


@pytest.mark.parametrize(("data", "why"), HOSTILE)
def test_an_attack_is_refused_before_memory_is_spent_on_it(data: bytes, why: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidMediaError, match=why):
            parse(data)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_deeply_nested_boxes_are_not_followed() -> None:
    nested = b""
    for _ in range(5000):
        nested = box(b"edts", nested)
    with pytest.raises(InvalidMediaError, match="no video track"):
        parse(movie(box(b"trak", nested)))


CLIPS = [make_clip(frames=10), make_clip(frames=10, options={"movflags": "frag_keyframe+empty_moov"})]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(CLIPS),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    st.integers(0, 4000),
)
def test_whatever_the_bytes_only_our_error_is_raised(clip: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(clip)
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        facts = parse(bytes(data[: max(0, len(data) - cut)]))
    except InvalidMediaError:
        return
    assert facts.width_px > 0
