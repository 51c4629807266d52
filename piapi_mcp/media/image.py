"""What an image is: its format and its size in pixels, read from its headers; nothing is decompressed.

An own reader of some lines instead of a library: images are built to burst decoders, and whether one is complete,
which opening it with a library does not tell, has to be looked up in the same headers anyway.
"""

import struct
from dataclasses import dataclass
from typing import Any, Literal

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.reading import BrokenFileError, ReadAt
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
_CUT_OFF = "it is cut off"
_MISPLACED = "its header is not where it belongs"


@dataclass(frozen=True)
class ImageFacts:
    """One image, as its headers describe it."""

    width_px: int
    height_px: int
    """As stored; viewers may turn a JPEG."""
    format: ImageFormat
    size_bytes: int


@dataclass(frozen=True)
class ImageHeader:
    """What stands before the pixels."""

    format: ImageFormat
    width_px: int
    height_px: int
    end: int
    """Where to go on looking for the end of the image."""


def probe_image(media: MediaFile) -> ImageFacts:
    """Return what the image *media* is. Reads the file: call it in a thread.

    Raises:
        InputRejectedError: It is no whole JPEG or PNG image.
    """
    try:
        header = read_header(media.read_at)
        require_end = _require_png_end if header.format == "PNG" else _require_jpeg_end
        require_end(media, header.end)
    except BrokenFileError as error:
        raise not_an_image(media.label, error) from None
    return ImageFacts(header.width_px, header.height_px, header.format, media.size_bytes)


def not_an_image(label: str, why: BrokenFileError) -> InputRejectedError:
    """Return the refusal of what errors call *label*."""
    return InputRejectedError(
        f"{label} cannot be used as an image: {why}. JPEG and PNG are accepted. Nothing was submitted; "
        "call again with a whole JPEG or PNG file."
    )


def read_header(read_at: ReadAt) -> ImageHeader:
    """Return what stands before the pixels; whether these follow is not looked at.

    Raises:
        BrokenFileError: It is no JPEG or PNG image.
    """
    begin = read_at(0, len(_PNG_BEGIN))
    if not begin:
        raise BrokenFileError("it is empty")
    if begin == _PNG_BEGIN:
        header = _read_png_header(read_at)
    elif begin.startswith(_JPEG_BEGIN):
        header = _read_jpeg_header(read_at)
    else:
        raise BrokenFileError("it is neither JPEG nor PNG")
    if not header.width_px or not header.height_px:
        raise BrokenFileError("it has no size")
    return header


def _read_png_header(read_at: ReadAt) -> ImageHeader:
    length, kind, width_px, height_px = _unpack(">I4sII", read_at(8, 16))
    if kind != b"IHDR":
        raise BrokenFileError(_MISPLACED)
    return ImageHeader("PNG", width_px, height_px, 8 + 12 + length)


def _read_jpeg_header(read_at: ReadAt) -> ImageHeader:
    """Walk the segments up to the pixels."""
    width_px, height_px, offset = 0, 0, 2
    for _ in range(_MAX_SECTIONS):
        begin, marker = _unpack(">BB", read_at(offset, 2))
        if begin != 0xFF:  # noqa: PLR2004 -- so begins every marker
            raise BrokenFileError("its headers are damaged")
        if marker == 0xFF:  # noqa: PLR2004 -- any number of them may stand before a marker
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
    raise BrokenFileError(_TOO_MANY)


def _require_png_end(media: MediaFile, offset: int) -> None:
    """Walk the chunks up to the last, which a file that was cut off lacks; anything may follow it."""
    has_pixels = False
    for _ in range(_MAX_SECTIONS):
        length, kind = _unpack(">I4s", media.read_at(offset, 8))
        if kind == b"IHDR":
            raise BrokenFileError(_MISPLACED)
        has_pixels |= kind == b"IDAT" and length > 0
        offset += length + 12
        if offset > media.size_bytes:
            raise BrokenFileError(_CUT_OFF)
        if kind == b"IEND" and not has_pixels:
            raise BrokenFileError("it holds no image")
        if kind == b"IEND":
            return
    raise BrokenFileError(_TOO_MANY)


def _require_jpeg_end(media: MediaFile, offset: int) -> None:
    """Look for the end marker among the pixels, where its bytes stand for nothing else; anything may follow it."""
    while offset < media.size_bytes - 1:
        if _JPEG_END in media.read_at(offset, _SCAN_BLOCK_BYTES + 1):  # one more: it may lie across two blocks
            return
        offset += _SCAN_BLOCK_BYTES
    raise BrokenFileError(_CUT_OFF)


def _unpack(form: str, data: bytes) -> tuple[Any, ...]:
    if len(data) < struct.calcsize(form):
        raise BrokenFileError(_CUT_OFF)
    return struct.unpack(form, data)
