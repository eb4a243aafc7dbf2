#!/bin/sh
# Makes the core module my-module.wasm with $CC, which must have wasm32-wasi as a target, or with Zig's compiler.
# `sandbar build` makes a component of it.
set -eu
CC=${CC:-python3 -m ziglang cc}
exec $CC -target wasm32-wasi -mexec-model=reactor -Os -s -Wall -Wextra -Wl,-z,stack-size=65536 \
  -I . handler.c sandbar/handler.c sandbar/sandbar.c -o my-module.wasm
