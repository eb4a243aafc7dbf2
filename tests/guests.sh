#!/bin/bash
# Builds every example module and every test component from its text: OUT_DIR/*.wasm.
#
#   tests/guests.sh [OUT_DIR [run]]  default: $SANDBAR_CACHE/guests; `run` leaves out what only the tests need:
#                                    the compilers of Python, C and Zig are 500 MB
#
# SANDBAR_CACHE (default ~/.cache/sandbar) keeps what is slow to get: a Rust compiler for wasm, the compilers of
# the other languages, the objects of the last build. Nothing needs root. A second run returns at once
# unless something the components are made of has changed; two runs at once wait for each other.
# CI or SANDBAR_OFFLINE, when set, keep rustup from being asked for a target it does not have yet;
# SANDBAR_GUEST_RUST=debian takes Debian's compiler in any case, to try that way where rustup has the target.
set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${SANDBAR_CACHE:-$HOME/.cache/sandbar}
OUT=$(realpath -m "${1:-$CACHE/guests}")
PART=${2:-all}
TARGET=wasm32-unknown-unknown

say() { echo "guests: $*" >&2; }
fail() { say "$*"; exit 1; }

# One line that changes when anything the components are made of does.
inputs() {
  (
    cd "$ROOT"
    find wit guest-sdk example-modules tests/components tests/guests.sh -type f \
      ! -path '*/target/*' ! -path '*/node_modules/*' ! -path '*/__pycache__/*' ! -path '*/templates/*' \
      ! -name '*.md' ! -name '*.jsonl' ! -name 'module.toml' -print0 |
      LC_ALL=C sort -z | xargs -0 sha256sum
  ) | sha256sum | cut -d' ' -f1
}

# True when OUT holds what these inputs made. The stamp's first line is their hash, the others are the files.
is_fresh() {
  [ -f "$OUT/.stamp" ] || return 1
  { read -r made && mapfile -t files; } <"$OUT/.stamp"
  # All of them are also those that running takes.
  [ "$made" = "$1 $PART" ] || [ "$made" = "$1 all" ] || return 1
  for file in "${files[@]}"; do [ -f "$OUT/$file" ] || return 1; done
}

# ---- a Rust compiler for wasm ------------------------------------------------------------------------------

# Prints nothing when the installed compiler can build for wasm, else the path of one that can.
wasm_rustc() {
  local sysroot
  command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs"
  sysroot=$(rustc --print sysroot)
  if [ "${SANDBAR_GUEST_RUST:-}" != debian ] && [ -d "$sysroot/lib/rustlib/$TARGET/lib" ]; then return; fi
  if [ -x "$CACHE/guest-rust/rustc" ]; then echo "$CACHE/guest-rust/rustc"; return; fi
  if [ -z "${CI:-}${SANDBAR_OFFLINE:-}${SANDBAR_GUEST_RUST:-}" ] && command -v rustup >/dev/null &&
    timeout 30 rustup target add "$TARGET" >/dev/null 2>&1; then return; fi
  build_toolchain "$sysroot"
  echo "$CACHE/guest-rust/rustc"
}

# apt-get and apt-cache; with lists of our own where the machine's are missing or name packages that are gone.
APT=()
refresh_lists() {
  local lists=$CACHE/apt
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
  APT=(-o "Dir::State::lists=$lists/lists" -o "Dir::Cache=$lists/cache" -o "APT::Sandbox::User=")
  say "reading the package lists"
  apt-get "${APT[@]}" -qq update >&2
}

# The versions of Debian's compiler that have their text beside them, newest first.
archive_versions() {
  comm -12 <(apt-cache "${APT[@]}" madison rustc-web | cut -d'|' -f2 | tr -d ' ' | sort -u) \
    <(apt-cache "${APT[@]}" madison rust-web-src | cut -d'|' -f2 | tr -d ' ' | sort -u) | sort -rV
}

# What `package=version` depends on, one name a line.
dependencies() {
  apt-cache "${APT[@]}" show --no-all-versions "$1" | sed -n 's/^Depends: //p' | tr ',' '\n' | sed 's/^ *//; s/ .*//'
}

# Debian's compiler of version $2 unpacked at $1: the compiler, its libraries, and the text of `library/`.
# This and build_std may fail and be asked again: there `set -e` is off, so every step says what it needs.
unpack_compiler() {
  local dir=$1 version=$2 series llvm package
  series=$(cut -d. -f1,2 <<<"$version")
  llvm=$(dependencies "libstd-rust-web-$series=$version" | grep '^libllvm' || true)
  mkdir -p "$dir/debs"
  # apt drops its rights while it downloads, and then cannot write here: harmless, and said at length.
  (cd "$dir/debs" && apt-get "${APT[@]}" -qq download "rustc-web=$version" "libstd-rust-web-$series=$version" \
    "libstd-rust-web-dev=$version" "rust-web-src=$version" $llvm) 2>"$dir/apt.log" || return 1
  for package in "$dir"/debs/*.deb; do
    case $package in
      # 340 MB of text, of which the standard library is a small part.
      */rust-web-src_*) dpkg-deb --fsys-tarfile "$package" | tar -x -C "$dir" --wildcards './usr/src/*/library' || return 1 ;;
      *) dpkg-deb -x "$package" "$dir" || return 1 ;;
    esac
  done
  rm -rf "$dir/debs"
}

