"""Builds the Claude Desktop bundle, and tries it as Claude Desktop would start it.

    python packaging/build_bundle.py [--output FILE]

Needs npm for the bundle's own tool, and `uv` beside this Python or on the path for the try: Claude Desktop brings its
own. The bundle holds no packages; uv fetches them when it is started for the first time.
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
HOST = """
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb/node";
import { readFileSync } from "node:fs";
const [folder, user] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(`${folder}/manifest.json`));
const config = await getMcpConfigForManifest({
  manifest, extensionPath: folder, systemDirs: {}, userConfig: JSON.parse(user), pathSeparator: "/",
});
console.log(JSON.stringify(config ?? null));
"""
"""What Claude Desktop makes of a manifest, as its makers publish it."""


def stage(folder: Path) -> None:
    """Put into *folder* what the bundle holds."""
    shutil.copytree(HERE / "bundle", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "piapi_mcp", folder / "piapi_mcp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "icon.png", folder)
    shutil.copy(ROOT / "LICENSE", folder)


def host_configuration(folder: Path, **user: str) -> dict[str, Any] | None:
    """Return how a host starts the bundle in *folder* when its user filled in *user*; None when it does not."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "package.json").write_text("{}")
        (Path(scratch) / "host.mjs").write_text(HOST)
        install = ["npm", "install", "--silent", "--no-fund", "@anthropic-ai/mcpb@2.1.2"]
        subprocess.run(install, cwd=scratch, check=True)
        done = subprocess.run(
            ["node", "host.mjs", str(folder), json.dumps(user)], cwd=scratch, check=True, capture_output=True, text=True
        )
    return json.loads(done.stdout)


def try_out(bundle: Path) -> None:
    """Unpack *bundle* elsewhere, and start it as a host would."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "unpacked"
        subprocess.run([*TOOL, "unpack", str(bundle), str(folder)], check=True, stdout=subprocess.DEVNULL)
        if host_configuration(folder) is not None:
            raise RuntimeError("a host would start it without a key")
        configuration = host_configuration(folder, api_key="sandbox-bundle")
        if configuration is None:
            raise RuntimeError("a host would not start it")
        beside = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if beside is None:
            raise RuntimeError("there is no uv")
        # What nobody filled in arrives as a placeholder.
        env = os.environ | configuration["env"] | {"PIAPI_STATE_DIR": str(Path(scratch) / "state")}
        print("The host passes:", json.dumps(configuration["env"]))
        print("It answers:", smoke([beside, *configuration["args"], "--sandbox"], env=env))


def main(output: Path) -> int:
    """Build the bundle into *output* and try it; return the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        stage(folder)
        for arguments in (["validate", str(folder)], ["pack", str(folder), str(output)]):
            done = subprocess.run([*TOOL, *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stdout + done.stderr)
                return 1
    print(f"{output.name}: valid, {output.stat().st_size / 1024:.0f} KB")
    try_out(output)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("dist/piapi-mcp.mcpb"), help="default: %(default)s")
    output = parser.parse_args().output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    sys.exit(main(output))
