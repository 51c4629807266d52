#!/usr/bin/env bash
# Runs the tests with the lowest versions of the direct dependencies that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf .lowest
python3 -m venv .lowest || .venv/bin/python -m virtualenv --quiet .lowest
.lowest/bin/python -m pip install --quiet uv
.lowest/bin/uv pip install --quiet --python .lowest/bin/python --resolution lowest-direct --editable '.[test]'
.lowest/bin/python -m pytest "$@"
