"""The command line in this process, with a home folder and an environment of its own: a new process takes longer."""

import logging
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from piapi_mcp.cli import main


@dataclass(frozen=True)
class CommandResult:
    status: int
    out: str
    err: str


RunCommand = Callable[..., CommandResult]


@pytest.fixture
def _logger_levels() -> Generator[None]:
    """Restore the levels that the command line sets for its process."""
    loggers = [logging.getLogger(name) for name in ("httpx", "piapi_mcp.settings")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def run_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], _logger_levels: None
) -> RunCommand:
    """Return a function that runs the command line in *tmp_path*, which is also the home folder."""

    def run(*arguments: str, **env: str) -> CommandResult:
        with monkeypatch.context() as patch:
            for name in os.environ.keys() - {"PATH", "PYTEST_CURRENT_TEST"}:
                patch.delenv(name)
            for name, value in {"HOME": str(tmp_path), **env}.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            try:
                status = main(arguments)
            except SystemExit as stopped:  # argparse: --help, or options that it refuses
                status = int(stopped.code or 0)
        captured = capsys.readouterr()
        return CommandResult(status, captured.out, captured.err)

    return run
