"""Builds the Claude Desktop bundle, and starts it as Claude Desktop would.

    python packaging/build_bundle.py [--output FILE]

Requires npm for the bundle tool. To start the bundle it also requires `uv`, next to this Python or on the PATH; Claude
Desktop ships its own. The bundle contains no dependencies; uv downloads them on the first start.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from smoke import smoke

HERE = Path(__file__).parent
ROOT = HERE.parent
TOOL = ["npx", "--yes", "@anthropic-ai/mcpb@2.1.2"]
HOST_SCRIPT = """
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb/node";
import { readFileSync } from "node:fs";
const [folder, user] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(`${folder}/manifest.json`));
const config = await getMcpConfigForManifest({
  manifest, extensionPath: folder, systemDirs: {}, userConfig: JSON.parse(user), pathSeparator: "/",
});
console.log(JSON.stringify(config ?? null));
"""
"""Computes how Claude Desktop starts a bundle, with the library that its vendor publishes."""


def stage(folder: Path) -> None:
    """Copy the bundle's files into *folder*."""
    shutil.copytree(HERE / "bundle", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "piapi_mcp", folder / "piapi_mcp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "icon.png", folder)
    shutil.copy(ROOT / "LICENSE", folder)


def host_configuration(folder: Path, **user: str) -> dict[str, Any] | None:
    """Return the command and environment with which a host starts the bundle in *folder*, None if it does not start it.

    *user* holds the values that the user filled in.
    """
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "package.json").write_text("{}")
        (Path(scratch) / "host.mjs").write_text(HOST_SCRIPT)
        install = ["npm", "install", "--silent", "--no-fund", "@anthropic-ai/mcpb@2.1.2"]
        subprocess.run(install, cwd=scratch, check=True)
        done = subprocess.run(
            ["node", "host.mjs", str(folder), json.dumps(user)], cwd=scratch, check=True, capture_output=True, text=True
        )
    return json.loads(done.stdout)


def start_bundle(bundle: Path) -> None:
    """Unpack *bundle* into a temporary folder, start it as a host would, and run the smoke test."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "unpacked"
        subprocess.run([*TOOL, "unpack", str(bundle), str(folder)], check=True, stdout=subprocess.DEVNULL)
        if host_configuration(folder) is not None:
            raise RuntimeError("a host starts the bundle without a key")
        configuration = host_configuration(folder, api_key="sandbox-bundle")
        if configuration is None:
            raise RuntimeError("a host does not start the bundle")
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if uv is None:
            raise RuntimeError("uv is not installed")
        # The host passes placeholders for the values that the user did not fill in.
        env = os.environ | configuration["env"] | {"PIAPI_STATE_DIR": str(Path(scratch) / "state")}
        print("The host passes:", json.dumps(configuration["env"]))
        print("The server answers:", smoke([uv, *configuration["args"], "--sandbox"], env=env))


def main(output: Path) -> int:
    """Build the bundle as *output*, start it, and return the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        stage(folder)
        for arguments in (["validate", str(folder)], ["pack", str(folder), str(output)]):
            done = subprocess.run([*TOOL, *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stdout + done.stderr)
                return 1
    print(f"{output.name}: valid, {output.stat().st_size / 1024:.0f} KB")
    start_bundle(output)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("dist/piapi-mcp.mcpb"), help="default: %(default)s")
    output = parser.parse_args().output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    sys.exit(main(output))
