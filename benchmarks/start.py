"""Measure what starting the server costs, against a server with one tool on the same SDK, started in turn.

    python -m benchmarks.start [RUNS]

Run from the checkout, on Linux. Prints medians of the CPU time and peak memory from the start of the process to the
answer to `initialize`, the bytes that a model reads for each tool, and PASS or FAIL for each target.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mcp import Client

from piapi_mcp.server.build import build_server
from piapi_mcp.settings import Settings
from tests.support.messages import INITIALIZE

MAX_EXTRA_CPU_MS = 100
MAX_EXTRA_MEMORY_MIB = 10
MAX_TOOL_BYTES = 6000
MAIN_TOOLS = ("midjourney_upscale", "video_upscale", "get_task")
MAX_MAIN_TOOLS_BYTES = 2600

ONE_TOOL = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("one")
@server.tool()
async def echo(text: str) -> str:
    "Say it again."
    return text
server.run("stdio")
"""
PIAPI_MCP = "import sys; from piapi_mcp.cli import main; sys.argv = ['piapi-mcp']; main()"


@dataclass(frozen=True)
class Start:
    """One start, up to the answer to `initialize`."""

    cpu_ms: float
    memory_mib: float


def start(script: str) -> Start:
    """Start *script*, initialize, measure the process while it is idle, and end it."""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("no pipes")
        server.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        server.stdin.flush()
        server.stdout.readline()
        process = Path(f"/proc/{server.pid}")
        user, system = (process / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
        status = (process / "status").read_text().splitlines()
        peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        server.stdin.close()
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return Start((int(user) + int(system)) * 1000 / ticks_per_s, peak_kib / 1024)


def report(name: str, value: float, limit: float, unit: str) -> bool:
    """Print one figure against its target."""
    passed = value <= limit
    print(f"{'PASS' if passed else 'FAIL'}  {name}: {value:.1f} {unit} (at most {limit} {unit})")
    return passed


async def tool_bytes() -> dict[str, int]:
    """Return how many bytes of compact JSON a model reads for each tool."""
    async with Client(build_server(Settings.from_env({}))) as client:
        tools = [tool.model_dump(mode="json", by_alias=True) for tool in (await client.list_tools()).tools]
    read = ("name", "description", "inputSchema")
    return {tool["name"]: len(json.dumps({name: tool[name] for name in read}, separators=(",", ":"))) for tool in tools}


def main() -> int:
    """Measure, print, and return 0 if every target is met."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for script in (PIAPI_MCP, ONE_TOOL):
        start(script)  # fills the caches
    pairs = [(start(PIAPI_MCP), start(ONE_TOOL)) for _ in range(runs)]
    for name, index in (("piapi-mcp", 0), ("one tool", 1)):
        cpu_ms = statistics.median(pair[index].cpu_ms for pair in pairs)
        memory_mib = statistics.median(pair[index].memory_mib for pair in pairs)
        print(f"{name}: {cpu_ms:.0f} ms CPU, {memory_mib:.1f} MiB (medians of {runs} starts)")
    sizes = asyncio.run(tool_bytes())
    print("bytes a model reads:", sizes)
    passed = [
        report("CPU above one tool", statistics.median(a.cpu_ms - b.cpu_ms for a, b in pairs), MAX_EXTRA_CPU_MS, "ms"),
        report(
            "memory above one tool",
            statistics.median(a.memory_mib - b.memory_mib for a, b in pairs),
            MAX_EXTRA_MEMORY_MIB,
            "MiB",
        ),
        report(
            "main tools as a model reads them", sum(sizes[name] for name in MAIN_TOOLS), MAX_MAIN_TOOLS_BYTES, "bytes"
        ),
        report("all tools as a model reads them", sum(sizes.values()), MAX_TOOL_BYTES, "bytes"),
    ]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
