"""The inspector's command line: each call connects anew."""

import asyncio
import json
import os
import subprocess

from scenario import Answer, report, run_scenario, target

TO = target()
MODERN = ["--protocol-era", "modern"] if TO.get("era") == "modern" else []


def inspect(*arguments: str) -> Answer:
    """Run the inspector and return what it prints."""
    if TO["transport"] == "stdio":
        settings = [part for name, value in TO["env"].items() for part in ("-e", f"{name}={value}")]
        reach = [TO["command"], *TO["args"], *settings]
    else:
        reach = [TO["url"]]
    command = ["mcp-inspector", "--cli", *reach, *MODERN, *arguments, "-q", "--format", "json"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(done.stdout)


async def call(tool: str, arguments: Answer) -> Answer:
    given = json.dumps(arguments)
    answer = inspect("--method", "tools/call", "--tool-name", tool, "--tool-args-json", given)
    return answer.get("result", answer)["structuredContent"]


hello = inspect("--method", "initialize")
report(str(hello.get("result", hello).get("protocolVersion", "?")), asyncio.run(run_scenario(call, TO["request"])))
