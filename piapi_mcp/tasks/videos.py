"""Videos to upscale: opened, checked against PiAPI's limits, priced by their frames."""

import asyncio
from contextlib import ExitStack

from piapi_mcp.api.catalog import VIDEO_LIMITS, VIDEO_SCALE, VIDEO_UPSCALE, quote_video_usd
from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.sources import LocalFiles, MediaFile, MediaUrl, open_source
from piapi_mcp.media.video import VideoFacts, probe_video
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.orders import Order, config_of

_NOT_OPENED = "The video at the URL was not opened here: PiAPI checks it, and its frames decide the price."


async def order_video_upscale(settings: Settings, options: Options, video: str) -> Order:
    """Return the order for upscaling *video*: a path, a URL, a data URI or base64.

    Raises:
        InputRejectedError: It cannot be opened, or PiAPI would refuse it.
    """
    config = config_of(options, settings)
    local = LocalFiles.below(settings.allowed_dirs)
    media = await asyncio.to_thread(open_source, video, argument="video", local=local, max_bytes=VIDEO_LIMITS.max_bytes)
    if isinstance(media, MediaUrl):
        return Order(
            product=VIDEO_UPSCALE,
            task_input={"video": media.url},
            config=config,
            summary=f"video at {media.url[:80]}",
            unpriced="its frames were not counted, as it was not opened here",
            notes=(_NOT_OPENED,),
        )
    with ExitStack() as stack:
        stack.enter_context(media)
        facts = await asyncio.to_thread(_checked, media)
        return Order(
            product=VIDEO_UPSCALE,
            task_input={"video": media},
            config=config,
            summary=f"video {media.label}, {facts.width_px}x{facts.height_px}, {facts.stored_frames} frames",
            quoted_usd=quote_video_usd(facts.stored_frames),
            expected_px=(VIDEO_SCALE * facts.width_px, VIDEO_SCALE * facts.height_px),
            notes=_doubts(facts),
            media=stack.pop_all(),
            media_sha256=await media.sha256(),
        )


def _checked(media: MediaFile) -> VideoFacts:
    facts, limits = probe_video(media), VIDEO_LIMITS
    # [?] whether an upright 720x1280 counts as "maximum 720p" is not said: it passes, with a note
    longer, shorter = max(facts.width_px, facts.height_px), min(facts.width_px, facts.height_px)
    if longer > limits.max_width_px or shorter > limits.max_height_px:
        allowed = f"{limits.max_width_px}x{limits.max_height_px}"
        raise InputRejectedError(
            f"The video is {facts.width_px}x{facts.height_px} px; PiAPI accepts at most {allowed}. "
            "Nothing was submitted; scale it down first."
        )
    if not limits.min_frames <= facts.stored_frames <= limits.max_frames:
        fix = "cut it into parts" if facts.stored_frames > limits.max_frames else "make it longer"
        raise InputRejectedError(
            f"The video has {facts.stored_frames} frames; PiAPI accepts {limits.min_frames} to {limits.max_frames}. "
            f"Nothing was submitted; {fix} first."
        )
    return facts


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
