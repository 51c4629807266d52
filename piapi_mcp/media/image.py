"""Probes images: reads format and size in pixels from the headers, and decompresses nothing.

A small parser instead of a library, because malicious images exhaust decoders, and because opening an image with a
library does not show whether it is complete, which requires parsing the same headers anyway.
"""

import struct
from dataclasses import dataclass
from typing import Any, Literal

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.parsing import InvalidMediaError, ReadAt
from piapi_mcp.media.sources import MediaFile

ImageFormat = Literal["JPEG", "PNG"]

_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
_JPEG_BEGIN = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a segment."""
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segment with the size, one for each coding process; the three excluded ones mean something else."""
_JPEG_SCAN = 0xDA
_MAX_SECTIONS = 20_000
_SCAN_BLOCK_BYTES = 256 * 1024
_TOO_MANY = "it has far too many sections"
_TRUNCATED = "it is truncated"
_MISPLACED = "its header is missing, misplaced or repeated"


@dataclass(frozen=True)
class ImageFacts:
    """One image, as its headers describe it."""

    width_px: int
    height_px: int
    """As stored; viewers may rotate a JPEG."""
    format: ImageFormat
    size_bytes: int


@dataclass(frozen=True)
class ImageHeader:
    """What precedes the pixels."""

    format: ImageFormat
    width_px: int
    height_px: int
    end: int
    """Offset at which the search for the end of the image continues."""


def probe_image(media: MediaFile) -> ImageFacts:
    """Probe the image *media*. Reads the file: call it in a thread.

    Raises:
        InputRejectedError: It is not a complete JPEG or PNG image.
    """
    try:
        header = read_header(media.read_at)
        require_end = _require_png_end if header.format == "PNG" else _require_jpeg_end
        require_end(media, header.end)
    except InvalidMediaError as error:
        raise image_rejection(media.label, error) from None
    return ImageFacts(header.width_px, header.height_px, header.format, media.size_bytes)


def image_rejection(label: str, why: InvalidMediaError) -> InputRejectedError:
    """Return the error for an image that cannot be used and that errors refer to as *label*."""
    return InputRejectedError(
        f"{label} cannot be used as an image: {why}. JPEG and PNG are accepted. Nothing was submitted; "
        "call again with a complete JPEG or PNG file."
    )


def read_header(read_at: ReadAt) -> ImageHeader:
    """Parse what precedes the pixels; whether the pixels follow is not checked.

    Raises:
        InvalidMediaError: It is not a JPEG or PNG image.
    """
    begin = read_at(0, len(_PNG_BEGIN))
    if not begin:
        raise InvalidMediaError("it is empty")
    if begin == _PNG_BEGIN:
        header = _read_png_header(read_at)
    elif begin.startswith(_JPEG_BEGIN):
        header = _read_jpeg_header(read_at)
    else:
        raise InvalidMediaError("it is neither JPEG nor PNG")
    if not header.width_px or not header.height_px:
        raise InvalidMediaError("its width or height is missing")
    return header


def _read_png_header(read_at: ReadAt) -> ImageHeader:
    length, kind, width_px, height_px = _unpack(">I4sII", read_at(8, 16))
    if kind != b"IHDR":
        raise InvalidMediaError(_MISPLACED)
    return ImageHeader("PNG", width_px, height_px, 8 + 12 + length)


def _read_jpeg_header(read_at: ReadAt) -> ImageHeader:
    """Walk the segments up to the pixels."""
    width_px, height_px, offset = 0, 0, 2
    for _ in range(_MAX_SECTIONS):
        begin, marker = _unpack(">BB", read_at(offset, 2))
        if begin != 0xFF:  # noqa: PLR2004 -- every marker begins with this byte
            raise InvalidMediaError("its headers are damaged")
        if marker == 0xFF:  # noqa: PLR2004 -- any number of these bytes may precede a marker
            offset += 1
            continue
        if marker in _JPEG_STANDALONE:
            offset += 2
            continue
        (length,) = _unpack(">H", read_at(offset + 2, 2))
        if marker in _JPEG_FRAMES:
            height_px, width_px = _unpack(">HH", read_at(offset + 5, 4))
        offset += 2 + length
        if marker == _JPEG_SCAN:
            return ImageHeader("JPEG", width_px, height_px, offset)
    raise InvalidMediaError(_TOO_MANY)


def _require_png_end(media: MediaFile, offset: int) -> None:
    """Walk the chunks to the last one, which a truncated file lacks; anything may follow it."""
    has_pixels = False
    for _ in range(_MAX_SECTIONS):
        length, kind = _unpack(">I4s", media.read_at(offset, 8))
        if kind == b"IHDR":
            raise InvalidMediaError(_MISPLACED)
        has_pixels |= kind == b"IDAT" and length > 0
        offset += length + 12
        if offset > media.size_bytes:
            raise InvalidMediaError(_TRUNCATED)
        if kind == b"IEND" and not has_pixels:
            raise InvalidMediaError("it has no pixels")
        if kind == b"IEND":
            return
    raise InvalidMediaError(_TOO_MANY)


def _require_jpeg_end(media: MediaFile, offset: int) -> None:
    """Search the pixels for the end marker, whose bytes mean nothing else there; anything may follow it."""
    while offset < media.size_bytes - 1:
        if _JPEG_END in media.read_at(offset, _SCAN_BLOCK_BYTES + 1):  # one more byte: the marker may span two blocks
            return
        offset += _SCAN_BLOCK_BYTES
    raise InvalidMediaError(_TRUNCATED)


def _unpack(form: str, data: bytes) -> tuple[Any, ...]:
    if len(data) < struct.calcsize(form):
        raise InvalidMediaError(_TRUNCATED)
    return struct.unpack(form, data)
