"""A small reader of MP4 files: what their boxes say, without decoding anything (ISO/IEC 14496-12).

Whatever the bytes are, it ends soon, takes little memory, and raises nothing but `BrokenFileError`.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ReadAt = Callable[[int, int], bytes]
"""Reads up to so many bytes (second) from an offset (first)."""

_MAX_MOOV_BYTES = 8 << 20
_MAX_BOXES = 20_000
_MAX_TRACKS = 16
_MAX_SAMPLES = 200_000
_QUICKTIME = b"qt  "


class BrokenFileError(Exception):
    """The bytes are no MP4 file that can be understood; the text says why, in a few words."""


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
    rotation_degrees: int = 0
    """How far players turn the picture, clockwise: 0, 90, 180 or 270."""
    timescale: int = 1
    """Units a second in which its times are counted."""
    samples: int = 0
    """Frames stored, those in fragments included."""
    durations: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Runs of samples of the same duration: count, duration."""
    offsets: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Runs of samples shown later than decoded: count, by how much."""
    edits: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """What is shown of it: duration in the movie's units, start in the track's (-1: nothing)."""


@dataclass
class Movie:
    """What the boxes of one file say."""

    timescale: int = 1
    tracks: list[Track] = field(default_factory=list[Track])
    is_fragmented: bool = False
    is_truncated: bool = False
    """A box ends after the file does."""


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
    movie, has_moov = Movie(), False
    for number, box in enumerate(_top_boxes(read_at, size_bytes)):
        if number == 0 and box.kind != b"ftyp":
            raise BrokenFileError("it does not begin as an MP4 file does")
        if box.kind == b"ftyp" and read_at(box.start, 4) == _QUICKTIME:
            raise BrokenFileError("it is a QuickTime file, not MP4")
        movie.is_truncated |= box.end > size_bytes
        if box.kind in (b"moov", b"moof"):
            if box.end - box.start > _MAX_MOOV_BYTES or box.end > size_bytes:
                raise BrokenFileError("its index is incomplete or far too large")
            content = memoryview(read_at(box.start, box.end - box.start))
            _Reader(movie, size_bytes).read(content, box.kind)
            has_moov |= box.kind == b"moov"
    if not has_moov:
        raise BrokenFileError("it has no index (moov box); it may be cut off")
    return movie


def _top_boxes(read_at: ReadAt, size_bytes: int) -> Iterator[_Box]:
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset >= size_bytes:
            return
        header = read_at(offset, 16)
        box = _parse_header(memoryview(header), 0, size_bytes - offset)
        yield _Box(box.kind, offset + box.start, offset + box.end)
        offset += box.end
    raise BrokenFileError("it has far too many boxes")


def _parse_header(content: memoryview, offset: int, left_bytes: int) -> _Box:
    """Return the box whose header stands at *offset*; 0 as its size means up to the end."""
    if len(content) - offset < 8:  # noqa: PLR2004 -- size and kind
        raise BrokenFileError("a box is cut off")
    size, kind = struct.unpack_from(">I4s", content, offset)
    start = 8
    if size == 1:
        if len(content) - offset < 16:  # noqa: PLR2004 -- with a 64-bit size
            raise BrokenFileError("a box is cut off")
        (size,) = struct.unpack_from(">Q", content, offset + 8)
        start = 16
    elif size == 0:
        size = left_bytes
    if size < start:
        raise BrokenFileError("a box is smaller than its header")
    return _Box(kind, offset + start, offset + size)


class _Reader:
    """Reads one index box, and what is in it, into a movie."""

    def __init__(self, movie: Movie, size_bytes: int) -> None:
        self._movie = movie
        self._size_bytes = size_bytes
        self._track = Track()
        self._boxes = 0
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
                raise BrokenFileError("a box is cut off") from None
            offset = box.end

    def _read_box(self, kind: bytes, content: memoryview, parent: bytes) -> None:
        if kind == b"trak":
            if len(self._movie.tracks) >= _MAX_TRACKS:
                raise BrokenFileError("it has far too many tracks")
            self._track = Track()
            self._movie.tracks.append(self._track)
        if kind == b"mvex":
            self._movie.is_fragmented = True
        if (parent, kind) in _NESTING:
            self.read(content, kind)
        elif reader := _READERS.get((parent, kind)):
            reader(self, content)

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
        self._track.kind = bytes(content[8:12]).decode("latin-1")

    def stsd(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 4)
        if count:
            self._track.codec = bytes(content[12:16]).decode("latin-1")
            if self._track.kind == "vide":
                self._track.width_px, self._track.height_px = struct.unpack_from(">HH", content, 40)

    def stsz(self, content: memoryview) -> None:
        _, size, count = struct.unpack_from(">III", content, 0)
        self._add_samples(self._track, count)
        if size * count > self._size_bytes or (not size and len(content) < 12 + 4 * count):
            raise BrokenFileError("its index names more frames than it lists")

    def stz2(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 8)
        self._add_samples(self._track, count)

    def stts(self, content: memoryview) -> None:
        self._track.durations = list(_pairs(content, ">II"))

    def ctts(self, content: memoryview) -> None:
        self._track.offsets = list(_pairs(content, ">Ii" if content[0] else ">II"))

    def elst(self, content: memoryview) -> None:
        (count,) = struct.unpack_from(">I", content, 4)
        form, step = (">Qq", 20) if content[0] else (">Ii", 12)
        for number in range(min(count, _MAX_BOXES)):
            self._track.edits.append(struct.unpack_from(form, content, 8 + number * step))

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
            raise BrokenFileError("its index names an absurd number of frames")


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


def _pairs(content: memoryview, form: str) -> Iterator[tuple[int, int]]:
    (count,) = struct.unpack_from(">I", content, 4)
    if count > _MAX_SAMPLES or len(content) < 8 + 8 * count:
        raise BrokenFileError("a table is cut off")
    for number in range(count):
        first, second = struct.unpack_from(form, content, 8 + 8 * number)
        yield first, second


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
