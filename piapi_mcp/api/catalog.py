"""The products of PiAPI that this project submits: enumerations, limits and prices, each with its source, each once."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

MidjourneyIndex = Literal["1", "2", "3", "4", "light", "beta", "2x", "4x", "subtle", "creative"]
"""What to upscale, and how."""  # [D] Midjourney upscale page

ServiceMode = Literal["public", "private"]
"""Who pays: `public` per task, `private` the account that you host yourself."""  # [D] Midjourney upscale page

TASK_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{5,63}$"
"""Form of a task id. PiAPI's are UUIDs [D]; wider, as its form is not promised, yet always safe within a URL."""

POINTS_PER_USD = 10_000_000  # [R] captured task: meta.usage

# [D] Midjourney page: valid for follow-ups for about 3 hours, results for about 3 days; by a copy of the page [?]
RESULTS_KEPT_DAYS = 3


@dataclass(frozen=True)
class Product:
    """One kind of task that PiAPI sells, by the names that PiAPI gives it."""

    model: str
    task_type: str


MIDJOURNEY_UPSCALE = Product(model="midjourney", task_type="upscale")  # [D] Midjourney upscale page
VIDEO_UPSCALE = Product(model="Qubico/video-toolkit", task_type="upscale")  # [D] video upscale page


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


def quote_video_usd(frames: int) -> Decimal:
    """Return PiAPI's list price in dollars for upscaling a video of *frames* frames."""
    return VIDEO_USD_PER_FRAME * frames


# [D] Midjourney upscale page, on `index`
MIDJOURNEY_INDEX_RULES = (
    "1-4 pick an image of a finished grid; light or beta upscale an upscaled V4 image again, "
    "2x or 4x an upscaled V5 image, subtle or creative an upscaled V6 image"
)
