#!/bin/sh
# Makes the core module my-module.wasm; `sandbar build` makes a component of it.
set -eu
[ -d gen ] || wit-bindgen moonbit wit --world handler --derive-eq --derive-show --ignore-stub
cp handler.mbt gen/world/handler/stub.mbt
moon build --target wasm --release
cp target/wasm/release/build/gen/gen.wasm my-module.wasm
