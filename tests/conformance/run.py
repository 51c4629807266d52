"""Run the official conformance suite against our server, in both eras, with all scenarios of the tasks extension.

    python tests/conformance/run.py [--out DIR]

Needs npm, which fetches the suite and the Node.js that it requires. Prints the totals of each run of the suite; the
exit status is 1 if a scenario fails that `expected-failures.yml` does not name, or passes although it is named there.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NODE = "node@22"
OLD_SUITE, SUITE = (f"@modelcontextprotocol/conformance@{version}" for version in ("0.1.16", "0.2.0-alpha.12"))
TIMEOUT_S = 180


@dataclass(frozen=True)
class SuiteRun:
    """One run of the suite."""

    title: str
    suite: str
    arguments: tuple[str, ...]


EXPECTED = ("--expected-failures", str(HERE / "expected-failures.yml"))
RUNS = (
    SuiteRun("0.1.16, 2025-11-25", OLD_SUITE, ("--suite", "active", *EXPECTED)),
    SuiteRun("0.2, 2025-11-25", SUITE, ("--suite", "all", "--spec-version", "2025-11-25", *EXPECTED)),
    SuiteRun("0.2, 2026-07-28", SUITE, ("--suite", "all", "--spec-version", "2026-07-28")),
)


@contextmanager
def run_server() -> Generator[str]:
    """Run the server and yield its URL."""
    command = [sys.executable, str(HERE / "server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        try:
            yield f"http://localhost:{process.stdout.readline().strip()}/mcp"
        finally:
            process.terminate()


def install(suite: str, folder: Path) -> dict[str, str]:
    """Install *suite* with its Node.js, and return the environment to run it in."""
    folder.mkdir(parents=True)
    (folder / "package.json").write_text("{}")
    subprocess.run(["npm", "install", "--silent", "--no-fund", NODE, suite], cwd=folder, check=True)  # noqa: S607
    return os.environ | {"PATH": f"{folder / 'node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"}


def run_command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the suite's command."""
    return subprocess.run(
        ["conformance", *arguments],  # noqa: S607
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def run_suite(run: SuiteRun, environment: dict[str, str], url: str, out: Path) -> bool:
    """Run the suite once, print its totals by scenario, and return whether all is as expected."""
    done = run_command(environment, "server", "--url", url, *run.arguments, "-o", str(out))
    print(f"\n## {run.title}\n{done.stdout.partition('=== SUMMARY ===')[2].strip() or done.stdout + done.stderr}")
    return done.returncode == 0


def run_tasks(environment: dict[str, str], url: str, out: Path) -> bool:
    """Run all scenarios of the tasks extension, print their totals, and return whether they pass."""
    listed = run_command(environment, "list", "--server").stdout
    scenarios = sorted(set(re.findall(r"\btasks-[a-z-]+", listed)))
    print("\n## 0.2, tasks extension")
    if not scenarios:
        print(f"No scenarios were found: {listed}")
        return False
    results = [run_scenario(scenario, environment, url, out / scenario) for scenario in scenarios]
    return all(results)


def run_scenario(scenario: str, environment: dict[str, str], url: str, out: Path) -> bool:
    """Run one scenario, print its totals, and return whether it passes."""
    done = run_command(environment, "server", "--url", url, "--scenario", scenario, "-o", str(out))
    checks = [check for file in out.rglob("checks.json") for check in json.loads(file.read_text())]
    passed = sum(check["status"] == "SUCCESS" for check in checks)
    failed = [check["id"] for check in checks if check["status"] in ("FAILURE", "WARNING")]
    is_passed = done.returncode == 0 and not failed
    print(f"{'✓' if is_passed else '✗'} {scenario}: {passed} passed, {len(failed)} failed {' '.join(failed)}".rstrip())
    return is_passed


def main(out: Path) -> int:
    """Run everything and return the exit status."""
    environments = {suite: install(suite, out / f"suite-{number}") for number, suite in enumerate((OLD_SUITE, SUITE))}
    with run_server() as url:
        results = [run_suite(run, environments[run.suite], url, out / str(number)) for number, run in enumerate(RUNS)]
        results.append(run_tasks(environments[SUITE], url, out / "tasks"))
    print(f"\n{'All as expected.' if all(results) else 'NOT as expected.'}")
    return not all(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="where to put the suite and its reports (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(arguments.out or Path(temporary)))
