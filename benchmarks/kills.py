"""Kill or stop a real server at random moments of a submission, repeat the call, and count what was bought.

    python -m benchmarks.kills [TIMES] [MODE ...]

The modes, all three by default: `kill` ends a server and asks a new one; `stop` stops a server (SIGSTOP), asks a second
one, and lets the first go on; `clock` does so while the clocks of both jump by up to an hour.

Run from the checkout. Prints the counts of each mode; the exit status is 1 if a task was bought twice or lost, or if an
agent was told that nothing was bought although a task exists.
"""

import sys
import tempfile
from pathlib import Path

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from tests.support.kills import MODES, REQUESTS, Mode, Outcome, kill_at_random, stop_at_random, summary

_LATEST_OF_NEW_SERVER_S = 0.45
"""How long the first call of a server takes, in seconds: modules are imported at their first use."""
_LATEST_S = 0.2


def main() -> int:
    """Kill and stop, count, print, and return 0 if nothing was bought twice, lost or denied."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    modes: list[Mode] = [mode for mode in MODES if mode in sys.argv[2:]] or list(MODES)
    all_good = True
    with SandboxServer() as server:
        control = SandboxControl(server.base_url)
        for mode in modes:
            outcomes: list[Outcome] = []
            while len(outcomes) < times:
                with tempfile.TemporaryDirectory() as folder:
                    left = times - len(outcomes)
                    outcomes += run(mode, control, server.base_url, Path(folder) / "state", times=left)
            print(summary(mode, outcomes), flush=True)
            for bad in (outcome for outcome in outcomes if not outcome.is_good):
                all_good = False
                print(f"  {bad.bought} bought:", *(answer.text for answer in bad.answers), sep="\n    ", flush=True)
        control.close()
    return 0 if all_good else 1


def run(mode: Mode, control: SandboxControl, base_url: str, folder: Path, *, times: int) -> list[Outcome]:
    """Kill or stop a server up to *times* times, over one ledger."""
    if mode == "kill":
        return kill_at_random(control, base_url, folder, latest_s=_LATEST_OF_NEW_SERVER_S)
    times = min(times, len(REQUESTS))
    return stop_at_random(control, base_url, folder, latest_s=_LATEST_S, times=times, with_clocks=mode == "clock")


if __name__ == "__main__":
    sys.exit(main())
