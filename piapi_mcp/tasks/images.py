"""Pictures to upscale: opened, checked against PiAPI's limits, priced by the pixels of their result."""

import asyncio
from contextlib import ExitStack

from piapi_mcp.api.catalog import IMAGE_LIMITS, IMAGE_UPSCALE, ImageScale, quote_image_usd
from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.image import ImageFacts, probe_image
from piapi_mcp.media.sources import LocalFiles, MediaFile, MediaUrl, open_source
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.orders import Order, config_of

_NOT_OPENED = "The picture at the URL was not opened here: PiAPI checks it, and its size decides the price."
_UPPER_BOUND = "PiAPI does not say whether it charges the pixels of the input or of the output: the quote is the most."


async def order_image_upscale(
    settings: Settings, options: Options, *, image: str, scale: ImageScale, face_enhance: bool
) -> Order:
    """Return the order for upscaling *image*: a path, a URL, a data URI or base64.

    Raises:
        InputRejectedError: It cannot be opened, or PiAPI would refuse it.
    """
    config = config_of(options, settings)
    local = LocalFiles.below(settings.allowed_dirs)
    media = await asyncio.to_thread(open_source, image, argument="image", local=local, max_bytes=IMAGE_LIMITS.max_bytes)
    task_input: dict[str, object] = {"scale": scale, "face_enhance": face_enhance}
    if isinstance(media, MediaUrl):
        return Order(
            product=IMAGE_UPSCALE,
            task_input={"image": media.url} | task_input,
            config=config,
            summary=f"picture at {media.url[:80]}, {scale}x",
            unpriced="its size is not known, as it was not opened here",
            notes=(_NOT_OPENED,),
        )
    with ExitStack() as stack:
        stack.enter_context(media)
        facts = await asyncio.to_thread(_checked, media)
        return Order(
            product=IMAGE_UPSCALE,
            task_input={"image": media} | task_input,
            config=config,
            summary=f"picture {media.label}, {facts.width_px}x{facts.height_px}, {scale}x",
            quoted_usd=quote_image_usd(facts.width_px, facts.height_px, scale),
            expected_px=(scale * facts.width_px, scale * facts.height_px),
            notes=(_UPPER_BOUND,),
            media_sha256=await media.sha256(),
            media=stack.pop_all(),
        )


def _checked(media: MediaFile) -> ImageFacts:
    facts, limit_px = probe_image(media), IMAGE_LIMITS.max_side_px
    if max(facts.width_px, facts.height_px) > limit_px:
        raise InputRejectedError(
            f"The picture is {facts.width_px}x{facts.height_px} px; PiAPI accepts at most {limit_px} px a side. "
            "Nothing was submitted; scale it down first."
        )
    return facts
