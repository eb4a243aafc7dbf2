#!/bin/sh
# Makes $1 with componentize-py: $COMPONENTIZE_PY, or the one on the PATH (`pip install componentize-py==0.25.1`).
set -eu
exec "${COMPONENTIZE_PY:-componentize-py}" -d ../../wit -w handler componentize -p . -p ../../guest-sdk/sources/python app -o "$1"
