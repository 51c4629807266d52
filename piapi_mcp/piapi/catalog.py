"""The PiAPI products that this project submits: their enumerations, limits and prices, each with its source.

Each fact is stated once. The tags of the sources are explained in docs/piapi-facts.md.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

MidjourneyIndex = Literal["1", "2", "3", "4", "light", "beta", "2x", "4x", "subtle", "creative"]
"""Which image to upscale, or how to upscale it."""  # [D 2024-10] Midjourney upscale page

ImageScale = Literal[2, 4, 8]
"""Factor by which the width and the height of an image grow."""  # [D 2026-11] image upscale page

ServiceMode = Literal["public", "private"]
"""Who pays: `public` per task, `private` the account that you host yourself."""  # [D 2024-10] Midjourney upscale page

# [D 2026-11] unified API schema: task ids are UUIDs. The pattern is wider because PiAPI does not promise that form.
TASK_ID_PATTERN = r"^[A-Za-z0-9_-]{6,64}$"
"""Form of a task id; every match is safe within a URL."""

POINTS_PER_USD = 10_000_000  # [R 2026-11] captured task: meta.usage

# [D 2026-11] PiAPI deletes results after a set time. [? 2026-11] A sister site's copy of the Midjourney page says about
# 3 days, and about 3 hours for follow-ups.
RESULTS_KEPT_DAYS = 3


@dataclass(frozen=True)
class Product:
    """One kind of task that PiAPI sells, under PiAPI's own names."""

    model: str
    task_type: str
    history_model: str
    """Name of the model in the task history."""


# Each `history_model`: [D/C 2026-11] user task history page
# [D 2024-10] Midjourney upscale page
MIDJOURNEY_UPSCALE = Product(model="midjourney", task_type="upscale", history_model="mj")
# [D 2025-02] video upscale page
VIDEO_UPSCALE = Product(model="Qubico/video-toolkit", task_type="upscale", history_model="video_toolkit")
# [D 2026-11] image upscale page
IMAGE_UPSCALE = Product(model="Qubico/image-toolkit", task_type="upscale", history_model="image_toolkit")
PRODUCTS = (MIDJOURNEY_UPSCALE, VIDEO_UPSCALE, IMAGE_UPSCALE)


@dataclass(frozen=True)
class VideoLimits:
    """Limits of a video that PiAPI accepts for upscaling."""

    max_width_px: int
    max_height_px: int
    min_frames: int
    max_frames: int
    max_bytes: int


VIDEO_LIMITS = VideoLimits(  # [D 2025-02] video upscale page, "Service Limitations"
    max_width_px=1280,
    max_height_px=720,
    min_frames=10,
    max_frames=240,
    # The page says "10MB". [? 2025-02] It does not say whether that is 10^6 or 2^20 bytes; this is the wider reading.
    max_bytes=10 * 1024 * 1024,
)
VIDEO_SCALE = 2  # [D 2025-02] video upscale page: "Currently only supports 2x upscaling"
VIDEO_USD_PER_FRAME = Decimal("0.0003")  # [D 2025-02] video upscale page, "Pricing"


@dataclass(frozen=True)
class ImageLimits:
    """Limits of an image that PiAPI accepts for upscaling."""

    max_side_px: int
    max_bytes: int


IMAGE_LIMITS = ImageLimits(
    max_side_px=2048,  # [D 2026-11] image upscale page
    # [? 2026-11] Not documented for images; the limit of uploads [D 2026-11] and of videos [D 2025-02] is assumed.
    max_bytes=10 * 1024 * 1024,
)
# [D 2026-11] image upscale page. [? 2026-11] It does not say whether the input's or the output's megapixels count.
IMAGE_USD_PER_MEGAPIXEL = Decimal("0.001")


# [D 2024-10] Midjourney upscale page, on `index`
MIDJOURNEY_INDEX_RULES = "1-4: of a grid. Of an upscaled image: light, beta (V4), 2x, 4x (V5), subtle, creative (V6)"

MIDJOURNEY_ACTIONS: dict[MidjourneyIndex, str] = {
    # [R 2026-11] on a grid
    "1": "upscale1",
    "2": "upscale2",
    "3": "upscale3",
    "4": "upscale4",
    # [I 2026-11] V4 actions on an upscaled image, by analogy with those below
    "light": "upscale_light",
    "beta": "upscale_beta",
    # [C 2026-11] V5 and V6 actions on an upscaled image
    "2x": "upscale_2x",
    "4x": "upscale_4x",
    "subtle": "upscale_subtle",
    "creative": "upscale_creative",
}
"""The action that a task must list for each index."""
