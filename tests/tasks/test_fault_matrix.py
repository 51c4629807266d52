"""The promise of the project, cell by cell: at most one purchase, no id lost, and an answer that says what to do."""

from pathlib import Path

import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from tests.support.fault_matrix import CELLS, Cell, run_cell, table

TABLE = (Path(__file__).parents[2] / "benchmarks" / "fault_matrix.md").read_text()


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.step}-{cell.fault}-{cell.tool}".replace(" ", "_"))
async def test_a_fault_loses_nothing_and_buys_nothing_twice(
    cell: Cell, sandbox: SandboxControl, base_url: str, tmp_path: Path
) -> None:
    row = await run_cell(cell, sandbox, base_url, tmp_path)
    bought, bought_then, known = int(row[3]), int(row[5]), row[7]
    assert bought <= 1
    assert bought_then <= 1
    assert known in ("yes", "-")
    assert table([row]).splitlines()[-1] in TABLE.splitlines()
