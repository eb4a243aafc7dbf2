#!/bin/sh
# Makes the core module my-module.wasm with $CC, which must have wasm32-wasi as a target, or with Zig's compiler, of its
# own in .venv where Python has none. `sandbar build` makes a component of it.
set -eu
if [ -z "${CC:-}" ]; then
  python=python3
  if ! python3 -c 'import ziglang' 2>/dev/null; then
    python=.venv/bin/python
    [ -x "$python" ] || python3 -m venv .venv
    "$python" -c 'import ziglang' 2>/dev/null || "$python" -m pip install --quiet --disable-pip-version-check ziglang==0.17.0
  fi
  CC="$python -m ziglang cc"
fi
exec $CC -target wasm32-wasi -mexec-model=reactor -Os -s -Wall -Wextra -Wl,-z,stack-size=65536 \
  -I . handler.c sandbar/handler.c sandbar/sandbar.c -o my-module.wasm
