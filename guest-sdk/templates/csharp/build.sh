#!/bin/sh
# Makes my-module.wasm with componentize-dotnet.
set -eu
dotnet publish -c Release
cp bin/Release/net10.0/wasi-wasm/publish/my-module.wasm my-module.wasm
