"""The Midjourney tasks that every account finds in its history: a grid and an upscaled image of V4, V5 and V6."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from piapi_mcp.sandbox import work

Version = Literal["4", "5", "6"]
_NAMESPACE = uuid.UUID("7d1c0f8e-5f0b-4b57-9d6e-2a1a3c9b4e10")

GRID_ACTIONS = ("reroll", *(f"upscale{n}" for n in range(1, 5)), *(f"variation{n}" for n in range(1, 5)))
UPSCALED_ACTIONS: dict[Version, tuple[str, ...]] = {
    "4": ("upscale_light", "upscale_beta"),  # assumed, after the names of the others
    "5": ("upscale_2x", "upscale_4x"),
    "6": ("upscale_subtle", "upscale_creative"),
}
VERSIONS: tuple[Version, ...] = ("4", "5", "6")


@dataclass(frozen=True)
class Sample:
    """One finished Midjourney task."""

    version: Version
    is_grid: bool

    @property
    def task_id(self) -> str:
        """Its id: always the same."""
        return str(uuid.uuid5(_NAMESPACE, self.file_name))

    @property
    def file_name(self) -> str:
        """Name of its picture."""
        return f"sample-{'grid' if self.is_grid else 'upscaled'}-v{self.version}.png"

    @property
    def actions(self) -> tuple[str, ...]:
        """What may be done with it."""
        return GRID_ACTIONS if self.is_grid else UPSCALED_ACTIONS[self.version]

    def draw(self, folder: Path) -> Path:
        """Return its picture in *folder*, drawn now if need be; blocks."""
        target = folder / self.file_name
        if not target.exists():
            grid = folder / Sample(self.version, is_grid=True).file_name
            if not grid.exists():
                work.run("draw_grid", target=str(grid), seed=int(self.version))
            if not self.is_grid:
                work.run("crop_quadrant", source=str(grid), target=str(target), number=1)
        return target


SAMPLES = tuple(Sample(version, is_grid) for version in VERSIONS for is_grid in (True, False))
