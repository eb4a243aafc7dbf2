# What the scripts of the lab share. They run as root in the guest, with LAB and SANDBAR_BIN set; nothing of what they
# change outlives it.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
FOLDER=${FOLDER:-/run/sandbar}

# Text in one write: the console is shared.
say() { printf 'lab: %s\n' "$*"; }

fail() {
  say "FAILED: $*"
  tail -n 40 "$FOLDER/log" 2>/dev/null || true
  exit 1
}
trap 'fail "line $LINENO"' ERR

# Runs a host with the configuration on standard input; returns once it is ready.
start_host() {
  mkdir -p "$FOLDER"
  { printf '[api]\nlisten = "127.0.0.1:0"\n'; cat; } >"$FOLDER/sandbar.toml"
  run_host
}

# Runs it again with the configuration that there is.
run_host() {
  : >"$FOLDER/out"
  (cd "$FOLDER" && SANDBAR_LOG=info exec "$SANDBAR_BIN" run --config sandbar.toml >out 2>>log) &
  HOST=$!
  eventually 90 "the host is ready" grep -q '^sandbar: ready api=' "$FOLDER/out"
  API=$(sed -n 's/^sandbar: ready api=//p' "$FOLDER/out")
  API=${API%/}
  TOKEN=$(cat "$FOLDER/sandbar-data/token")
}

# An emulated processor is slow, and its machine may be busy: all waits are so many times as long as they say.
PATIENCE=4

# eventually SECONDS WHAT COMMAND…
eventually() {
  local until=$((SECONDS + $1 * PATIENCE)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || fail "not in time: $what"
    sleep 0.3
  done
  say "$what"
}

api() { curl -sSf -m 30 -H "Authorization: Bearer $TOKEN" "$API$1"; }

# The readings of an ingress, one a line, newest last.
readings() { api "/v1/readings?ingress=$1&limit=1000" | jq -c '.items | sort_by(.id)[]'; }

# has INGRESS COUNT: whether it has so many readings.
has() { [ "$(readings "$1" | wc -l)" -ge "$2" ]; }

# is INGRESS STATE: whether it is in that state.
is() { [ "$(api "/v1/ingresses/$1" | jq -r .status.state)" = "$2" ]; }

last_error() { api "/v1/ingresses/$1" | jq -r '.status.last_error.text // .status.last_error'; }

# Where an ingress listens: 127.0.0.1:40123.
address() { api "/v1/ingresses/$1" | jq -r .status.address; }
