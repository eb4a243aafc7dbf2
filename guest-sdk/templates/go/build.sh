#!/bin/sh
# Makes the core module my-module.wasm; `sandbar build` makes a component of it.
set -eu
[ -d gen ] || wit-bindgen go wit --world handler --out-dir gen
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o my-module.wasm .
