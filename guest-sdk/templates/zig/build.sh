#!/bin/sh
# Makes the core module my-module.wasm with $ZIG, or with a compiler of its own in .venv where Python has none;
# `sandbar build` makes a component of it.
set -eu
if [ -z "${ZIG:-}" ]; then
  python=python3
  if ! python3 -c 'import ziglang' 2>/dev/null; then
    python=.venv/bin/python
    [ -x "$python" ] || python3 -m venv .venv
    "$python" -c 'import ziglang' 2>/dev/null || "$python" -m pip install --quiet --disable-pip-version-check ziglang==0.17.0
  fi
  ZIG="$python -m ziglang"
fi
mkdir -p .zig-cache
$ZIG translate-c -target wasm32-wasi -lc -I . sandbar/sandbar.h > .zig-cache/sandbar.zig
exec $ZIG build-exe -target wasm32-wasi -O ReleaseSmall -fno-entry -mexec-model=reactor -fstrip -lc --stack 65536 \
  -I . -cflags -Os -- sandbar/handler.c sandbar/sandbar.c \
  --dep sandbar -Mroot=handler.zig -Msandbar=.zig-cache/sandbar.zig -femit-bin=my-module.wasm
