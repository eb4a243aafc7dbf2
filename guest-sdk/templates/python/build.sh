#!/bin/sh
# Makes my-module.wasm with componentize-py: $COMPONENTIZE_PY, or its own in .venv.
set -eu
tool=${COMPONENTIZE_PY:-.venv/bin/componentize-py}
if ! command -v "$tool" >/dev/null; then
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check componentize-py==0.25.1
fi
exec "$tool" -d wit -w handler componentize app -o my-module.wasm
