#!/bin/sh
# Makes my-module.wasm with componentize-dotnet.
set -eu
platform=linux dotnet build -c Release
cp "$(find bin/Release -name my-module.wasm -path '*wasi-wasm*' | head -n 1)" my-module.wasm
