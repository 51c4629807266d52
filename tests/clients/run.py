"""Run real clients against this checkout's server: each submits a task, polls it, and gets the result.

    python tests/clients/run.py [NAME ...] [--environments DIR]

The sandbox stands in for PiAPI. Needs pip and npm; the clients are installed into environments of their own, which are
kept for the next run. Prints a table of clients and transports with the protocol version that was agreed on; the exit
status is 1 if a client did not get its result.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from piapi_mcp.sandbox.fixtures import Sample

HERE = Path(__file__).parent
GRID = Sample("6", is_grid=True).task_id
ROOT = HERE.parents[1]
SERVER = ["-m", "piapi_mcp"]
TIMEOUT_S = 100
TRANSPORTS = ("stdio", "streamable-http", "sse")

PYTHON_PACKAGES = {
    "python-1": ("mcp==1.30.0", "langchain-mcp-adapters==0.3.2", "langchain==1.4.7"),
    "python-2": ("mcp==2.3.0", "openai-agents==0.24.0", "pydantic-ai-slim[mcp]==2.68.0", "fastmcp-slim==4.2.0"),
}
NODE_PACKAGES = (
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
    "@modelcontextprotocol/inspector@2.12.0",
    "mcp-remote@0.15.1",
)


@dataclass(frozen=True)
class Client:
    """A client, and how it connects."""

    name: str
    script: str
    environment: str
    transports: tuple[str, ...] = TRANSPORTS
    options: dict[str, str] = field(default_factory=dict[str, str])
    """Passed to its script."""
    uses_bridge: bool = False
    """Whether it reaches HTTP through mcp-remote, which looks like a server over stdio."""


CLIENTS = (
    Client("mcp 2.3", "mcp_2.py", "python-2"),
    Client("mcp 2.3, older era", "mcp_2.py", "python-2", options={"era": "legacy"}),
    Client("mcp 1.30", "mcp_1.py", "python-1"),
    Client("TypeScript SDK 1.32", "typescript_1.mjs", "node"),
    Client("TypeScript client 2.4", "typescript_2.mjs", "node", options={"era": "auto"}),
    Client("TypeScript client 2.4, default era", "typescript_2.mjs", "node"),
    Client("inspector 2.12", "inspector.py", "node"),
    Client("inspector 2.12, newer era", "inspector.py", "node", options={"era": "modern"}),
    Client("mcp-remote 0.15", "mcp_1.py", "python-1", TRANSPORTS[1:], uses_bridge=True),
    Client("fastmcp 4.2", "fastmcp_4.py", "python-2"),
    Client("LangChain", "langchain_agent.py", "python-1"),
    Client("OpenAI Agents", "openai_agent.py", "python-2"),
    Client("Pydantic AI", "pydantic_agent.py", "python-2"),
)

EXAMPLES = {
    "pydantic_ai_agent.py": "python-2",
    "openai_agents_agent.py": "python-2",
    "langchain_agent.py": "python-1",
}
"""The examples, each with the environment that has its framework."""


def install_python(folder: Path, packages: tuple[str, ...]) -> None:
    """Install *packages* into a virtual environment in *folder*, unless they are installed."""
    if not (folder / "done").exists():
        # Debian keeps venv in a package of its own.
        made = (
            subprocess.run([sys.executable, "-m", module, "--clear", str(folder)], check=False).returncode == 0
            for module in ("venv", "virtualenv")
        )
        if not any(made):
            raise RuntimeError(f"no environment could be made in {folder}")
        command = [str(folder / "bin/python"), "-m", "pip", "install", "-qq", *packages]
        subprocess.run([*command, "--disable-pip-version-check"], check=True)
        (folder / "done").write_text("\n".join(packages))


def install_node(folder: Path) -> None:
    """Install the npm packages into *folder*, unless they are installed, and copy the scripts beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "done").exists():
        (folder / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--silent", "--no-fund", *NODE_PACKAGES], cwd=folder, check=True)  # noqa: S607
        (folder / "done").write_text("\n".join(NODE_PACKAGES))
    for script in HERE.glob("*.mjs"):  # Node.js looks for packages from the script's folder
        (folder / script.name).write_text(script.read_text())


def install(environments: Path) -> None:
    """Install every environment, side by side."""
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(install_python, environments / name, packages) for name, packages in PYTHON_PACKAGES.items()
        ]
        for job in [*jobs, pool.submit(install_node, environments / "node")]:
            job.result()


@contextmanager
def run_server(command: list[str], env: dict[str, str], stream: str) -> Generator[str]:
    """Run *command* and yield the first line that it prints to *stream*."""
    with tempfile.TemporaryFile("w+") as rest:
        out, err = (subprocess.PIPE if stream == name else rest for name in ("stdout", "stderr"))
        with subprocess.Popen(command, env=env, text=True, stdout=out, stderr=err) as process:
            pipe = process.stdout or process.stderr
            if pipe is None:
                raise RuntimeError("no pipe")
            try:
                yield pipe.readline().strip()
            finally:
                process.terminate()


