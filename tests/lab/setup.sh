#!/bin/bash
# Makes the lab: a Debian kernel that QEMU boots in software emulation, over this machine's own files, so that what is
# built here meets devices and faults that this machine's kernel has not. Quick when all is there.
#
#   tests/lab/setup.sh      ends with 3 where the emulator is not to be had
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=${SANDBAR_CACHE:-$HOME/.cache/sandbar}/lab
# Google's Bluetooth stack: a controller without hardware.
BUMBLE=0.0.236
# What the kernel needs to reach this machine's files.
MODULES=(virtio_pci 9pnet_virtio 9p overlay)
NEEDED=(qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio depmod:kmod bluetoothctl:bluez)

say() { echo "lab: $*" >&2; }
cannot() { say "$*"; exit 3; }

missing() {
  for pair in "${NEEDED[@]}"; do command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"; done
}

install_emulator() {
  mapfile -t packages < <(missing)
  [ ${#packages[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || cannot "needs root to install ${packages[*]}"
  command -v apt-get >/dev/null || cannot "needs ${packages[*]}, which only Debian's packages are known of here"
  say "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update || say "the package lists could not be refreshed"
  apt-get -qq install --yes --no-install-recommends "${packages[@]}" >&2 || cannot "${packages[*]} cannot be installed"
}

# The kernel's package, taken apart; it is not installed.
fetch_kernel() {
  local package work
  [ ! -f "$LAB/release" ] || return 0
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
  [ -n "$package" ] || { apt-get -qq update; package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1); }
  [ -n "$package" ] || cannot "there is no package linux-image-amd64"
  say "fetching $package"
  work=$(mktemp -d)
  # As whoever owns the folder: apt's own user cannot write there.
  (cd "$work" && apt-get -qq download -o APT::Sandbox::User=root "$package") || cannot "$package cannot be fetched"
  rm -rf "$LAB/kernel"
  mkdir -p "$LAB/kernel"
  dpkg-deb -x "$work/$package"_*.deb "$LAB/kernel"
  rm -rf "$work"
  depmod -b "$LAB/kernel" "${package#linux-image-}"
  echo "${package#linux-image-}" >"$LAB/release"
}

# What the kernel starts with: enough to find this machine's files.
make_initrd() {
  local release root module file
  release=$(cat "$LAB/release")
  [ "$LAB/initrd.gz" -nt "$HERE/init" ] && [ "$LAB/initrd.gz" -nt "$LAB/release" ] && return 0
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,dev,lib/modules,mnt,new,proc,sys,up}
  cp "$(command -v busybox)" "$root/bin/busybox"
  install -m 755 "$HERE/init" "$root/init"
  for module in "${MODULES[@]}"; do
    modprobe -d "$LAB/kernel" -S "$release" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$root/lib/modules/"
    basename "$file" >>"$root/lib/modules/order"
  done
  (cd "$root" && find . | cpio --quiet -o -H newc | gzip >"$LAB/initrd.gz.new")
  mv "$LAB/initrd.gz.new" "$LAB/initrd.gz"
  rm -rf "$root"
}

install_bumble() {
  [ "$(cat "$LAB/python/.installed" 2>/dev/null)" != "$BUMBLE" ] || return 0
  say "installing bumble $BUMBLE"
  python3 -m venv "$LAB/python"
  "$LAB/python/bin/pip" install --quiet --disable-pip-version-check "bumble==$BUMBLE" >&2
  echo "$BUMBLE" >"$LAB/python/.installed"
}

mkdir -p "$LAB"
[ "$(uname -m)" = x86_64 ] || cannot "the lab's kernel is for x86_64, this machine is $(uname -m)"
install_emulator
fetch_kernel
make_initrd
install_bumble
