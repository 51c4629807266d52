"""Images made with Pillow are probed by their headers; files that are not images are refused with the reason."""

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.image import ImageFacts, ImageFormat, probe_image
from piapi_mcp.media.sources import MediaFile
from tests.support.media_files import make_clip, make_image


def probe(data: bytes) -> ImageFacts:
    return probe_image(MediaFile(io.BytesIO(data), label="image", size_bytes=len(data)))


def saved(mode: str, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((300, 200), 50).convert(mode).save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


PNG, JPEG = saved("RGB", "PNG"), saved("RGB", "JPEG")


@pytest.mark.parametrize(
    ("data", "image_format"),
    [
        pytest.param(PNG, "PNG", id="png"),
        pytest.param(saved("P", "PNG"), "PNG", id="png-palette"),
        pytest.param(saved("RGBA", "PNG"), "PNG", id="png-transparent"),
        pytest.param(saved("I;16", "PNG"), "PNG", id="png-16-bit"),
        pytest.param(JPEG, "JPEG", id="jpeg"),
        pytest.param(saved("L", "JPEG"), "JPEG", id="jpeg-grey"),
        pytest.param(saved("CMYK", "JPEG"), "JPEG", id="jpeg-cmyk"),
        pytest.param(saved("RGB", "JPEG", progressive=True), "JPEG", id="jpeg-progressive"),
        pytest.param(saved("RGB", "JPEG", restart_marker_blocks=4), "JPEG", id="jpeg-restart-markers"),
        pytest.param(saved("RGB", "JPEG", exif=b"Exif\0\0" + JPEG[:1000]), "JPEG", id="jpeg-in-jpeg"),
        pytest.param(saved("RGB", "JPEG", comment=b"x" * 60_000), "JPEG", id="jpeg-comment"),
        pytest.param(saved("RGB", "MPO"), "JPEG", id="jpeg-of-several"),
        pytest.param(JPEG[:2] + b"\xff\xff\xff" + JPEG[2:], "JPEG", id="jpeg-filled"),
        pytest.param(PNG + b"PK\x03\x04 and more", "PNG", id="png-and-zip"),
        pytest.param(JPEG + bytes(100), "JPEG", id="jpeg-and-zeros"),
    ],
)
def test_format_and_size_are_read(data: bytes, image_format: ImageFormat) -> None:
    assert probe(data) == ImageFacts(300, 200, image_format, len(data))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"GIF89a" + bytes(100), "it is neither JPEG nor PNG", id="gif"),
        pytest.param(make_image(image_format="WEBP"), "it is neither JPEG nor PNG", id="webp"),
        pytest.param(make_clip(frames=2), "it is neither JPEG nor PNG", id="video"),
        pytest.param(b"<html>", "it is neither JPEG nor PNG", id="html"),
        pytest.param(PNG[:8], "it is truncated", id="png-begin"),
        pytest.param(PNG[:30], "it is truncated", id="png-header"),
        pytest.param(PNG[:-20], "it is truncated", id="png-pixels"),
        pytest.param(PNG[:-12], "it is truncated", id="png-end"),
        pytest.param(PNG[:33] + png_chunk(b"IEND", b""), "it has no pixels", id="png-without-pixels"),
        pytest.param(PNG[:8] + PNG[33:], "its header is missing, misplaced or repeated", id="png-without-header"),
        pytest.param(PNG[:33] + PNG[8:], "its header is missing, misplaced or repeated", id="png-with-two-headers"),
        pytest.param(PNG.replace(PNG[16:20], bytes(4), 1), "its width or height is missing", id="png-of-no-width"),
        pytest.param(PNG[:33] + png_chunk(b"tEXt", b"") * 30_000, "it has far too many sections", id="png-chunks"),
        pytest.param(JPEG[:3], "it is truncated", id="jpeg-begin"),
        pytest.param(JPEG[:300], "it is truncated", id="jpeg-headers"),
        pytest.param(JPEG[:-2], "it is truncated", id="jpeg-end"),
        pytest.param(JPEG[:-1], "it is truncated", id="jpeg-last-byte"),
        pytest.param(JPEG[:2] + b"\xff" * 30_000, "it has far too many sections", id="jpeg-filler"),
        pytest.param(JPEG[:2] + b"\xff\xe0\x00\x02\x00" + JPEG[2:], "its headers are damaged", id="jpeg-garbage"),
        pytest.param(
            JPEG[:2] + JPEG[JPEG.index(b"\xff\xda") :], "its width or height is missing", id="jpeg-without-size"
        ),
    ],
)
def test_a_file_that_is_not_a_complete_image_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(InputRejectedError) as caught:
        probe(data)
    assert str(caught.value) == (
        f"image cannot be used as an image: {why}. JPEG and PNG are accepted. Nothing was submitted; "
        "call again with a complete JPEG or PNG file."
    )


def test_a_bomb_is_not_decompressed() -> None:
    """The header claims 2 gigapixels, and the texts would expand to a gigabyte."""
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10 << 20)))
    huge = PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 40_000, 8, 2, 0, 0, 0)) + text * 100 + PNG[33:]
    assert probe(huge) == ImageFacts(50_000, 40_000, "PNG", len(huge))


def test_the_end_is_found_across_blocks() -> None:
    scan = JPEG.index(b"\xff\xda")
    for length in range(256 * 1024 - 20, 256 * 1024 + 5):
        assert probe(JPEG[: scan + 14] + b"\0" * length + b"\xff\xd9").width_px == 300


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([PNG, JPEG]),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=8),
    st.integers(0, 1000),
)
def test_whatever_the_bytes_only_our_error_is_raised(image: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(image)
    for offset, value in changes:
        data[offset] = value
    try:
        facts = probe(bytes(data[: len(data) - cut]))
    except InputRejectedError:
        return
    assert facts.width_px > 0
    assert facts.height_px > 0