class Runner:
    """Runs clients in their environments against the running servers."""

    def __init__(self, environments: Path, settings: dict[str, str], http_url: str) -> None:
        self._environments = environments
        self._settings = settings
        self._http_url = http_url

    def target(self, client: Client, transport: str, number: int) -> dict[str, object]:
        """Return the argument of the client's script, see `scenario.py`."""
        # Every run buys a task of its own.
        request = {"origin_task_id": GRID, "index": str(number % 4 + 1), "allow_repeat": True}
        target: dict[str, object] = {"transport": transport, "request": request, **client.options}
        url = self._http_url if transport == "streamable-http" else self._http_url.removesuffix("/mcp") + "/sse"
        if client.uses_bridge:
            only = "http-only" if transport == "streamable-http" else "sse-only"
            bridge = str(self._environments / "node/node_modules/.bin/mcp-remote")
            env = {name: self._settings[name] for name in ("PATH", "HOME")}
            return target | {"transport": "stdio", "command": bridge, "args": [url, "--transport", only], "env": env}
        if transport == "stdio":
            return target | {"command": sys.executable, "args": SERVER, "env": self._settings}
        return target | {"url": url}

    def run(self, client: Client, transport: str, number: int) -> tuple[str, str]:
        """Run *client*; return the agreed version, or an empty one and why it failed."""
        folder = self._environments / client.environment
        target = json.dumps(self.target(client, transport, number))
        if client.script.endswith(".mjs"):
            command = ["node", str(folder / client.script), target]
        else:
            python = folder / "bin/python" if client.environment != "node" else sys.executable
            command = [str(python), str(HERE / client.script), target]
        path = f"{self._environments / 'node/node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PATH": path}
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            return "", f"no end after {TIMEOUT_S} s: {error.stderr!r}"
        if done.returncode:
            return "", done.stderr[-1500:] or done.stdout[-1500:]
        outcome = json.loads(done.stdout.splitlines()[-1])
        is_result = outcome["result"].startswith(f"{self._settings['PIAPI_BASE_URL']}/results/")
        return (outcome["protocol"], "") if is_result else ("", f"no result: {outcome}")


def main(names: list[str], environments: Path) -> int:
    """Run the clients whose name contains one of *names* (all without), and return the exit status."""
    started = time.monotonic()
    install(environments)
    installed = time.monotonic()
    chosen = [client for client in CLIENTS if not names or any(name in client.name for name in names)]
    sandbox = run_server([sys.executable, *SERVER, "sandbox"], dict(os.environ), "stdout")
    with tempfile.TemporaryDirectory() as state, sandbox as base_url:
        settings = {"PIAPI_BASE_URL": base_url, "PIAPI_API_KEY": "sandbox-clients", "PIAPI_STATE_DIR": state}
        settings |= {"PATH": os.environ["PATH"], "HOME": state}
        http = [sys.executable, *SERVER, "--transport", "streamable-http", "--port", "0"]
        with run_server(http, settings, "stderr") as line:
            runner = Runner(environments, settings, line.split()[2])
            cells = [(client, transport) for client in chosen for transport in client.transports]
            with ThreadPoolExecutor(2) as pool:
                jobs = [pool.submit(runner.run, *cell, number) for number, cell in enumerate(cells)]
                results = {(client.name, on): job.result() for (client, on), job in zip(cells, jobs, strict=True)}
    print_table(chosen, results)
    examples_pass = bool(names) or run_examples(environments)
    ended = time.monotonic()
    failed = {cell: why for cell, (version, why) in results.items() if not version}
    for (name, transport), why in failed.items():
        print(f"\n{name} over {transport} failed:\n{why}")
    print(f"\nInstalled in {installed - started:.0f} s, run in {ended - installed:.0f} s.")
    return bool(failed) or not examples_pass


def run_examples(environments: Path) -> bool:
    """Run every example, print its output, and return whether each printed a result."""
    results: list[bool] = []
    for name, environment in EXAMPLES.items():
        python = environments / environment / "bin/python"
        env = os.environ | {"PIAPI_MCP": str(Path(sys.executable).with_name("piapi-mcp"))}
        command = [str(python), str(ROOT / "examples" / name)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        output = done.stdout.strip() or done.stderr[-1500:]
        print(f"\nexamples/{name}: {output}")
        results.append(done.returncode == 0 and output.startswith("Here it is: http"))
    return all(results)


def print_table(clients: list[Client], results: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Print the agreed versions, one line per client."""
    print(f"| client | {' | '.join(TRANSPORTS)} |\n|---|{'---|' * len(TRANSPORTS)}")
    for client in clients:
        cells = [results.get((client.name, transport), ("–", ""))[0] or "**failed**" for transport in TRANSPORTS]
        print(f"| {client.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="only clients whose name contains this")
    parser.add_argument("--environments", type=Path, default=ROOT / ".clients", help="default: .clients")
    arguments = parser.parse_args()
    sys.exit(main(arguments.names, arguments.environments.resolve()))
