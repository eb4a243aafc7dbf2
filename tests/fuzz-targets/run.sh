#!/bin/bash
# Throws at every target what its coverage leads to (libFuzzer), one target after the other, and prints a line of each.
#
#   tests/fuzz-targets/run.sh [SECONDS [PATTERN]]   default: 60 a target; the targets whose names match, or all
#
# The stable compiler will do: coverage is a pass of LLVM, asked for as cargo-fuzz asks for it. Sanitizers, which need
# nightly, are left out: all that unsafe code here does is call the system. Whoever has cargo-fuzz may use that, too:
#
#   SANDBAR_FUZZ_TARGET='mqtt 5.0' cargo fuzz run --fuzz-dir tests/fuzz-targets target
#
# $SANDBAR_CACHE/fuzz (default ~/.cache/sandbar/fuzz) has what was built, and of each target its corpus, which the next
# run begins with, its log, and what it crashed at.
set -euo pipefail
shopt -s inherit_errexit

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${SANDBAR_CACHE:-$HOME/.cache/sandbar}/fuzz
SECONDS_EACH=${1:-60}
PATTERN=${2:-.}
HOST=$(rustc -vV | sed -n 's/^host: //p')
PROGRAM=$CACHE/target/$HOST/debug/target

FLAGS=(
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
)

build() {
  # The versions that the host is built of; cargo adds what only this needs.
  cp "$HERE/../../Cargo.lock" "$HERE/Cargo.lock"
  # With a target, flags are not for what runs while building.
  RUSTFLAGS="${FLAGS[*]}" CARGO_TARGET_DIR=$CACHE/target \
    cargo build --manifest-path "$HERE/Cargo.toml" --target "$HOST"
}

# The last number behind a word of libFuzzer's, or 0.
last() { sed -nE "s/.*$2 *([0-9]+).*/\1/p" "$1" | tail -1 | grep . || echo 0; }

# Fuzzes one target. False when something was found.
fuzz() {
  local name=$1 file=${1// /-} end='nothing found' code=0
  local log=$CACHE/$file.log corpus=$CACHE/corpus/$file crashes=$CACHE/crashes/$file
  mkdir -p "$corpus" "$crashes"
  SANDBAR_FUZZ_TARGET=$name "$PROGRAM" "$corpus" -max_total_time="$SECONDS_EACH" -timeout=10 \
    -print_final_stats=1 -artifact_prefix="$crashes/" >"$log" 2>&1 || code=$?
  if [ "$code" != 0 ]; then end="FOUND: see $log"; fi
  printf '%-30s %11d runs  %6d edges  %5d inputs  %s\n' \
    "$name" "$(last "$log" number_of_executed_units:)" "$(last "$log" 'cov:')" "$(find "$corpus" -type f | wc -l)" "$end"
  return "$code"
}

build
mapfile -t names < <("$PROGRAM" | grep -E -- "$PATTERN")
failed=0
for name in "${names[@]}"; do fuzz "$name" || failed=1; done
exit "$failed"
