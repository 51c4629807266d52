"""Runs `piapi-mcp` with a wall clock that jumps: `python -P jumping_clock.py FILE [ARGUMENT ...]`.

FILE contains how many seconds `time.time` is ahead of the real time; it may change at any moment. `time.monotonic` is
left alone, as it is when somebody sets the clock of a machine.
"""

import sys
import time
from pathlib import Path

_offset_file = Path(sys.argv[1])
_read_real_time = time.time


def _read_jumped_time() -> float:
    return _read_real_time() + float(_offset_file.read_text())


time.time = _read_jumped_time

from piapi_mcp.cli import main  # noqa: E402 -- default arguments in it refer to the clock

sys.exit(main(sys.argv[2:]))
