#!/bin/bash
# Installs what is missing on Debian and Ubuntu, and says what it cannot install. Quick when all is there.
#
#   tests/setup.sh build     what building and running takes
#   tests/setup.sh test      that, and the peers that the tests use (default)
#   tests/setup.sh bench     that, and a broker to compare with, which takes minutes to build
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${SANDBAR_CACHE:-$HOME/.cache/sandbar}
WHAT=${1:-test}
# Peers written in Python, each in its version.
PYTHON_PEERS=(schemathesis==4.32.5 websockets==17.4 paho-mqtt==2.2.0 aiosmtpd==1.4.6 line-protocol-parser==2.0.1
  pymodbus==3.16.1 pyserial==3.5 aiocoap==0.4.17 mqtt-sn-12==1.0.9 cryptography==50.0.2)
AUTOBAHN=0.8.2
MQTT_JS=5.16.0
RUMQTTD=0.20.0
NODE_MIN=20

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# A command and the package it comes from.
BUILD=(cc:build-essential make:make pkg-config:pkg-config curl:curl node:nodejs npm:npm)
TEST=(jq:jq python3:python3 wrk:wrk h2load:nghttp2-client slowhttptest:slowhttptest strace:strace
  coap-client-openssl:libcoap3-bin swaks:swaks msmtp:msmtp mosquitto_pub:mosquitto-clients openssl:openssl docker-registry:docker-registry nc:netcat-openbsd socat:socat
  rsync:rsync logrotate:logrotate vi:vim-tiny unshare:util-linux prlimit:util-linux mount:mount
  dbus-daemon:dbus-daemon ffmpeg:ffmpeg)

# The servers that sinks are tested against; their tests start them, on free ports.
DATA=(psql:postgresql mariadbd:mariadb-server-core mariadb:mariadb-client-core mariadb-install-db:mariadb-server-core
  redis-server:redis-server redis-cli:redis-tools sqlite3:sqlite3 setpriv:util-linux)
# gRPC's Python implementation, MongoDB's library for servers that tests talk to, and what OpenTelemetry itself reads.
DATA_PYTHON=(grpcio==1.85.1 protobuf==7.36.2 opentelemetry-proto==1.45.2 mockupdb==1.8.1 pymongo==3.13.0)

# The packages of $@ whose command is not there.
missing() {
  for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"; done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    command -v sudo >/dev/null || fail "needs root for: $*"
    sudo "$@"
  fi
}

install_packages() {
  [ $# -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "install these, in the words of your system's packages: $*"
  say "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update || say "the package lists could not be refreshed"
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install --yes --no-install-recommends "$@" >&2
}

# Whether version $1 is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

check_rust() {
  local wanted have
  wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml")
  local how="install Rust $wanted or newer: curl --proto '=https' -sSf https://sh.rustup.rs | sh, then open a new shell"
  if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    if [ -f "$HOME/.cargo/env" ]; then
      fail "Rust is installed and not on the PATH: run '. $HOME/.cargo/env'"
    fi
    fail "there is no Rust: $how"
  fi
  have=$(rustc --version | cut -d' ' -f2)
  at_least "$have" "$wanted" || fail "Rust $have is too old: 'rustup update stable', or $how"
  if [ "$WANT_TESTS" = yes ]; then
    cargo fmt --version >/dev/null 2>&1 || fail "cargo fmt is missing: rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || fail "cargo clippy is missing: rustup component add clippy"
  fi
}

check_node() {
  local have
  have=$(node -p process.versions.node)
  at_least "$have" "$NODE_MIN" || fail "node $have is too old to build the JavaScript module: install $NODE_MIN or newer"
}

# Debian keeps it off the path.
has_postgresql() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }

install_data_peers() {
  local venv=$CACHE/peers
  has_postgresql || install_packages postgresql
  if [ "$(cat "$venv/.data" 2>/dev/null)" = "${DATA_PYTHON[*]}" ]; then return; fi
  say "installing ${DATA_PYTHON[*]} into $venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${DATA_PYTHON[@]}" >&2
  echo "${DATA_PYTHON[*]}" >"$venv/.data"
}

