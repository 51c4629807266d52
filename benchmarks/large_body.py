"""Measures what submitting 10 MB videos costs the server process: memory, and stalls of its event loop.

    python -m benchmarks.large_body

The sandbox runs in a process of its own. Prints PASS or FAIL for each target.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FILE_BYTES = 10_000_000
MAX_EXTRA_MB = {1: 10, 8: 100}
MAX_STALL_MS = 50

SERVER = """
import asyncio, json, sys, time
from pathlib import Path
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.video import VideoUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import open_service

def peak_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

stall_ms = 0.0

async def tick():
    "Measure the longest time for which the event loop was blocked."
    global stall_ms
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        stall_ms = max(stall_ms, (time.perf_counter() - start) * 1000 - 1)

async def main(base_url, folder):
    settings = Settings.from_env({
        "PIAPI_API_KEY": "sandbox-bench", "PIAPI_BASE_URL": base_url,
        "PIAPI_STATE_DIR": folder, "PIAPI_ALLOWED_DIRS": folder,
    })
    service = open_service(settings, settings.api_key)
    await service.submit(VideoUpscale(f"{folder}/small.mp4"), SubmitOptions())  # everything is loaded and connected
    idle = peak_kib()
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(
        service.submit(VideoUpscale(f"{folder}/large{n}.mp4"), SubmitOptions()) for n in range(int(sys.argv[3]))
    ))
    ticking.cancel()
    print(json.dumps({"idle_kib": idle, "peak_kib": peak_kib(), "stall_ms": stall_ms}))
    await service.close()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def padded_clip(clip: bytes, size_bytes: int, salt: int) -> bytes:
    """Return *clip* with an empty box appended, so that it is *size_bytes* long; *salt* makes it unique."""
    free_bytes = size_bytes - len(clip)
    return clip + free_bytes.to_bytes(4, "big") + b"free" + salt.to_bytes(4, "big") + bytes(free_bytes - 12)


def measure(base_url: str, folder: Path, count: int) -> tuple[float, float]:
    """Return what *count* large videos at once cost: MB above idle, and the longest stall of the event loop in ms."""
    command = [sys.executable, "-c", SERVER, base_url, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    return (figures["peak_kib"] - figures["idle_kib"]) * 1024 / 1e6, figures["stall_ms"]


def report(name: str, measured: float, limit: float, unit: str) -> bool:
    """Print whether *measured* is within *limit*, and return it."""
    passed = measured <= limit
    print(f"{'PASS' if passed else 'FAIL'}  {name}: {measured:.1f} {unit} (at most {limit} {unit})")
    return passed


def main() -> int:
    """Measure, print, and return 0 if every target is met."""
    from piapi_mcp.sandbox import media_jobs
    from piapi_mcp.sandbox.control_client import SandboxControl

    passed = True
    sandbox = subprocess.Popen([sys.executable, "-m", "piapi_mcp", "sandbox"], stdout=subprocess.PIPE, text=True)
    try:
        if sandbox.stdout is None:
            raise RuntimeError("no pipe")
        base_url = sandbox.stdout.readline().strip()
        control = SandboxControl(base_url)
        with tempfile.TemporaryDirectory(prefix="piapi-mcp-bench-") as scratch:
            folder = Path(scratch)
            media_jobs.run("make_clip", target=str(folder / "small.mp4"))
            clip = (folder / "small.mp4").read_bytes()
            for number in range(8):
                (folder / f"large{number}.mp4").write_bytes(padded_clip(clip, FILE_BYTES, number))
            for count in (1, 8):
                control.reset(does_work=False, max_concurrent_tasks=100)
                (folder / "ledger.sqlite3").unlink(missing_ok=True)
                extra_mb, stall_ms = measure(base_url, folder, count)
                passed &= report(f"{count} x 10 MB at once, above idle", extra_mb, MAX_EXTRA_MB[count], "MB")
                passed &= report(f"{count} x 10 MB at once, longest stall", stall_ms, MAX_STALL_MS, "ms")
        control.close()
    finally:
        sandbox.terminate()
        sandbox.wait()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
