"""The products of PiAPI that this project submits: enumerations, limits and prices, each with its source, each once."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

MidjourneyIndex = Literal["1", "2", "3", "4", "light", "beta", "2x", "4x", "subtle", "creative"]
"""What to upscale, and how."""  # [D] Midjourney upscale page

ImageScale = Literal[2, 4, 8]
"""How many times wider and higher an image becomes."""  # [D] image upscale page

ServiceMode = Literal["public", "private"]
"""Who pays: `public` per task, `private` the account that you host yourself."""  # [D] Midjourney upscale page

TASK_ID_PATTERN = r"^[A-Za-z0-9_-]{6,64}$"
"""Form of a task id. PiAPI's are UUIDs [D]; wider, as its form is not promised, yet always safe within a URL."""

POINTS_PER_USD = 10_000_000  # [R] captured task: meta.usage

# [D] Midjourney page: valid for follow-ups for about 3 hours, results for about 3 days; by a copy of the page [?]
RESULTS_KEPT_DAYS = 3


@dataclass(frozen=True)
class Product:
    """One kind of task that PiAPI sells, by the names that PiAPI gives it."""

    model: str
    task_type: str
    history_model: str
    """What the task history calls the model."""


# [D] Midjourney upscale page, video upscale page; the last name of each: [D/C] user task history page
MIDJOURNEY_UPSCALE = Product(model="midjourney", task_type="upscale", history_model="mj")
VIDEO_UPSCALE = Product(model="Qubico/video-toolkit", task_type="upscale", history_model="video_toolkit")
# [D] image upscale page
IMAGE_UPSCALE = Product(model="Qubico/image-toolkit", task_type="upscale", history_model="image_toolkit")
PRODUCTS = (MIDJOURNEY_UPSCALE, VIDEO_UPSCALE, IMAGE_UPSCALE)


@dataclass(frozen=True)
class VideoLimits:
    """What PiAPI accepts as a video to upscale."""

    max_width_px: int
    max_height_px: int
    min_frames: int
    max_frames: int
    max_bytes: int


VIDEO_LIMITS = VideoLimits(  # [D] video upscale page, "Service Limitations"
    max_width_px=1280,
    max_height_px=720,
    min_frames=10,
    max_frames=240,
    max_bytes=10 * 1024 * 1024,  # "10MB": whether 10^6 or 2^20 is meant is not said [?]; the wider reading
)
VIDEO_SCALE = 2  # [D] video upscale page: "Currently only supports 2x upscaling"
VIDEO_USD_PER_FRAME = Decimal("0.0003")  # [D] video upscale page, "Pricing"


@dataclass(frozen=True)
class ImageLimits:
    """What PiAPI accepts as an image to upscale."""

    max_side_px: int
    max_bytes: int


IMAGE_LIMITS = ImageLimits(
    max_side_px=2048,  # [D] image upscale page
    max_bytes=10 * 1024 * 1024,  # [?] not documented for images; what uploads and videos may be [D]
)
IMAGE_USD_PER_MEGAPIXEL = Decimal("0.001")  # [D] image upscale page; whether of the input or the output is not said [?]


def quote_image_usd(width_px: int, height_px: int, scale: ImageScale) -> Decimal:
    """Return the most that PiAPI's list price can come to, in dollars, for upscaling an image: that of its output."""
    return IMAGE_USD_PER_MEGAPIXEL * (width_px * height_px * scale * scale) / 1_000_000


def quote_video_usd(frames: int) -> Decimal:
    """Return PiAPI's list price in dollars for upscaling a video of *frames* frames."""
    return VIDEO_USD_PER_FRAME * frames


# [D] Midjourney upscale page, on `index`
MIDJOURNEY_INDEX_RULES = "1-4: of a grid. Of an upscaled image: light, beta (V4), 2x, 4x (V5), subtle, creative (V6)"

MIDJOURNEY_ACTIONS: dict[MidjourneyIndex, str] = {
    # [R] on a grid
    "1": "upscale1",
    "2": "upscale2",
    "3": "upscale3",
    "4": "upscale4",
    # [C] on an upscaled image; those of V4 by analogy [I]
    "light": "upscale_light",
    "beta": "upscale_beta",
    "2x": "upscale_2x",
    "4x": "upscale_4x",
    "subtle": "upscale_subtle",
    "creative": "upscale_creative",
}
"""The action in a task's list that stands for each index."""
