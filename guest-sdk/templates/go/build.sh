#!/bin/sh
# Makes the core module my-module.wasm; `sandbar build` makes a component of it. gen/ is a Go module of its own, which
# wit-bindgen makes of wit/.
set -eu
[ -d gen ] || wit-bindgen go wit --world handler --out-dir gen
mkdir -p gen/export_wit_world
cp handler.go gen/export_wit_world/
cd gen
[ -f go.sum ] || go mod tidy
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w -checklinkname=0' -o ../my-module.wasm
