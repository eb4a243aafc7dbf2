#!/bin/sh
# Makes the core module my-module.wasm with $ZIG; `sandbar build` makes a component of it.
set -eu
ZIG=${ZIG:-python3 -m ziglang}
mkdir -p .zig-cache
$ZIG translate-c -target wasm32-wasi -lc -I . sandbar/sandbar.h > .zig-cache/sandbar.zig
exec $ZIG build-exe -target wasm32-wasi -O ReleaseSmall -fno-entry -mexec-model=reactor -fstrip -lc --stack 65536 \
  -I . -cflags -Os -- sandbar/handler.c sandbar/sandbar.c \
  --dep sandbar -Mroot=handler.zig -Msandbar=.zig-cache/sandbar.zig -femit-bin=my-module.wasm
