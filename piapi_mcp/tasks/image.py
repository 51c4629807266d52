"""Image upscales: the source is opened, checked against PiAPI's limits, and quoted by the pixels of its result."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, replace

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.formatting import quote
from piapi_mcp.media.image import ImageFacts, probe_image
from piapi_mcp.media.sources import MediaAccess, MediaUrl
from piapi_mcp.media.url_probe import NotProbed, identify_signed_url, probe_image_url
from piapi_mcp.piapi.catalog import IMAGE_LIMITS, IMAGE_UPSCALE, ImageScale
from piapi_mcp.piapi.client import TaskConfig
from piapi_mcp.tasks.pricing import quote_image, quote_unseen_image
from piapi_mcp.tasks.request import RequestContext, TaskRequest


@dataclass(frozen=True)
class ImageUpscale:
    """Upscale an image: a path, a URL, a data URI or base64."""

    image: str
    scale: ImageScale = 2
    face_enhance: bool = False

    async def build_request(self, context: RequestContext) -> TaskRequest:
        """Open and probe the image, check it against PiAPI's limits, and quote it.

        Raises:
            InputRejectedError: The image cannot be opened, or PiAPI would refuse it.
        """
        config = replace(context.config, service_mode=None)  # [D 2026-11] image upscale page: config has a webhook only
        source = await context.access.open(self.image, argument="image", max_bytes=IMAGE_LIMITS.max_bytes)
        if isinstance(source, MediaUrl):
            return await self._request_for_url(source, config, context.access)
        with ExitStack() as open_files:
            open_files.enter_context(source)
            facts = await asyncio.to_thread(probe_image, source)
            check_limits(facts)
            return TaskRequest(
                product=IMAGE_UPSCALE,
                task_input=self._input(source),
                config=config,
                summary=f"image {source.label}, {facts.width_px}x{facts.height_px}, {self.scale}x",
                quote=quote_image(facts, self.scale),
                media_sha256=await source.sha256(),
                open_files=open_files.pop_all(),
            )

    async def _request_for_url(self, source: MediaUrl, config: TaskConfig, access: MediaAccess) -> TaskRequest:
        facts = await probe_image_url(source, access.fetcher)
        if isinstance(facts, NotProbed):
            price = quote_unseen_image(facts.reason, self.scale)
        else:
            check_limits(facts)
            price = quote_image(facts, self.scale)
        known = await identify_signed_url(source, access.fetcher)
        return TaskRequest(
            IMAGE_UPSCALE,
            self._input(source.url),
            config,
            summary=f"image at {quote(source.url)}",
            quote=price,
            identity_input={"image": known} if known else {},
        )

    def _input(self, image: object) -> dict[str, object]:
        return {"image": image, "scale": self.scale, "face_enhance": self.face_enhance}


def check_limits(facts: ImageFacts) -> None:
    """Check an image against PiAPI's limits.

    Raises:
        InputRejectedError: PiAPI would refuse it.
    """
    if max(facts.width_px, facts.height_px) > IMAGE_LIMITS.max_side_px:
        raise InputRejectedError(
            f"The image is {facts.width_px}x{facts.height_px} px; PiAPI accepts at most {IMAGE_LIMITS.max_side_px} px "
            "on each side. Nothing was submitted; scale it down first."
        )
