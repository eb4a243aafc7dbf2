#!/bin/sh
# Makes the component my-module.wasm. MoonBit's texts are UTF-16, which a core module does not tell.
set -eu
[ -d gen ] || wit-bindgen moonbit wit --world handler --derive-eq --derive-show --project-name sandbar/handler --out-dir .
cp handler.mbt gen/world/handler/stub.mbt
cp handler.pkg gen/world/handler/moon.pkg
moon build --target wasm --release
core=$(find _build target -path '*wasm/release/build/gen/gen.wasm' 2>/dev/null | head -n 1)
sandbar componentize --utf16 "$core" --out my-module.wasm
