"""How much memory submitting a 10 MB video takes, in the process of the server.

    python benchmarks/large_body.py

The sandbox runs in a process of its own. Prints the peak above idle, and PASS or FAIL for the target.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FILE_BYTES = 10_000_000
MAX_EXTRA_MB = 10

SERVER = """
import asyncio, json, sys
from pathlib import Path
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.service import open_service

def peak_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

async def main(base_url, folder):
    settings = Settings.from_env({
        "PIAPI_API_KEY": "sandbox-bench", "PIAPI_BASE_URL": base_url,
        "PIAPI_STATE_DIR": folder, "PIAPI_ALLOWED_DIRS": folder,
    })
    service = open_service(settings, settings.api_key)
    await service.upscale_video(f"{folder}/small.mp4", Options())  # everything is loaded and connected
    idle = peak_kib()
    await asyncio.gather(*(
        service.upscale_video(f"{folder}/large{n}.mp4", Options()) for n in range(int(sys.argv[3]))
    ))
    print(json.dumps({"idle_kib": idle, "peak_kib": peak_kib()}))
    await service.close()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def padded_clip(clip: bytes, size_bytes: int, salt: int) -> bytes:
    """Return *clip* with a box of nothing behind it, so that it is *size_bytes* long."""
    free_bytes = size_bytes - len(clip)
    return clip + free_bytes.to_bytes(4, "big") + b"free" + salt.to_bytes(4, "big") + bytes(free_bytes - 12)


def measure(base_url: str, folder: Path, count: int) -> float:
    """Return by how many MB the peak rises above idle when *count* large videos are submitted at once."""
    command = [sys.executable, "-c", SERVER, base_url, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    return (figures["peak_kib"] - figures["idle_kib"]) * 1024 / 1e6


def main() -> int:
    """Measure, print, and return 0 if the target is met."""
    from piapi_mcp.sandbox import work
    from piapi_mcp.sandbox.control import SandboxControl

    sandbox = subprocess.Popen([sys.executable, "-m", "piapi_mcp", "sandbox"], stdout=subprocess.PIPE, text=True)
    try:
        if sandbox.stdout is None:
            raise RuntimeError("no pipe")
        base_url = sandbox.stdout.readline().strip()
        control = SandboxControl(base_url)
        with tempfile.TemporaryDirectory(prefix="piapi-mcp-bench-") as scratch:
            folder = Path(scratch)
            work.run("make_clip", target=str(folder / "small.mp4"))
            clip = (folder / "small.mp4").read_bytes()
            for number in range(8):
                (folder / f"large{number}.mp4").write_bytes(padded_clip(clip, FILE_BYTES, number))
            for count in (1, 8):
                control.reset(does_work=False, max_concurrent_tasks=100)
                (folder / "ledger.sqlite3").unlink(missing_ok=True)
                extra_mb = measure(base_url, folder, count)
                limit = MAX_EXTRA_MB if count == 1 else 100
                verdict = "PASS" if extra_mb <= limit else "FAIL"
                print(f"{verdict}  {count} x 10 MB at once: {extra_mb:.1f} MB above idle (at most {limit} MB)")
        control.close()
    finally:
        sandbox.terminate()
        sandbox.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
