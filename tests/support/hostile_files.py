"""Hostile files: bombs, false headers, truncated files, and names that are not regular files.

The tests submit each of them, and so does `benchmarks/hostile.py`, which prints the answer and what it cost.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tests.support.media_files import make_clip, make_image, make_raw_png

Kind = Literal["video", "image"]


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _patched(clip: bytes, box: bytes, offset: int, content: bytes) -> bytes:
    """Return *clip* with *content* written *offset* bytes after the name of its last *box*."""
    at = clip.rindex(box) + 4 + offset
    return clip[:at] + content + clip[at + len(content) :]


def _write(content: Callable[[], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content())

    return write


def _sparse(path: Path) -> None:
    path.write_bytes(make_clip())
    os.truncate(path, 4 << 30)


FTYP = make_clip(frames=1)[:32]

HOSTILE: dict[str, tuple[Kind, Callable[[Path], None]]] = {
    "an empty file": ("video", lambda path: path.touch()),
    "a playlist named .mp4": ("video", _write(lambda: b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/secret.ts\n")),
    "a list of local files named .mp4": ("video", _write(lambda: b"ffconcat version 1.0\nfile /etc/passwd\n")),
    "an image named .mp4": ("video", _write(make_image)),
    "a Matroska header named .mp4": ("video", _write(lambda: b"\x1aE\xdf\xa3" + bytes(500))),
    "a QuickTime file": ("video", _write(lambda: make_clip().replace(b"ftypisom", b"ftypqt  "))),
    "a video without its index": ("video", _write(lambda: make_clip()[:700])),
    "a video cut off in its data": ("video", _write(lambda: make_clip(options={"movflags": "faststart"})[:-200])),
    "80 million frames in a table": (
        "video",
        _write(lambda: _patched(make_clip(), b"stsz", 4, struct.pack(">II", 1, 80_000_000))),
    ),
    "frames larger than the file": (
        "video",
        _write(lambda: _patched(make_clip(), b"stsz", 4, struct.pack(">I", 1 << 30))),
    ),
    "a header of 65535x65535 px": ("video", _write(lambda: _patched(make_clip(), b"avc1", 24, b"\xff\xff\xff\xff"))),
    "five thousand tracks": ("video", _write(lambda: FTYP + _box(b"moov", _box(b"trak", b"") * 5000))),
    "a million boxes": ("video", _write(lambda: FTYP + _box(b"free", b"") * 1_000_000)),
    "an index of 9 MB": ("video", _write(lambda: FTYP + _box(b"moov", bytes(9 << 20)))),
    "a box of 2**63 bytes": ("video", _write(lambda: FTYP + struct.pack(">I4sQ", 1, b"moov", 1 << 63))),
    "a box of no bytes": ("video", _write(lambda: FTYP + struct.pack(">I4s", 4, b"moov"))),
    "sound only": ("video", _write(lambda: make_clip(audio=True).replace(b"vide", b"text"))),
    "4 GB of nothing behind a video": ("video", _sparse),
    "a pipe": ("video", lambda path: os.mkfifo(path)),  # noqa: PLW0108 -- not on every system
    "a folder": ("video", lambda path: path.mkdir()),
    "a link to a device": ("video", lambda path: path.symlink_to("/dev/zero")),
    "a link to a file outside": ("video", lambda path: path.symlink_to("/etc/passwd")),
    "an image of 50000x50000 px": ("image", _write(lambda: make_raw_png(50_000, 50_000, bytes(1 << 20)))),
    "an image cut off": ("image", _write(lambda: make_image(image_format="JPEG")[:-40])),
    "a web page named .png": ("image", _write(lambda: b"<html><script>alert(1)</script></html>")),
    "an SVG named .png": ("image", _write(lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>')),
    "a GIF named .png": ("image", _write(lambda: make_image(image_format="GIF"))),
    "a video named .png": ("image", _write(make_clip)),
}
