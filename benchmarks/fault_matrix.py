"""Run every fault at every step for every paid tool, and write the table of what was bought and answered.

    python -m benchmarks.fault_matrix

Run from the checkout. The table is written beside this file, where it is committed and the tests compare with it.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from tests.support.fault_matrix import CELLS, run_cell, table

TABLE = Path(__file__).with_suffix(".md")


def main() -> int:
    """Run all cells, write and print the table, and return 0 if nothing was bought twice or lost."""
    rows: list[tuple[str, ...]] = []
    with SandboxServer() as server:
        control = SandboxControl(server.base_url)
        for cell in CELLS:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(asyncio.run(run_cell(cell, control, server.base_url, Path(folder))))
        control.close()
    TABLE.write_text(table(rows))
    print(table(rows))
    doubled = sum(int(row[5]) > 1 for row in rows)
    lost = sum(row[7] == "NO" for row in rows)
    print(f"{len(rows)} cells: {doubled} doubled, {lost} lost")
    return 1 if doubled or lost else 0


if __name__ == "__main__":
    sys.exit(main())
