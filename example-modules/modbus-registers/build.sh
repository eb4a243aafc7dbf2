#!/bin/sh
# Makes the core module $1 with $ZIG (`pip install ziglang==0.17.0`).
set -eu
ZIG=${ZIG:-python3 -m ziglang}
sdk=../../guest-sdk/sources/c
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
$ZIG translate-c -target wasm32-wasi -lc "$sdk/sandbar.h" >"$made/sandbar.zig"
$ZIG build-exe -target wasm32-wasi -O ReleaseSmall -fno-entry -mexec-model=reactor -fstrip -lc --stack 65536 \
  -cflags -Os -- "$sdk/handler.c" "$sdk/sandbar.c" \
  --dep sandbar -Mroot=handler.zig -Msandbar="$made/sandbar.zig" -femit-bin="$1"