# Builds the standard library for wasm with the compiler at $1 and installs it there, as `rustup target add`
# would. Cargo's own switch for that is unstable; RUSTC_BOOTSTRAP unlocks it for this one build.
build_std() {
  local dir=$1 crate=$1/std-build
  mkdir -p "$crate/src"
  : >"$crate/src/lib.rs"
  printf '[package]\nname = "empty"\nedition = "2021"\n[workspace]\n[lib]\n' >"$crate/Cargo.toml"
  (
    cd "$crate" || exit 1
    unset CARGO_TARGET_DIR CARGO_BUILD_TARGET
    RUSTC=$dir/rustc RUSTC_BOOTSTRAP=1 \
      CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f%s\x1f%s' -Cembed-bitcode=yes \
        "--remap-path-prefix=$dir/usr/lib/rustlib/src/rust=/rust" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo") \
      cargo build --quiet --release -Zbuild-std=std,panic_abort --target "$TARGET"
  ) >&2 || return 1
  mkdir -p "$dir/usr/lib/rustlib/$TARGET/lib"
  cp "$crate/target/$TARGET/release/deps/"*.rlib "$dir/usr/lib/rustlib/$TARGET/lib/" || return 1
  rm -rf "$crate" "$dir/usr/lib/rustlib/$TARGET/lib/"libempty-*
}

