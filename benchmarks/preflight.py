"""Measures how long probing a 10 MB video takes, before anything is submitted.

    python -m benchmarks.preflight

The boxes of an ordinary file suffice; a fragmented one is demuxed in another process. Prints medians, and PASS or FAIL
for each target.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from piapi_mcp.media.local_files import LocalFiles
from piapi_mcp.media.sources import MediaFile, open_source
from piapi_mcp.media.video import probe_video
from tests.support.media_files import make_clip

FILE_BYTES = 10_000_000
RUNS = 20
TARGETS_MS = {"ordinary": 3.0, "fragmented": 250.0}


def padded(clip: bytes) -> bytes:
    """Return *clip* with an empty box appended, so that it is `FILE_BYTES` long."""
    free_bytes = FILE_BYTES - len(clip)
    return clip + free_bytes.to_bytes(4, "big") + b"free" + bytes(free_bytes - 8)


def probe_ms(path: Path) -> float:
    """Open and probe the file, and return how long that took."""
    start = time.perf_counter()
    media = open_source(str(path), argument="video", local=LocalFiles((path.parent,)), max_bytes=FILE_BYTES)
    if not isinstance(media, MediaFile):
        raise TypeError("not opened as a file")
    with media:
        facts = probe_video(media)
    if facts.stored_frames != 120:  # noqa: PLR2004 -- as made below
        raise RuntimeError(f"{facts.stored_frames} frames")
    return (time.perf_counter() - start) * 1000


def main() -> int:
    """Measure, print, and return 0 if every target is met."""
    passed = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve()
        for name, options in {"ordinary": None, "fragmented": {"movflags": "frag_keyframe+empty_moov"}}.items():
            path = folder / f"{name}.mp4"
            path.write_bytes(padded(make_clip(width=640, height=360, frames=120, options=options)))
            median_ms = statistics.median(probe_ms(path) for _ in range(RUNS))
            passed = passed and median_ms <= TARGETS_MS[name]
            verdict = "PASS" if median_ms <= TARGETS_MS[name] else "FAIL"
            print(f"{verdict}  {name} 10 MB file: {median_ms:.2f} ms (at most {TARGETS_MS[name]:g} ms)")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
