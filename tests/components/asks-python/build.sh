#!/bin/sh
# Makes $1 with componentize-py.
set -eu
exec "${COMPONENTIZE_PY:-componentize-py}" -d ../../../wit -w handler componentize -p . -p ../../../guest-sdk/sources/python app -o "$1"
