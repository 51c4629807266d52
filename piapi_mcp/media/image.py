"""What a picture is: its format and its size in pixels, read from its headers; nothing is decompressed.

An own reader of some lines instead of a library: pictures are built to burst decoders, and whether one is complete,
which opening it with a library does not tell, has to be looked up in the same headers anyway.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.sources import MediaFile

ImageFormat = Literal["JPEG", "PNG"]

_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
_JPEG_BEGIN = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers that stand alone, without a segment behind them."""
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segment that tells the size, one for each way of coding; the three left out mean something else."""
_JPEG_SCAN = 0xDA
_MAX_SECTIONS = 20_000
_SCAN_BLOCK_BYTES = 256 * 1024
_TOO_MANY = "it has far too many sections"


@dataclass(frozen=True)
class ImageFacts:
    """One picture, as its headers describe it."""

    width_px: int
    height_px: int
    """As stored; viewers may turn a JPEG."""
    format: ImageFormat
    size_bytes: int


class _BrokenImageError(Exception):
    """It is no whole picture; the text says why, in a few words."""


def probe_image(media: MediaFile) -> ImageFacts:
    """Return what the picture *media* is. Reads the file: call it in a thread.

    Raises:
        InputRejectedError: It is no whole JPEG or PNG picture.
    """
    try:
        image_format, (width_px, height_px) = _read_image(media)
    except _BrokenImageError as error:
        raise InputRejectedError(
            f"{media.label} cannot be used as a picture: {error}. JPEG and PNG are accepted. Nothing was submitted; "
            "call again with a whole JPEG or PNG file."
        ) from None
    return ImageFacts(width_px, height_px, image_format, media.size_bytes)


def _read_image(media: MediaFile) -> tuple[ImageFormat, tuple[int, int]]:
    begin = media.read_at(0, len(_PNG_BEGIN))
    if not begin:
        raise _BrokenImageError("it is empty")
    image_format: ImageFormat
    if begin == _PNG_BEGIN:
        image_format, size = "PNG", _read_png(media)
    elif begin.startswith(_JPEG_BEGIN):
        image_format, size = "JPEG", _read_jpeg(media)
    else:
        raise _BrokenImageError("it is neither JPEG nor PNG")
    if not all(size):
        raise _BrokenImageError("it has no size")
    return image_format, size


def _read_png(media: MediaFile) -> tuple[int, int]:
    """Walk the chunks up to the last, which a file that was cut off lacks."""
    size, has_pixels = (0, 0), False
    for kind, offset, length in _png_chunks(media):
        if kind == b"IHDR":
            size = _unpack(">II", media.read_at(offset, 8))
        has_pixels |= kind == b"IDAT" and length > 0
        if kind == b"IEND":
            break
    if not has_pixels:
        raise _BrokenImageError("it holds no picture")
    return size[0], size[1]


def _png_chunks(media: MediaFile) -> Iterator[tuple[bytes, int, int]]:
    offset = len(_PNG_BEGIN)
    for number in range(_MAX_SECTIONS):
        length, kind = _unpack(">I4s", media.read_at(offset, 8))
        if (number == 0) != (kind == b"IHDR"):
            raise _BrokenImageError("its header is not where it belongs")
        if offset + length + 12 > media.size_bytes:  # header and checksum
            raise _BrokenImageError("it is cut off")
        yield kind, offset + 8, length
        offset += length + 12
    raise _BrokenImageError(_TOO_MANY)


def _read_jpeg(media: MediaFile) -> tuple[int, int]:
    """Walk the segments up to the pixels, then look for the end, which a file that was cut off lacks."""
    size, offset = (0, 0), 2
    for _ in range(_MAX_SECTIONS):
        filler, marker = _unpack(">BB", media.read_at(offset, 2))
        if filler != 0xFF:  # noqa: PLR2004 -- every marker begins with it
            raise _BrokenImageError("its headers are damaged")
        if marker == 0xFF:  # noqa: PLR2004 -- any number of them may stand before a marker
            offset += 1
            continue
        if marker in _JPEG_STANDALONE:
            offset += 2
            continue
        (length,) = _unpack(">H", media.read_at(offset + 2, 2))
        if marker in _JPEG_FRAMES:
            height_px, width_px = _unpack(">HH", media.read_at(offset + 5, 4))
            size = (width_px, height_px)
        offset += 2 + length
        if marker == _JPEG_SCAN:
            _require_jpeg_end(media, offset)
            return size
    raise _BrokenImageError(_TOO_MANY)


def _require_jpeg_end(media: MediaFile, offset: int) -> None:
    """Look for the end marker among the pixels, where its bytes stand for nothing else; anything may follow it."""
    while offset < media.size_bytes - 1:
        if _JPEG_END in media.read_at(offset, _SCAN_BLOCK_BYTES + 1):  # one more: it may lie across two blocks
            return
        offset += _SCAN_BLOCK_BYTES
    raise _BrokenImageError("it is cut off")


def _unpack(form: str, data: bytes) -> tuple[Any, ...]:
    if len(data) < struct.calcsize(form):
        raise _BrokenImageError("it is cut off")
    return struct.unpack(form, data)
