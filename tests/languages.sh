#!/bin/bash
# Builds the template of every language, which do the same, and prints what a call of each costs. TypeScript is
# JavaScript by then.
#
#   tests/languages.sh SANDBAR [CALL_COST]
#
# SANDBAR: the binary; CALL_COST: that of the example of the runtime's which measures, if it is built already. The
# compilers are those that `make guests` keeps in SANDBAR_CACHE; what measures is built with the machine's own.
set -euo pipefail

SANDBAR=$(realpath "$1")
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${SANDBAR_CACHE:-$HOME/.cache/sandbar}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

TOOLS=$CACHE/guest-tools/python/bin
compilers=(
  COMPONENTIZE_PY="$TOOLS/componentize-py"
  CC="$TOOLS/python -m ziglang cc"
  ZIG="$TOOLS/python -m ziglang"
  ZIG_GLOBAL_CACHE_DIR="$CACHE/zig"
)
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib" ]; then
  compilers+=(RUSTC="$CACHE/guest-rust/rustc")
fi

components=()
for language in rust c zig javascript python; do
  folder=$WORK/$language
  "$SANDBAR" new "$folder" --lang "$language" >/dev/null
  ln -s "$CACHE/componentize-qjs/node_modules" "$folder/node_modules"
  mkdir -p "$CACHE/new-target"
  ln -s "$CACHE/new-target" "$folder/target"
  env "${compilers[@]}" "$SANDBAR" build "$folder" >&2
  made=$folder/$(sed -n 's/^file = "\(.*\)"/\1/p' "$folder/module.toml")
  # What is a component already is refused, and stays.
  "$SANDBAR" componentize "$made" --out "$WORK/$language.wasm" >/dev/null 2>&1 || cp "$made" "$WORK/$language.wasm"
  components+=("$WORK/$language.wasm")
done
"$SANDBAR" new "$WORK/script" --lang script >/dev/null
cp "$WORK/script/handler.js" "$WORK/script.js"
components+=("$WORK/script.js")
cd "$ROOT"
${2:-cargo run --quiet --release --locked --package sandbar-runtime --example call_cost --} "${components[@]}"
