#!/bin/sh
# Makes the core module $1 with $CC.
set -eu
sdk=../../../guest-sdk/sources/c
exec ${CC:-python3 -m ziglang cc} -target wasm32-wasi -mexec-model=reactor -Os -s -Wall -Wextra -Wl,-z,stack-size=65536 \
  -I "$sdk" handler.c "$sdk/handler.c" "$sdk/sandbar.c" -o "$1"
