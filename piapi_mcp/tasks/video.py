"""Video upscales: the source is opened, checked against PiAPI's limits, and quoted by its frames."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, replace

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.formatting import quote
from piapi_mcp.media.sources import MediaAccess, MediaFile, MediaUrl
from piapi_mcp.media.url_probe import NotProbed, identify_signed_url, probe_video_url
from piapi_mcp.media.video import VideoFacts, probe_video
from piapi_mcp.piapi.catalog import VIDEO_LIMITS, VIDEO_UPSCALE
from piapi_mcp.piapi.client import TaskConfig
from piapi_mcp.tasks.pricing import quote_unseen_video, quote_video
from piapi_mcp.tasks.request import RequestContext, TaskRequest

# [? 2025-02] video upscale page: whether "10MB" is the size of the file or of its base64 text is not said
_LARGE_AS_BASE64_NOTE = (
    "PiAPI does not say whether its limit of 10 MB is for the file or for its base64 text, which is longer; it may "
    "refuse this one."
)


@dataclass(frozen=True)
class VideoUpscale:
    """Upscale a video: a path, a URL, a data URI or base64."""

    video: str

    async def build_request(self, context: RequestContext) -> TaskRequest:
        """Open and probe the video, check it against PiAPI's limits, and quote it.

        Raises:
            InputRejectedError: The video cannot be opened, or PiAPI would refuse it.
        """
        config = replace(context.config, service_mode=None)  # [D 2025-02] video upscale page: config has a webhook only
        source = await context.access.open(self.video, argument="video", max_bytes=VIDEO_LIMITS.max_bytes)
        if isinstance(source, MediaUrl):
            return await _request_for_url(source, config, context.access)
        with ExitStack() as open_files:
            open_files.enter_context(source)
            facts = await asyncio.to_thread(probe_video, source)
            check_limits(facts)
            return TaskRequest(
                product=VIDEO_UPSCALE,
                task_input={"video": source},
                config=config,
                summary=f"video {source.label}, {_shape(facts)}",
                quote=quote_video(facts, notes=(*_doubts(facts), *_size_doubts(source))),
                media_sha256=await source.sha256(),
                open_files=open_files.pop_all(),
            )


async def _request_for_url(source: MediaUrl, config: TaskConfig, access: MediaAccess) -> TaskRequest:
    facts = await probe_video_url(source, access.fetcher)
    summary = f"video at {quote(source.url)}"
    if isinstance(facts, NotProbed):
        price = quote_unseen_video(facts.reason)
    else:
        check_limits(facts)
        price = quote_video(facts, notes=_doubts(facts))
        summary = f"{summary}, {_shape(facts)}"
    known = await identify_signed_url(source, access.fetcher)
    identity_input = {"video": known} if known else {}
    return TaskRequest(VIDEO_UPSCALE, {"video": source.url}, config, summary, price, identity_input=identity_input)


def check_limits(facts: VideoFacts) -> None:
    """Check a video against PiAPI's limits.

    Raises:
        InputRejectedError: PiAPI would refuse it.
    """
    limits = VIDEO_LIMITS
    if facts.size_bytes > limits.max_bytes:
        raise InputRejectedError(
            f"The video is {facts.size_bytes / 2**20:.1f} MB; PiAPI accepts at most {limits.max_bytes >> 20} MB. "
            "Nothing was submitted; make the file smaller first."
        )
    # [? 2025-02] whether an upright 720x1280 counts as "maximum 720p" is not said: it passes, with a note
    longer, shorter = max(facts.width_px, facts.height_px), min(facts.width_px, facts.height_px)
    if longer > limits.max_width_px or shorter > limits.max_height_px:
        raise InputRejectedError(
            f"The video is {facts.width_px}x{facts.height_px} px; PiAPI accepts at most "
            f"{limits.max_width_px}x{limits.max_height_px}. Nothing was submitted; scale it down first."
        )
    if not limits.min_frames <= facts.stored_frames <= limits.max_frames:
        remedy = "cut it into parts" if facts.stored_frames > limits.max_frames else "make it longer"
        raise InputRejectedError(
            f"The video has {facts.stored_frames} frames; PiAPI accepts {limits.min_frames} to {limits.max_frames}. "
            f"Nothing was submitted; {remedy} first."
        )


def _doubts(facts: VideoFacts) -> tuple[str, ...]:
    """Return what PiAPI does not document about such a video."""
    doubts = list[str]()
    if facts.height_px > VIDEO_LIMITS.max_height_px:
        doubts.append("PiAPI does not say whether it accepts upright videos; it may refuse this one.")
    if facts.codec not in ("avc1", "avc3"):
        doubts.append(f"PiAPI does not say which codecs it accepts besides H.264; this one is {facts.codec}.")
    if not facts.frames_are_exact or facts.shown_frames != facts.stored_frames:
        doubts.append("PiAPI may count its frames differently, so the price may differ a little.")
    return tuple(doubts)


def _size_doubts(source: MediaFile) -> tuple[str, ...]:
    return (_LARGE_AS_BASE64_NOTE,) if source.base64_length > VIDEO_LIMITS.max_bytes else ()


def _shape(facts: VideoFacts) -> str:
    return f"{facts.width_px}x{facts.height_px}, {facts.stored_frames} frames"
