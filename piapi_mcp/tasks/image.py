"""Images to upscale: opened, checked against PiAPI's limits, priced by the pixels of their result."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.formatting import quote
from piapi_mcp.media.image import ImageFacts, probe_image
from piapi_mcp.media.sources import MediaUrl
from piapi_mcp.media.url_probe import NotProbed, probe_image_url
from piapi_mcp.piapi.catalog import IMAGE_LIMITS, IMAGE_UPSCALE, ImageScale, quote_image_usd
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.request import Order, Reach, config_of, open_media

_UPPER_BOUND = "PiAPI does not say whether it charges the pixels of the input or of the output: the quote is the most."


async def order_image_upscale(
    settings: Settings, options: Options, reach: Reach, *, image: str, scale: ImageScale, face_enhance: bool
) -> Order:
    """Return the order for upscaling *image*: a path, a URL, a data URI or base64.

    Raises:
        InputRejectedError: It cannot be opened, or PiAPI would refuse it.
    """
    config = config_of(options, settings)
    media = await open_media(image, argument="image", reach=reach, max_bytes=IMAGE_LIMITS.max_bytes)
    how: dict[str, object] = {"scale": scale, "face_enhance": face_enhance}
    if isinstance(media, MediaUrl):
        order = Order(IMAGE_UPSCALE, {"image": media.url} | how, config, summary=f"image at {quote(media.url)}")
        facts = await probe_image_url(media, reach.fetcher)
        if isinstance(facts, NotProbed):
            note = (
                f"The image at the URL was not checked here ({facts.reason}): PiAPI checks it, its size is the price."
            )
            return replace(order, unpriced="its size could not be read from here", notes=(note,))
        return replace(order, **_promise(facts, scale))
    with ExitStack() as stack:
        stack.enter_context(media)
        facts = await asyncio.to_thread(probe_image, media)
        return Order(
            product=IMAGE_UPSCALE,
            task_input={"image": media} | how,
            config=config,
            summary=f"image {media.label}, {facts.width_px}x{facts.height_px}, {scale}x",
            **_promise(facts, scale),
            media_sha256=await media.sha256(),
            media=stack.pop_all(),
        )


def _promise(facts: ImageFacts, scale: ImageScale) -> dict[str, Any]:
    """Return what an order for such an image costs and results in, once it has passed the limits."""
    limits = IMAGE_LIMITS
    if max(facts.width_px, facts.height_px) > limits.max_side_px:
        raise InputRejectedError(
            f"The image is {facts.width_px}x{facts.height_px} px; PiAPI accepts at most {limits.max_side_px} px a "
            "side. Nothing was submitted; scale it down first."
        )
    return {
        "quoted_usd": quote_image_usd(facts.width_px, facts.height_px, scale),
        "expected_px": (scale * facts.width_px, scale * facts.height_px),
        "notes": (_UPPER_BOUND,),
    }