# Makes $CACHE/guest-rust, whole or not at all. $1: the sysroot whose linkers are borrowed.
build_toolchain() {
  local linkers host dir=$CACHE/guest-rust.partial version text
  host=$(rustc -vV | sed -n 's/^host: //p')
  linkers=$1/lib/rustlib/$host/bin
  [ -x "$linkers/wasm-component-ld" ] || fail "no $linkers/wasm-component-ld: install Rust from https://rustup.rs"
  command -v apt-cache >/dev/null ||
    fail "no Rust for wasm here: run 'rustup target add $TARGET' where rustup's servers can be reached"
  [ -n "$(archive_versions)" ] || refresh_lists
  for attempt in 1 2; do
    for version in $(archive_versions); do
      say "unpacking Debian's Rust $version into $CACHE/guest-rust (about 140 MB, once)"
      rm -rf "$dir"
      unpack_compiler "$dir" "$version" || { say "version $version cannot be downloaded"; continue; }
      text=$(cd "$dir" && echo usr/src/*/library)
      mkdir -p "$dir/usr/lib/rustlib/src" "$dir/usr/lib/rustlib/$host"
      ln -sfn "../../../../${text%/library}" "$dir/usr/lib/rustlib/src/rust"
      rm -rf "$dir/usr/lib/rustlib/$host/bin"
      ln -sfn "$linkers" "$dir/usr/lib/rustlib/$host/bin"
      cat >"$dir/rustc" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
for lib in "$here"/usr/lib/*-linux-gnu*; do LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; done
LD_LIBRARY_PATH=$LD_LIBRARY_PATH exec "$here/usr/bin/rustc" "$@"
WRAPPER
      chmod +x "$dir/rustc"
      say "building the standard library for wasm (a minute, once)"
      build_std "$dir" || { say "version $version cannot build it"; continue; }
      rm -rf "$CACHE/guest-rust"
      mv "$dir" "$CACHE/guest-rust"
      return
    done
    # The lists may be older than the archive: once more with fresh ones.
    [ "$attempt" = 2 ] || refresh_lists
  done
  cat "$dir/apt.log" >&2 2>/dev/null || true
  fail "no version of Debian's rustc-web could be made to build for wasm"
}

# ---- the components ----------------------------------------------------------------------------------------

# Builds the guests' workspace and copies its components to $1.
build_rust() {
  local rustc target_dir=$CACHE/guest-target
  rustc=$(wasm_rustc)
  if [ -n "$rustc" ]; then
    # Its linkers are those of the toolchain that was installed then; that one may have been replaced.
    ln -sfn "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin" \
      "${rustc%/rustc}/usr/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin"
    export RUSTC=$rustc
  fi
  say "building the Rust modules with $(${RUSTC:-rustc} --version)"
  # From there, because cargo looks for .cargo/config.toml where it is started. The paths of this machine are
  # kept out of the components: one compiler, one text, the same bytes.
  (
    cd "$ROOT/example-modules"
    unset CARGO_BUILD_TARGET RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    CARGO_TARGET_DIR=$target_dir cargo build --quiet --release --locked --workspace --target "$TARGET" \
      --config "target.$TARGET.rustflags=['--remap-path-prefix=$ROOT=/sandbar','--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo']"
  )
  for crate in "$ROOT"/example-modules/*/Cargo.toml "$ROOT"/tests/components/*/Cargo.toml; do
    name=$(basename "$(dirname "$crate")")
    cp "$target_dir/$TARGET/release/${name//-/_}.wasm" "$1/$name.wasm"
  done
}

# Installs the compilers of the JavaScript modules that guest-sdk/js pins, and says where they are.
js_tools() {
  local tool=$CACHE/componentize-qjs
  command -v node >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] ||
    fail "the JavaScript modules need node 20 or newer"
  if ! cmp -s "$ROOT/guest-sdk/js/package-lock.json" "$tool/installed"; then
    say "installing componentize-qjs and esbuild into $tool"
    mkdir -p "$tool"
    cp "$ROOT"/guest-sdk/js/package*.json "$tool/"
    # Not `npm ci`: that fails where a registry lacks the binaries of some other platform.
    (cd "$tool" && npm install --no-audit --no-fund --loglevel=error) >&2
    cp "$ROOT/guest-sdk/js/package-lock.json" "$tool/installed"
  fi
  echo "$tool/node_modules/.bin"
}

# Installs the compilers that PyPI has, for Python, C and Zig, and says where they are.
python_tools() {
  local tool=$CACHE/guest-tools/python wanted="componentize-py==0.25.1 ziglang==0.17.0"
  if [ "$(cat "$tool/.installed" 2>/dev/null)" != "$wanted" ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || fail "the Python, C and Zig modules need python3 with venv"
    say "installing $wanted into $tool"
    rm -rf "$tool"
    python3 -m venv "$tool"
    # shellcheck disable=SC2086
    "$tool/bin/pip" install --quiet --disable-pip-version-check $wanted >&2
    echo "$wanted" >"$tool/.installed"
  fi
  echo "$tool/bin"
}

# Builds the JavaScript and TypeScript modules into $1, and the one that runs scripts.
build_js() {
  local tools source name
  tools=$(js_tools)
  # What scripts are parsed with, as one text.
  "$tools/esbuild" "$tools/../acorn/dist/acorn.mjs" --bundle --minify --format=iife --global-name=acorn \
    --log-level=warning --outfile="$1/acorn.txt"
  for source in "$ROOT"/example-modules/*/handler.[jt]s "$ROOT"/tests/components/*/handler.js "$ROOT/guest-sdk/script/handler.js"; do
    name=$(basename "$(dirname "$source")")
    say "building $name with QuickJS"
    PATH=$tools:$PATH node "$ROOT/guest-sdk/sources/js/build.mjs" "$source" "$1/$name.wasm" "$ROOT/wit" \
      "--alias:acorn-text=$1/acorn.txt"
  done
}

# Where the texts of WASI's interfaces are: with the host's own implementation of them.
wasi_wit() {
  local manifest
  manifest=$(cargo metadata --format-version 1 --locked --manifest-path "$ROOT/Cargo.toml" |
    node -p 'JSON.parse(require("fs").readFileSync(0)).packages.find((it) => it.name === "wasmtime-wasi-http").manifest_path')
  echo "$(dirname "$manifest")/wit"
}

# Builds the Python, C and Zig modules into $1. Those of C and Zig are core modules: `sandbar` makes components of
# them where it reads them.
build_others() {
  local tools folder name
  tools=$(python_tools)
  export ZIG_GLOBAL_CACHE_DIR=$CACHE/zig ZIG_LOCAL_CACHE_DIR=$CACHE/zig
  export COMPONENTIZE_PY=$tools/componentize-py CC="$tools/python -m ziglang cc" ZIG="$tools/python -m ziglang"
  WASI_WIT=$(wasi_wit)
  export WASI_WIT
  for folder in "$ROOT"/example-modules/*/build.sh "$ROOT"/tests/components/*/build.sh; do
    folder=$(dirname "$folder")
    name=$(basename "$folder")
    say "building $name"
    (cd "$folder" && sh build.sh "$1/$name.wasm") >&2
  done
}

mkdir -p "$OUT" "$CACHE"
hash=$(inputs)
if is_fresh "$hash"; then exit 0; fi

# One build at a time in one cache: the toolchains and the objects are shared.
exec 9>"$CACHE/guests.lock"
flock -n 9 || { say "waiting for another build"; flock 9; }
hash=$(inputs)
if is_fresh "$hash"; then exit 0; fi

made=$(mktemp -d "$OUT/.made.XXXXXX")
trap 'rm -rf "$made"' EXIT
build_rust "$made"
build_js "$made"
[ "$PART" = run ] || build_others "$made"
# Each file is replaced in one step: whoever reads the old one keeps it. The stamp comes last.
rm -f "$OUT/.stamp"
(cd "$made" && ls -- *.wasm) >"$made/.files"
mv "$made"/*.wasm "$OUT/"
{ echo "$hash $PART"; cat "$made/.files"; } >"$made/.stamp"
mv "$made/.stamp" "$OUT/.stamp"
ls -l "$OUT"/*.wasm | awk '{ printf "guests: %8d  %s\n", $5, $9 }' >&2
