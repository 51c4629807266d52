"""A small reader of MP4 files: what their boxes say, without decoding anything (ISO/IEC 14496-12).

Whatever the bytes are, it ends soon, takes little memory, and raises nothing but `BrokenFileError`.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from piapi_mcp.media.reading import BrokenFileError, ReadAt

_MAX_INDEX_BYTES = 8 << 20
_MAX_BOXES = 20_000
_MAX_TRACKS = 16
_MAX_SAMPLES = 200_000
_MAX_EDITS = 1000
_MAX_FORMATS = 16
_QUICKTIME = b"qt  "
_ENCRYPTED = "encv"
_CUT_OFF = "a box is cut off"
_ABSURD = "its index names an absurd number of frames"


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
    """As stored; the largest, where there are several formats. Means nothing in a sound track."""
    rotation_degrees: int = 0
    """How far players turn the image, clockwise: 0, 90, 180 or 270."""
    timescale: int = 1
    """Units a second in which its times are counted."""
    samples: int = 0
    """Frames stored, those in fragments included."""
    edits: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """What is shown of it: duration in the movie's units, start in the track's (-1: nothing)."""
    duration_table: bytes = b""
    offset_table: bytes = b""
    """As they stand in the file: mostly, nobody needs them taken apart."""

    def durations(self) -> Iterator[tuple[int, int]]:
        """Yield runs of frames of the same duration, fragments not included: count, duration."""
        return _pairs(self.duration_table, ">II")

    def offsets(self) -> Iterator[tuple[int, int]]:
        """Yield runs of frames that are shown later than decoded: count, by how much."""
        return _pairs(self.offset_table, ">Ii" if self.offset_table[:1] == b"\1" else ">II")


@dataclass
class Movie:
    """What the boxes of one file say."""

    timescale: int = 1
    tracks: list[Track] = field(default_factory=list[Track])
    is_fragmented: bool = False
    is_truncated: bool = False
    """A box ends after the file does, or what ends the file is no box."""


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    """Offset of the content."""
    end: int


def read_movie(read_at: ReadAt, size_bytes: int) -> Movie:
    """Return what the boxes of a file of *size_bytes* say.

    Raises:
        BrokenFileError: It is no MP4 file, or breaks a rule that every real one keeps.
    """
    movie, has_index = Movie(), False
    reader = _Reader(movie, size_bytes)
    for number, box in enumerate(_top_boxes(read_at, size_bytes)):
        if number == 0 and box.kind != b"ftyp":
            raise BrokenFileError("it does not begin as an MP4 file does")
        if box.kind == b"ftyp" and read_at(box.start, 4) == _QUICKTIME:
            raise BrokenFileError("it is a QuickTime file, not MP4")
        movie.is_truncated |= box.end > size_bytes
        if box.kind in (b"moov", b"moof"):
            if box.end - box.start > _MAX_INDEX_BYTES or box.end > size_bytes:
                raise BrokenFileError("its index is incomplete or far too large")
            if box.kind == b"moov" and has_index:
                raise BrokenFileError("it has two indexes")
            reader.read(memoryview(read_at(box.start, box.end - box.start)), box.kind)
            has_index |= box.kind == b"moov"
    if not has_index:
        raise BrokenFileError("it has no index (moov box); it may be cut off")
    return movie


def _top_boxes(read_at: ReadAt, size_bytes: int) -> Iterator[_Box]:
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset >= size_bytes:
            return
        header = read_at(offset, 16)
        if offset and (len(header) < 8 or not header[4:8].isascii()):  # noqa: PLR2004 -- size and kind
            yield _Box(b"", offset, size_bytes + 1)  # something was appended, or the last box is cut off
            return
        box = _parse_header(memoryview(header), 0, size_bytes - offset)
        yield _Box(box.kind, offset + box.start, offset + box.end)
        offset += box.end
    raise BrokenFileError("it has far too many boxes")


def _parse_header(content: memoryview, offset: int, left_bytes: int) -> _Box:
    """Return the box whose header stands at *offset*; 0 as its size means up to the end."""
    if len(content) - offset < 8:  # noqa: PLR2004 -- size and kind
        raise BrokenFileError(_CUT_OFF)
    size, kind = struct.unpack_from(">I4s", content, offset)
    start = 8
    if size == 1:
        if len(content) - offset < 16:  # noqa: PLR2004 -- with a 64-bit size
            raise BrokenFileError(_CUT_OFF)
        (size,) = struct.unpack_from(">Q", content, offset + 8)
        start = 16
    elif size == 0:
        size = left_bytes
    if size < start:
        raise BrokenFileError("a box is smaller than its header")
    return _Box(kind, offset + start, offset + size)


class _Reader:
    """Reads index boxes, and what is in them, into a movie."""

    def __init__(self, movie: Movie, size_bytes: int) -> None:
        self._movie = movie
        self._size_bytes = size_bytes
        self._boxes = 0
        self._track = Track()
        self._seen = set[bytes]()
        """The boxes that the current track had: each stands once, or readers disagree about which one counts."""
        self._fragment_of: Track | None = None

    def read(self, content: memoryview, parent: bytes) -> None:
        offset = 0
        while offset < len(content):
            self._boxes += 1
            if self._boxes > _MAX_BOXES:
                raise BrokenFileError("it has far too many boxes")
            box = _parse_header(content, offset, len(content) - offset)
            if box.end > len(content):
                raise BrokenFileError("a box reaches out of the one around it")
            try:
                self._read_box(box.kind, content[box.start : box.end], parent)
            except (struct.error, IndexError):
                raise BrokenFileError(_CUT_OFF) from None
            offset = box.end

    def _read_box(self, kind: bytes, content: memoryview, parent: bytes) -> None:
        if (parent, kind) == (b"moov", b"trak"):
            self._begin_track()
        self._movie.is_fragmented |= kind in (b"mvex", b"moof")
        if (parent, kind) in _NESTING:
            self.read(content, kind)
        elif reader := _READERS.get((parent, kind)):
            if parent != b"traf" and kind in self._seen:
                raise BrokenFileError("a box that stands once stands twice")
            self._seen.add(kind)
            reader(self, content)

    def _begin_track(self) -> None:
        if len(self._movie.tracks) >= _MAX_TRACKS:
            raise BrokenFileError("it has far too many tracks")
        self._track = Track()
        self._seen.clear()
        self._movie.tracks.append(self._track)

    def mvhd(self, content: memoryview) -> None:
        (self._movie.timescale,) = struct.unpack_from(">I", content, 20 if content[0] else 12)

    def tkhd(self, content: memoryview) -> None:
        is_long = content[0] == 1
        (self._track.track_id,) = struct.unpack_from(">I", content, 20 if is_long else 12)
        a, b = struct.unpack_from(">ii", content, 52 if is_long else 40)  # the matrix's first row tells the turn
        turns = {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}
        self._track.rotation_degrees = turns.get((_sign(a), _sign(b)), 0)

    def mdhd(self, content: memoryview) -> None:
        (timescale,) = struct.unpack_from(">I", content, 20 if content[0] else 12)
        self._track.timescale = timescale or 1

    def hdlr(self, content: memoryview) -> None:
        self._track.kind = _text(content[8:12])

    def stsd(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 4)
        if not 0 < count <= _MAX_FORMATS:
            raise BrokenFileError("its index names no format, or far too many")
        offset = 8
        for number in range(count):
            box = _parse_header(content, offset, len(content) - offset)
            if number == 0 or _text(content[offset + 4 : offset + 8]) == _ENCRYPTED:
                self._track.codec = _text(content[offset + 4 : offset + 8])
            if box.end - box.start >= 28:  # noqa: PLR2004 -- where the size of an image ends
                width_px, height_px = struct.unpack_from(">HH", content, box.start + 24)
                self._track.width_px = max(self._track.width_px, width_px)
                self._track.height_px = max(self._track.height_px, height_px)
            offset = box.end

    def stsz(self, content: memoryview) -> None:
        _, size, count = struct.unpack_from(">III", content, 0)
        self._add_samples(self._track, count)
        total_bytes = size * count if size else sum(struct.unpack_from(f">{count}I", content, 12))
        if total_bytes > self._size_bytes:
            raise BrokenFileError("its index names more bytes than it has; it may be cut off")

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
            raise BrokenFileError("its index names an absurd number of cuts")
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
            raise BrokenFileError(_ABSURD)


# Only where they belong, so that nothing nests deeper than this: the box around, the box.
_NESTING = {
    (b"moov", b"trak"),
    (b"moov", b"mvex"),
    (b"trak", b"mdia"),
    (b"trak", b"edts"),
    (b"mdia", b"minf"),
    (b"minf", b"stbl"),
    (b"moof", b"traf"),
}
_READERS: dict[tuple[bytes, bytes], Callable[[_Reader, memoryview], None]] = {
    (b"moov", b"mvhd"): _Reader.mvhd,
    (b"trak", b"tkhd"): _Reader.tkhd,
    (b"mdia", b"mdhd"): _Reader.mdhd,
    (b"mdia", b"hdlr"): _Reader.hdlr,  # QuickTime has a second one elsewhere
    (b"edts", b"elst"): _Reader.elst,
    (b"stbl", b"stsd"): _Reader.stsd,
    (b"stbl", b"stsz"): _Reader.stsz,
    (b"stbl", b"stz2"): _Reader.stz2,
    (b"stbl", b"stts"): _Reader.stts,
    (b"stbl", b"ctts"): _Reader.ctts,
    (b"traf", b"tfhd"): _Reader.tfhd,
    (b"traf", b"trun"): _Reader.trun,
}


def _table(content: memoryview) -> bytes:
    """Return a table of pairs as it stands, known to be whole."""
    (count,) = struct.unpack_from(">I", content, 4)
    if count > _MAX_SAMPLES:
        raise BrokenFileError(_ABSURD)
    if len(content) < 8 + 8 * count:
        raise BrokenFileError(_CUT_OFF)
    return bytes(content[: 8 + 8 * count])


def _pairs(table: bytes, form: str) -> Iterator[tuple[int, int]]:
    return struct.iter_unpack(form, memoryview(table)[8:])


def _text(content: memoryview) -> str:
    return "".join(character for character in bytes(content).decode("latin-1") if character.isprintable())


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
