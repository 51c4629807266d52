"""Measures how each hostile file is answered, how fast, and at what cost in memory.

    python -m benchmarks.hostile

Each file is submitted by a process of its own, whose peak memory is compared with that before. Prints a Markdown table.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.hostile_files import HOSTILE

MAX_MS = 1000
MAX_MB = 64

PROBE = """
import asyncio, sys, time
from piapi_mcp.errors import PiAPIError
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.video import VideoUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import open_service

def peak_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

async def main(kind, path, folder):
    settings = Settings.from_env({
        "PIAPI_API_KEY": "sandbox-bench", "PIAPI_BASE_URL": "http://127.0.0.1:9",
        "PIAPI_STATE_DIR": folder + "/state", "PIAPI_ALLOWED_DIRS": folder,
    })
    service = open_service(settings, settings.api_key)
    idle, start = peak_kib(), time.perf_counter()
    try:
        if kind == "video":
            await service.submit(VideoUpscale(path), SubmitOptions(dry_run=True))
        else:
            await service.submit(ImageUpscale(path), SubmitOptions(dry_run=True))
        answer = "ACCEPTED"
    except PiAPIError as error:
        answer = f"{type(error).__name__}: {error}"
    print(round((time.perf_counter() - start) * 1000), round((peak_kib() - idle) / 1024), answer, sep="|")
    await service.close()

asyncio.run(main(*sys.argv[1:]))
"""


def main() -> int:
    """Submit all files, print the table, and return 0 if each was refused within the limits of time and memory."""
    passed = True
    print("| file | ms | MB | answer |\n| --- | --- | --- | --- |")
    for name, (kind, make) in HOSTILE.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch).resolve()
            path = folder / ("thing.mp4" if kind == "video" else "thing.png")
            make(path)
            command = [sys.executable, "-c", PROBE, kind, str(path), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            spent_ms, spent_mb, answer = done.stdout.strip().split("|", 2)
        passed = passed and int(spent_ms) <= MAX_MS and int(spent_mb) <= MAX_MB and answer.startswith("InputRejected")
        print(f"| {name} | {spent_ms} | {spent_mb} | {answer.replace(str(folder), '…')} |")
    print(f"\n{'PASS' if passed else 'FAIL'}  each refused within {MAX_MS} ms and {MAX_MB} MB")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
