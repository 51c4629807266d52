"""Videos to upscale: opened, checked against PiAPI's limits, priced by their frames."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.formatting import quote
from piapi_mcp.media.sources import MediaUrl
from piapi_mcp.media.url_probe import NotProbed, probe_video_url
from piapi_mcp.media.video import VideoFacts, probe_video
from piapi_mcp.piapi.catalog import VIDEO_LIMITS, VIDEO_SCALE, VIDEO_UPSCALE, quote_video_usd
from piapi_mcp.piapi.client import TaskConfig
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.request import Order, Reach, config_of, open_media

# [?] what "10MB" is counted on is not said
_LARGE_AS_BASE64 = (
    "PiAPI does not say whether its 10 MB count the file or its base64 text, which is longer; it may refuse this one."
)


async def order_video_upscale(settings: Settings, options: Options, reach: Reach, video: str) -> Order:
    """Return the order for upscaling *video*: a path, a URL, a data URI or base64.

    Raises:
        InputRejectedError: It cannot be opened, or PiAPI would refuse it.
    """
    config = config_of(options, settings)
    media = await open_media(video, argument="video", reach=reach, max_bytes=VIDEO_LIMITS.max_bytes)
    if isinstance(media, MediaUrl):
        return _order_of_url(media, await probe_video_url(media, reach.fetcher), config)
    with ExitStack() as stack:
        stack.enter_context(media)
        facts = await asyncio.to_thread(probe_video, media)
        order = Order(
            product=VIDEO_UPSCALE,
            task_input={"video": media},
            config=config,
            summary=f"video {media.label}, {_shape(facts)}",
            **_promise(facts),
            media_sha256=await media.sha256(),
            media=stack.pop_all(),
        )
    if media.base64_length > VIDEO_LIMITS.max_bytes:
        return replace(order, notes=(*order.notes, _LARGE_AS_BASE64))
    return order


def _order_of_url(media: MediaUrl, facts: VideoFacts | NotProbed, config: TaskConfig) -> Order:
    order = Order(VIDEO_UPSCALE, {"video": media.url}, config, summary=f"video at {quote(media.url)}")
    if isinstance(facts, NotProbed):
        note = f"The video at the URL was not checked here ({facts.reason}): PiAPI checks it, its frames are the price."
        return replace(order, unpriced="its frames could not be counted from here", notes=(note,))
    return replace(order, summary=f"{order.summary}, {_shape(facts)}", **_promise(facts))


def _promise(facts: VideoFacts) -> dict[str, Any]:
    """Return what an order for such a video costs and results in, once it has passed the limits."""
    _check(facts)
    return {
        "quoted_usd": quote_video_usd(facts.stored_frames),
        "expected_px": (VIDEO_SCALE * facts.width_px, VIDEO_SCALE * facts.height_px),
        "notes": _doubts(facts),
    }


def _shape(facts: VideoFacts) -> str:
    return f"{facts.width_px}x{facts.height_px}, {facts.stored_frames} frames"


def _check(facts: VideoFacts) -> None:
    limits = VIDEO_LIMITS
    if facts.size_bytes > limits.max_bytes:
        raise InputRejectedError(
            f"The video is {facts.size_bytes / 2**20:.1f} MB; PiAPI accepts at most {limits.max_bytes >> 20} MB. "
            "Nothing was submitted; make the file smaller first."
        )
    # [?] whether an upright 720x1280 counts as "maximum 720p" is not said: it passes, with a note
    longer, shorter = max(facts.width_px, facts.height_px), min(facts.width_px, facts.height_px)
    if longer > limits.max_width_px or shorter > limits.max_height_px:
        raise InputRejectedError(
            f"The video is {facts.width_px}x{facts.height_px} px; PiAPI accepts at most "
            f"{limits.max_width_px}x{limits.max_height_px}. Nothing was submitted; scale it down first."
        )
    if not limits.min_frames <= facts.stored_frames <= limits.max_frames:
        fix = "cut it into parts" if facts.stored_frames > limits.max_frames else "make it longer"
        raise InputRejectedError(
            f"The video has {facts.stored_frames} frames; PiAPI accepts {limits.min_frames} to {limits.max_frames}. "
            f"Nothing was submitted; {fix} first."
        )


def _doubts(facts: VideoFacts) -> tuple[str, ...]:
    """Return what PiAPI does not document about such a video."""
    doubts = list[str]()
    if facts.height_px > VIDEO_LIMITS.max_height_px:
        doubts.append("PiAPI does not say whether it takes upright videos; it may refuse this one.")
    if facts.codec not in ("avc1", "avc3"):
        doubts.append(f"PiAPI does not say which codecs it takes besides H.264; this one is {facts.codec}.")
    if not facts.frames_are_exact or facts.shown_frames != facts.stored_frames:
        doubts.append("PiAPI may count its frames differently, so the price may differ a little.")
    return tuple(doubts)