# Peers written in Python, in an environment of their own.
install_python_peers() {
  local venv=$CACHE/peers
  if [ "$(cat "$venv/.installed" 2>/dev/null)" = "${PYTHON_PEERS[*]}" ]; then return; fi
  say "installing ${PYTHON_PEERS[*]} into $venv"
  [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${PYTHON_PEERS[@]}" >&2
  echo "${PYTHON_PEERS[*]}" >"$venv/.installed"
}

# gpsd comes with a service that nobody here needs: the tests start their own, by gpsfake.
install_gpsd() {
  if command -v gpsfake >/dev/null && [ -x /usr/sbin/gpsd ] && python3 -c 'import gps' 2>/dev/null; then return; fi
  install_packages gpsd gpsd-clients python3-gps
  as_root systemctl disable --now gpsd.socket gpsd.service >/dev/null 2>&1 || true
}

# What swaks needs for TLS and logins: it says so only when it is asked for them.
install_perl_modules() {
  perl -MNet::SSLeay -MAuthen::SASL -e1 2>/dev/null || install_packages libnet-ssleay-perl libauthen-sasl-perl
}

# Python 2.7, which Autobahn's test suite is written in: one that is there, or built in two minutes.
python27() {
  local python prefix=$CACHE/python2.7
  for python in "$(command -v python2.7 || true)" "$HOME"/.pyenv/versions/2.7*/bin/python2.7 "$prefix/bin/python2.7"; do
    if [ -n "$python" ] && "$python" -m pip --version >/dev/null 2>&1; then
      echo "$python"
      return
    fi
  done
  install_packages build-essential curl xz-utils zlib1g-dev libffi-dev libssl-dev
  say "building Python 2.7 into $prefix"
  local source
  source=$(mktemp -d)
  curl -sSfL https://www.python.org/ftp/python/2.7.18/Python-2.7.18.tar.xz | tar -xJ -C "$source" --strip-components=1
  (cd "$source" && ./configure --quiet --prefix="$prefix" --with-ensurepip=install && make -s -j"$(nproc)" && make -s install) >&2
  rm -rf "$source"
  echo "$prefix/bin/python2.7"
}

# Autobahn's fuzzing client for WebSocket servers, as the program `wstest`.
install_autobahn() {
  local place=$CACHE/autobahn python
  if [ "$(cat "$place/.installed" 2>/dev/null)" = "$AUTOBAHN" ]; then return; fi
  python=$(python27)
  say "installing autobahntestsuite $AUTOBAHN into $place"
  rm -rf "$place"
  "$python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location \
    --target "$place/packages" "autobahntestsuite==$AUTOBAHN" >&2
  # Its packages share name spaces, which only a site folder brings together.
  printf '#!/bin/sh\nexec "%s" -W ignore -c "import site; site.addsitedir(\x27%s\x27); from autobahntestsuite.wstest import run; run()" "$@"\n' \
    "$python" "$place/packages" >"$place/wstest"
  chmod +x "$place/wstest"
  echo "$AUTOBAHN" >"$place/.installed"
}

# Peers written in JavaScript, beside them.
install_node_peers() {
  local folder=$CACHE/peers/node wanted="mqtt@$MQTT_JS"
  if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$wanted" ]; then return; fi
  say "installing $wanted into $folder"
  rm -rf "$folder"
  mkdir -p "$folder"
  npm install --silent --no-audit --no-fund --prefix "$folder" "$wanted" >&2
  echo "$wanted" >"$folder/.installed"
}

# The broker comes with a service that nobody here needs; the tests start their own.
install_mosquitto() {
  if [ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null; then return; fi
  install_packages mosquitto
  as_root systemctl disable --now mosquitto >/dev/null 2>&1 || true
}

# Only for the benchmark: nothing of ours depends on it.
install_rumqttd() {
  local place=$CACHE/peers
  if [ "$(cat "$place/.rumqttd" 2>/dev/null)" = "$RUMQTTD" ]; then return; fi
  say "building rumqttd $RUMQTTD into $place (minutes, once)"
  # Its own lock file names a version of `metrics` that compilers refuse today.
  CARGO_TARGET_DIR=$CACHE/rumqttd-build cargo install --quiet "rumqttd@$RUMQTTD" --no-default-features --root "$place" >&2
  rm -rf "$CACHE/rumqttd-build"
  echo "$RUMQTTD" >"$place/.rumqttd"
}

# BlueZ's D-Bus without a radio. PyPI's does not build; Debian's is for Debian's Python.
install_dbusmock() {
  /usr/bin/python3 -c 'import dbusmock' 2>/dev/null || install_packages python3-dbusmock
}

# A web server with passwords and TLS. It comes with a service that nobody here needs; the tests start their own.
install_lighttpd() {
  if [ -x /usr/sbin/lighttpd ] && compgen -G '/usr/lib/lighttpd/mod_openssl.so' >/dev/null; then return; fi
  install_packages lighttpd lighttpd-mod-openssl
  as_root systemctl disable --now lighttpd >/dev/null 2>&1 || true
}

case $WHAT in
  build) WANT_TESTS=no; needed=("${BUILD[@]}") ;;
  test | bench) WANT_TESTS=yes; needed=("${BUILD[@]}" "${TEST[@]}" "${DATA[@]}") ;;
  *) fail "what is '$WHAT'? say build, test or bench" ;;
esac

mkdir -p "$CACHE"
mapfile -t packages < <(missing "${needed[@]}")
install_packages "${packages[@]}"
mapfile -t packages < <(missing "${needed[@]}")
[ ${#packages[@]} = 0 ] || fail "still missing after the installation: ${packages[*]}"
check_rust
check_node
if [ "$WANT_TESTS" = yes ]; then
  # Also for the compilers of the guests in Python, C and Zig.
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
  install_perl_modules
  install_mosquitto
  install_gpsd
  install_dbusmock
  install_lighttpd
  install_python_peers
  install_node_peers
  install_autobahn
  install_data_peers
fi
[ "$WHAT" != bench ] || install_rumqttd
