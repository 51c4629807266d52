"""FFmpeg and Pillow run in a contained process; what comes out of it is small, and its failures are harmless."""

import asyncio
import io
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from PIL import Image

from piapi_mcp.media.decoder import DecodingError, count_frames, make_preview
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.sources import MediaFile
from tests.support.media_files import make_clip, make_image, make_raw_png
from tests.support.website import Website, answer


async def preview(site: Website, data: bytes) -> bytes | None:
    return await make_preview(Fetcher(frozenset({site.origin})), site.serve("/result", data))


def noise(mode: str, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((900, 600), 50).convert(mode).save(buffer, image_format, **options)
    return buffer.getvalue()


def black_png(width: int, height: int) -> bytes:
    """Return a PNG of one bit a pixel, small enough to be made in no time."""
    return make_raw_png(width, height, bytes((1 + width // 8) * height), bits=1, color_type=0)


IMAGE = noise("RGB", "PNG")


@pytest.mark.parametrize(
    ("data", "size_px"),
    [
        pytest.param(make_clip(), (160, 90), id="video"),
        pytest.param(make_clip(codec="libvpx-vp9"), (160, 90), id="video-vp9"),
        pytest.param(noise("RGBA", "PNG"), (512, 341), id="png"),
        pytest.param(black_png(8000, 9000), (455, 512), id="png-of-72-megapixels"),
        pytest.param(noise("P", "PNG", transparency=0), (512, 341), id="png-palette"),
        pytest.param(noise("CMYK", "JPEG"), (512, 341), id="jpeg"),
        pytest.param(noise("RGBA", "WEBP", lossless=True), (512, 341), id="webp"),
    ],
)
async def test_a_preview_is_a_small_jpeg(site: Website, data: bytes, size_px: tuple[int, int]) -> None:
    """Ours: the process opens no file once it decodes, so everything that a format needs must be loaded before."""
    jpeg = await preview(site, data)
    assert jpeg is not None
    assert len(jpeg) <= 60_000
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", size_px)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(make_image(image_format="GIF"), id="another-format"),
        pytest.param(make_image()[:-60], id="truncated"),
        pytest.param(make_clip()[:600], id="video-without-index"),
        pytest.param(black_png(10_000, 9000), id="too-many-pixels"),
    ],
)
async def test_media_that_cannot_be_decoded_has_no_preview(site: Website, data: bytes) -> None:
    assert await preview(site, data) is None


async def test_a_cancelled_preview_ends_at_once_and_leaves_no_file_open(site: Website) -> None:
    """An unclosed file would fail the test by its ResourceWarning."""
    is_sent = threading.Event()

    def page(request: BaseHTTPRequestHandler) -> None:
        answer(request, 200, {"Content-Length": str(len(IMAGE))}, IMAGE)
        is_sent.set()

    site.pages["/result"] = page
    drawing = asyncio.ensure_future(make_preview(Fetcher(frozenset({site.origin})), site.origin + "/result"))
    assert await asyncio.to_thread(is_sent.wait, 10)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing


def test_a_video_that_cannot_be_demuxed_is_an_error() -> None:
    data = make_clip()[:600]
    with pytest.raises(DecodingError):
        count_frames(MediaFile(io.BytesIO(data), label="video", size_bytes=len(data)))


def test_the_server_itself_loads_neither_ffmpeg_nor_pillow_to_probe_a_video() -> None:
    script = (
        "import io, sys; from piapi_mcp.media.sources import MediaFile; from piapi_mcp.media.video import probe_video;"
        "data = sys.stdin.buffer.read(); media = MediaFile(io.BytesIO(data), label='video', size_bytes=len(data));"
        "print(probe_video(media).frames_are_exact, sorted({'av', 'PIL'} & set(sys.modules)))"
    )
    clip = make_clip(options={"movflags": "frag_keyframe"})
    done = subprocess.run([sys.executable, "-c", script], input=clip, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == "True []"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.parametrize("job", ["count-frames", "draw-preview"])
def test_a_decoder_that_was_taken_over_can_open_nothing_and_fill_nothing(job: str) -> None:
    script = f"""
import socket, tempfile
from piapi_mcp.media import decoder_child

def error(action):
    try:
        action()
    except (OSError, MemoryError) as error:
        return type(error).__name__

disk = tempfile.TemporaryFile(buffering=0)
decoder_child._set_limits(decoder_child._JOBS["{job}"].limits)
actions = lambda: open("/etc/passwd"), socket.socket, lambda: bytearray(1 << 30), lambda: disk.write(bytes(2 << 20))
written = disk.write(bytes(2 << 20))
print([error(action) for action in actions], written <= 1 << 20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['OSError', 'OSError', 'MemoryError', 'OSError'] True"
