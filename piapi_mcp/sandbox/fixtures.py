"""The Midjourney tasks that every account finds in its history: a grid and an upscaled image of V4, V5 and V6."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from piapi_mcp.sandbox import media_jobs as work

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
        """Name of its image."""
        return f"sample-{'grid' if self.is_grid else 'upscaled'}-v{self.version}.png"

    @property
    def actions(self) -> tuple[str, ...]:
        """What may be done with it."""
        return GRID_ACTIONS if self.is_grid else UPSCALED_ACTIONS[self.version]

    @property
    def quadrant_names(self) -> tuple[str, ...]:
        """Names of the four images of a grid; an upscaled image has none."""
        return tuple(f"sample-grid-v{self.version}-{number}.png" for number in range(1, 5)) if self.is_grid else ()

    def draw(self, folder: Path) -> Path:
        """Return its image in *folder*, drawn now if need be; blocks."""
        if self.is_grid:
            return self._draw_grid(folder)
        return self._cut(folder, 1, self.file_name)

    def draw_quadrant(self, folder: Path, number: int) -> Path:
        """Return image *number* (1 to 4) of a grid in *folder*, drawn now if need be; blocks."""
        return self._cut(folder, number, self.quadrant_names[number - 1])

    def _draw_grid(self, folder: Path) -> Path:
        target = folder / f"sample-grid-v{self.version}.png"
        if not target.exists():
            work.run("draw_grid", target=str(target), seed=int(self.version))
        return target

    def _cut(self, folder: Path, number: int, name: str) -> Path:
        target = folder / name
        if not target.exists():
            work.run("crop_quadrant", source=str(self._draw_grid(folder)), target=str(target), number=number)
        return target


SAMPLES = tuple(Sample(version, is_grid) for version in VERSIONS for is_grid in (True, False))
_IMAGES = {name: sample for sample in SAMPLES for name in (sample.file_name, *sample.quadrant_names)}


def draw_by_name(folder: Path, name: str) -> Path | None:
    """Return the sample image *name* in *folder*, drawn now if need be; None if no sample is called so. Blocks."""
    sample = _IMAGES.get(name)
    if sample is None:
        return None
    if name in sample.quadrant_names:
        return sample.draw_quadrant(folder, sample.quadrant_names.index(name) + 1)
    return sample.draw(folder)
