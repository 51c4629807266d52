"""Draws `packaging/icon.png`: a small image that grows into a large one.

python packaging/draw_icon.py
"""

from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

SIDE_PX = 512
_OVERSAMPLING = 4
"""The icon is drawn this many times larger and then reduced, for smooth edges."""

_DARK, _LIGHT = (32, 22, 84), (104, 60, 214)
_SMALL, _WHITE = (255, 196, 61), (255, 255, 255)


def background(side: int) -> Image.Image:
    """Return a rounded square with a gradient from dark (lower left) to light (upper right)."""
    down = Image.linear_gradient("L").resize((side, side))
    ramp = ImageChops.add(down.transpose(Image.Transpose.ROTATE_90), ImageChops.invert(down), scale=2)
    light, dark = (Image.new("RGB", (side, side), colour) for colour in (_LIGHT, _DARK))
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), radius=side * 0.22, fill=255)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(Image.composite(light, dark, ramp), mask=mask)
    return square


def draw(side: int) -> Image.Image:
    """Return the icon, *side* pixels wide and high."""
    icon = background(side)
    pen = ImageDraw.Draw(icon)

    def at(*parts: float) -> tuple[float, ...]:
        return tuple(part * side for part in parts)

    # An arrow points from a small filled image to a large outlined one.
    width = round(side * 0.062)
    pen.rounded_rectangle(at(0.30, 0.16, 0.84, 0.70), radius=side * 0.085, outline=_WHITE, width=width)
    pen.rounded_rectangle(at(0.12, 0.58, 0.42, 0.88), radius=side * 0.07, fill=_DARK)
    pen.rounded_rectangle(at(0.16, 0.62, 0.38, 0.84), radius=side * 0.045, fill=_SMALL)
    pen.line(at(0.47, 0.53, 0.67, 0.33), fill=_SMALL, width=width)
    pen.line(at(0.53, 0.325, 0.675, 0.325), fill=_SMALL, width=width)
    pen.line(at(0.675, 0.295, 0.675, 0.47), fill=_SMALL, width=width)
    return icon


if __name__ == "__main__":
    large = draw(SIDE_PX * _OVERSAMPLING)
    large.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS).save(Path(__file__).with_name("icon.png"), optimize=True)
