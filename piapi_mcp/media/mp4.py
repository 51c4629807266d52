"""Parses the boxes of MP4 files without decoding anything (ISO/IEC 14496-12).

Whatever the bytes are, the parser ends soon, takes little memory, and raises nothing but `InvalidMediaError`.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from piapi_mcp.media.parsing import InvalidMediaError, ReadAt

_MAX_INDEX_BYTES = 8 << 20
_MAX_BOXES = 20_000
_MAX_TRACKS = 16
_MAX_SAMPLES = 200_000
_MAX_EDITS = 1000
_MAX_FORMATS = 16
_QUICKTIME = b"qt  "
_ENCRYPTED = "encv"
_TRUNCATED = "a box is truncated"
_TOO_MANY_FRAMES = "its index declares far too many frames"


@dataclass
class Track:
    """One video or sound track."""

    kind: str = ""
    """`vide`, `soun`, or another handler."""
    codec: str = ""
    """Four characters, such as `avc1`."""
    track_id: int = 0
    width_px: int = 0
    height_px: int = 0
    """As stored; the largest if there are several formats. Meaningless for a sound track."""
    timescale: int = 1
    """Units per second of its times."""
    samples: int = 0
    """Frames stored, including those in fragments."""
    edits: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """The edit list: duration in the movie's units, start in the track's units (-1: nothing is shown)."""
    duration_table: bytes = b""
    offset_table: bytes = b""
    """As stored in the file; they are parsed only if needed, which is rare."""

    def durations(self) -> Iterator[tuple[int, int]]:
        """Yield runs of frames with the same duration, as count and duration; frames in fragments are not included."""
        return _pairs(self.duration_table, ">II")

    def offsets(self) -> Iterator[tuple[int, int]]:
        """Yield runs of frames with the same delay between decoding and showing, as count and delay."""
        return _pairs(self.offset_table, ">Ii" if self.offset_table[:1] == b"\1" else ">II")


@dataclass
class Movie:
    """The contents of one file, as its boxes describe them."""

    timescale: int = 1
    tracks: list[Track] = field(default_factory=list[Track])
    is_fragmented: bool = False
    is_truncated: bool = False
    """A box extends beyond the end of the file, or the file ends with something that is not a box."""


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    """Offset of the content."""
    end: int


def read_movie(read_at: ReadAt, size_bytes: int) -> Movie:
    """Parse the boxes of a file of *size_bytes*.

    Raises:
        InvalidMediaError: It is not an MP4 file, or breaks a rule that every ordinary one follows.
    """
    movie, has_index = Movie(), False
    parser = _IndexParser(movie, size_bytes)
    for number, box in enumerate(_top_boxes(read_at, size_bytes)):
        if number == 0 and box.kind != b"ftyp":
            raise InvalidMediaError("it is not an MP4 file")
        if box.kind == b"ftyp" and read_at(box.start, 4) == _QUICKTIME:
            raise InvalidMediaError("it is a QuickTime file, not MP4")
        movie.is_truncated |= box.end > size_bytes
        if box.kind in (b"moov", b"moof"):
            if box.end - box.start > _MAX_INDEX_BYTES or box.end > size_bytes:
                raise InvalidMediaError("its index is truncated or far too large")
            if box.kind == b"moov" and has_index:
                raise InvalidMediaError("it has two indexes")
            parser.parse(memoryview(read_at(box.start, box.end - box.start)), box.kind)
            has_index |= box.kind == b"moov"
    if not has_index:
        raise InvalidMediaError("it has no index (moov box); it may be truncated")
    return movie


def _top_boxes(read_at: ReadAt, size_bytes: int) -> Iterator[_Box]:
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset >= size_bytes:
            return
        header = read_at(offset, 16)
        if offset and (len(header) < 8 or not header[4:8].isascii()):  # noqa: PLR2004 -- size and kind
            yield _Box(b"", offset, size_bytes + 1)  # something was appended, or the last box is truncated
            return
        box = _parse_header(memoryview(header), 0, size_bytes - offset)
        yield _Box(box.kind, offset + box.start, offset + box.end)
        offset += box.end
    raise InvalidMediaError("it has far too many boxes")


def _parse_header(content: memoryview, offset: int, left_bytes: int) -> _Box:
    """Return the box whose header is at *offset*; a size of 0 means that it extends to the end."""
    if len(content) - offset < 8:  # noqa: PLR2004 -- size and kind
        raise InvalidMediaError(_TRUNCATED)
    size, kind = struct.unpack_from(">I4s", content, offset)
    start = 8
    if size == 1:
        if len(content) - offset < 16:  # noqa: PLR2004 -- with a 64-bit size
            raise InvalidMediaError(_TRUNCATED)
        (size,) = struct.unpack_from(">Q", content, offset + 8)
        start = 16
    elif size == 0:
        size = left_bytes
    if size < start:
        raise InvalidMediaError("a box is smaller than its header")
    return _Box(kind, offset + start, offset + size)


class _IndexParser:
    """Parses index boxes and their contents into a movie."""

    def __init__(self, movie: Movie, size_bytes: int) -> None:
        self._movie = movie
        self._size_bytes = size_bytes
        self._boxes = 0
        self._track = Track()
        self._seen = set[bytes]()
        """The boxes of the current track so far. Each must be unique, or parsers disagree about which one counts."""
        self._fragment_of: Track | None = None

    def parse(self, content: memoryview, parent: bytes) -> None:
        offset = 0
        while offset < len(content):
            self._boxes += 1
            if self._boxes > _MAX_BOXES:
                raise InvalidMediaError("it has far too many boxes")
            box = _parse_header(content, offset, len(content) - offset)
            if box.end > len(content):
                raise InvalidMediaError("a box extends beyond its parent")
            try:
                self._parse_box(box.kind, content[box.start : box.end], parent)
            except (struct.error, IndexError):
                raise InvalidMediaError(_TRUNCATED) from None
            offset = box.end

    def _parse_box(self, kind: bytes, content: memoryview, parent: bytes) -> None:
        if (parent, kind) == (b"moov", b"trak"):
            self._begin_track()
        self._movie.is_fragmented |= kind in (b"mvex", b"moof")
        if (parent, kind) in _NESTING:
            self.parse(content, kind)
        elif parse_box := _PARSERS.get((parent, kind)):
            if parent != b"traf" and kind in self._seen:
                raise InvalidMediaError("a box that must be unique appears twice")
            self._seen.add(kind)
            parse_box(self, content)

    def _begin_track(self) -> None:
        if len(self._movie.tracks) >= _MAX_TRACKS:
            raise InvalidMediaError("it has far too many tracks")
        self._track = Track()
        self._seen.clear()
        self._movie.tracks.append(self._track)

    def mvhd(self, content: memoryview) -> None:
        (self._movie.timescale,) = struct.unpack_from(">I", content, 20 if content[0] else 12)

    def tkhd(self, content: memoryview) -> None:
        (self._track.track_id,) = struct.unpack_from(">I", content, 20 if content[0] == 1 else 12)

    def mdhd(self, content: memoryview) -> None:
        (timescale,) = struct.unpack_from(">I", content, 20 if content[0] else 12)
        self._track.timescale = timescale or 1

    def hdlr(self, content: memoryview) -> None:
        self._track.kind = _text(content[8:12])

    def stsd(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 4)
        if not 0 < count <= _MAX_FORMATS:
            raise InvalidMediaError("its index declares no format, or far too many")
        offset = 8
        for number in range(count):
            box = _parse_header(content, offset, len(content) - offset)
            if number == 0 or _text(content[offset + 4 : offset + 8]) == _ENCRYPTED:
                self._track.codec = _text(content[offset + 4 : offset + 8])
            if box.end - box.start >= 28:  # noqa: PLR2004 -- the width and height end here
                width_px, height_px = struct.unpack_from(">HH", content, box.start + 24)
                self._track.width_px = max(self._track.width_px, width_px)
                self._track.height_px = max(self._track.height_px, height_px)
            offset = box.end

    def stsz(self, content: memoryview) -> None:
        _, size, count = struct.unpack_from(">III", content, 0)
        self._add_samples(self._track, count)
        total_bytes = size * count if size else sum(struct.unpack_from(f">{count}I", content, 12))
        if total_bytes > self._size_bytes:
            raise InvalidMediaError("its index declares more data than it has; it may be truncated")

    def stz2(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 8)
        self._add_samples(self._track, count)

    def stts(self, content: memoryview) -> None:
        self._track.duration_table = _table(content)

    def ctts(self, content: memoryview) -> None:
        self._track.offset_table = _table(content)

    def elst(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 4)
        if count > _MAX_EDITS:
            raise InvalidMediaError("its index declares far too many edits")
        form, step = (">Qq", 20) if content[0] else (">Ii", 12)
        self._track.edits = [struct.unpack_from(form, content, 8 + number * step) for number in range(count)]

    def tfhd(self, content: memoryview) -> None:
        (track_id,) = struct.unpack_from(">I", content, 4)
        self._fragment_of = next((track for track in self._movie.tracks if track.track_id == track_id), None)

    def trun(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 4)
        self._movie.is_fragmented = True
        if self._fragment_of is not None:
            self._add_samples(self._fragment_of, count)

    def _add_samples(self, track: Track, count: int) -> None:
        track.samples += count
        if track.samples > _MAX_SAMPLES:
            raise InvalidMediaError(_TOO_MANY_FRAMES)


# Pairs of parent and child. Boxes are parsed only where they belong, so that nothing nests deeper than this.
_NESTING = {
    (b"moov", b"trak"),
    (b"moov", b"mvex"),
    (b"trak", b"mdia"),
    (b"trak", b"edts"),
    (b"mdia", b"minf"),
    (b"minf", b"stbl"),
    (b"moof", b"traf"),
}
_PARSERS: dict[tuple[bytes, bytes], Callable[[_IndexParser, memoryview], None]] = {
    (b"moov", b"mvhd"): _IndexParser.mvhd,
    (b"trak", b"tkhd"): _IndexParser.tkhd,
    (b"mdia", b"mdhd"): _IndexParser.mdhd,
    (b"mdia", b"hdlr"): _IndexParser.hdlr,  # QuickTime files have a second one elsewhere
    (b"edts", b"elst"): _IndexParser.elst,
    (b"stbl", b"stsd"): _IndexParser.stsd,
    (b"stbl", b"stsz"): _IndexParser.stsz,
    (b"stbl", b"stz2"): _IndexParser.stz2,
    (b"stbl", b"stts"): _IndexParser.stts,
    (b"stbl", b"ctts"): _IndexParser.ctts,
    (b"traf", b"tfhd"): _IndexParser.tfhd,
    (b"traf", b"trun"): _IndexParser.trun,
}


def _table(content: memoryview) -> bytes:
    """Return a table of pairs, unparsed, after checking that it is complete."""
    (count,) = struct.unpack_from(">I", content, 4)
    if count > _MAX_SAMPLES:
        raise InvalidMediaError(_TOO_MANY_FRAMES)
    if len(content) < 8 + 8 * count:
        raise InvalidMediaError(_TRUNCATED)
    return bytes(content[: 8 + 8 * count])


def _pairs(table: bytes, form: str) -> Iterator[tuple[int, int]]:
    return struct.iter_unpack(form, memoryview(table)[8:])


def _text(content: memoryview) -> str:
    return "".join(character for character in bytes(content).decode("latin-1") if character.isprintable())
