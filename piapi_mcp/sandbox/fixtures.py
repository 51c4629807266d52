"""The sample tasks in every account's history: a Midjourney grid and an upscaled image for each of V4, V5 and V6."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from piapi_mcp.sandbox import media_jobs

Version = Literal["4", "5", "6"]
_NAMESPACE = uuid.UUID("7d1c0f8e-5f0b-4b57-9d6e-2a1a3c9b4e10")

# [R 2026-11] captured replies
GRID_ACTIONS = ("reroll", *(f"upscale{n}" for n in range(1, 5)), *(f"variation{n}" for n in range(1, 5)))
# [C 2026-11] the names of V5 and V6. Which version has which: [D 2024-10] Midjourney upscale page
UPSCALED_ACTIONS: dict[Version, tuple[str, ...]] = {
    "4": ("upscale_light", "upscale_beta"),  # [I 2026-11] named like the others
    "5": ("upscale_2x", "upscale_4x"),
    "6": ("upscale_subtle", "upscale_creative"),
}
VERSIONS: tuple[Version, ...] = ("4", "5", "6")


@dataclass(frozen=True)
class Sample:
    """A completed Midjourney task."""

    version: Version
    """Version of the Midjourney model."""
    is_grid: bool
    """Whether it is a grid of four images; otherwise it is an image that was upscaled once."""

    @property
    def task_id(self) -> str:
        """The id of the task; it never changes."""
        return str(uuid.uuid5(_NAMESPACE, self.file_name))

    @property
    def file_name(self) -> str:
        """The file name of its image."""
        return f"sample-{'grid' if self.is_grid else 'upscaled'}-v{self.version}.png"

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions that the task offers."""
        return GRID_ACTIONS if self.is_grid else UPSCALED_ACTIONS[self.version]

    @property
    def quadrant_names(self) -> tuple[str, ...]:
        """The file names of a grid's four images; empty for an upscaled image."""
        return tuple(f"sample-grid-v{self.version}-{number}.png" for number in range(1, 5)) if self.is_grid else ()

    def draw(self, folder: Path) -> Path:
        """Return its image in *folder*, drawing it if it does not exist yet. Blocks."""
        if self.is_grid:
            return self._draw_grid(folder)
        return self._crop_quadrant(folder, 1, self.file_name)

    def draw_quadrant(self, folder: Path, number: int) -> Path:
        """Return image *number* (1 to 4) of a grid in *folder*, drawing it if it does not exist yet. Blocks."""
        return self._crop_quadrant(folder, number, self.quadrant_names[number - 1])

    def _draw_grid(self, folder: Path) -> Path:
        target = folder / f"sample-grid-v{self.version}.png"
        if not target.exists():
            media_jobs.run("draw_grid", target=str(target), seed=int(self.version))
        return target

    def _crop_quadrant(self, folder: Path, number: int, name: str) -> Path:
        target = folder / name
        if not target.exists():
            media_jobs.run("crop_quadrant", source=str(self._draw_grid(folder)), target=str(target), number=number)
        return target


SAMPLES = tuple(Sample(version, is_grid) for version in VERSIONS for is_grid in (True, False))
_SAMPLE_OF_FILE_NAME = {name: sample for sample in SAMPLES for name in (sample.file_name, *sample.quadrant_names)}


def draw_sample_image(folder: Path, name: str) -> Path | None:
    """Return the sample image *name* in *folder*, drawing it if it does not exist yet. Blocks.

    Returns None if no sample has an image of that name.
    """
    sample = _SAMPLE_OF_FILE_NAME.get(name)
    if sample is None:
        return None
    if name in sample.quadrant_names:
        return sample.draw_quadrant(folder, sample.quadrant_names.index(name) + 1)
    return sample.draw(folder)
