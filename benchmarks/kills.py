"""Kill a real server at random moments of a submission, repeat the call to a new one, and count what was bought.

    python -m benchmarks.kills [KILLS]

Run from the checkout. Prints the counts; the exit status is 1 if a task was bought twice or lost.
"""

import asyncio
import random
import sys
import tempfile
from pathlib import Path

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from tests.support.kills import Outcome, kill_once, summary

LATEST_S = 0.45


def main() -> int:
    """Kill, count, print, and return 0 if nothing was bought twice or lost."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    outcomes: list[Outcome] = []
    with SandboxServer() as server:
        control = SandboxControl(server.base_url)
        for _ in range(kills):
            with tempfile.TemporaryDirectory() as folder:
                after_s = random.uniform(0, LATEST_S)  # noqa: S311 -- any moment
                outcomes.append(asyncio.run(kill_once(control, server.base_url, Path(folder), after_s=after_s)))
        control.close()
    print(summary(outcomes))
    return 1 if any(outcome.bought > 1 or outcome.is_lost for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
