#!/bin/bash
# Runs one stage of a longer job, and says its name before and how long it took after: stage.sh NAME COMMAND…
set -euo pipefail

name=$1
shift
echo "==== $name"
start=$SECONDS
if "$@"; then
  echo "==== $name: done in $((SECONDS - start)) s"
else
  code=$?
  echo "==== $name: FAILED ($code) after $((SECONDS - start)) s" >&2
  exit "$code"
fi
