"""The media of `piapi-mcp verify`: makes the images and the video that it buys, and measures the results."""

import asyncio
import io
from urllib.parse import urlsplit

CLIP_SIDE_PX = 64
CLIP_FRAMES = 10  # [D 2025-02] video upscale page: the fewest that are accepted
_MAX_RESULT_BYTES = 16 << 20


def make_image(side_px: int) -> bytes:
    """Return a square image in PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (side_px, side_px), (20, 120, 200)).save(file, "PNG")
    return file.getvalue()


def make_clip() -> bytes:
    """Return the smallest video that is accepted."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=10)
        video.width = video.height = CLIP_SIDE_PX
        video.pix_fmt = "yuv420p"
        for _ in range(CLIP_FRAMES):
            frame = av.VideoFrame(CLIP_SIDE_PX, CLIP_SIDE_PX, "yuv420p")
            for plane in frame.planes:
                plane.update(b"\x80" * plane.buffer_size)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return file.getvalue()


def measure_image(content: bytes) -> tuple[int, int]:
    """Return width and height of an image.

    Raises:
        ValueError: It is none; the text says why.
    """
    from piapi_mcp.media.image import read_header
    from piapi_mcp.media.parsing import InvalidMediaError

    try:
        header = read_header(lambda offset, length: content[offset : offset + length])
    except InvalidMediaError as error:
        raise ValueError(str(error)) from None
    return header.width_px, header.height_px


def measure_video(content: bytes) -> tuple[int, int]:
    """Return width and height of a video.

    Raises:
        ValueError: It is none; the text says why.
    """
    from piapi_mcp.media.mp4 import read_movie
    from piapi_mcp.media.parsing import InvalidMediaError
    from piapi_mcp.media.video import facts_from_movie

    try:
        movie = read_movie(lambda offset, length: content[offset : offset + length], len(content))
        facts = facts_from_movie(movie, len(content))
    except InvalidMediaError as error:
        raise ValueError(str(error)) from None
    return facts.width_px, facts.height_px


def fetch_result(url: str, base_url: str) -> bytes:
    """Return what the link to a result leads to; the key is not sent.

    Raises:
        ValueError: It cannot be fetched; the text says why.
    """
    from piapi_mcp.media.fetch import Fetcher, FetchError

    parts = urlsplit(base_url)
    is_sandbox = parts.hostname in ("127.0.0.1", "localhost", "::1") and parts.port is not None
    allowed_origins = {f"{parts.scheme}://{parts.netloc}"} if is_sandbox else set[str]()
    file = io.BytesIO()
    try:
        asyncio.run(Fetcher(frozenset(allowed_origins)).download(url, file, max_bytes=_MAX_RESULT_BYTES))
    except FetchError as error:
        raise ValueError(error.reason) from None
    return file.getvalue()
