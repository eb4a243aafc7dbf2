#!/bin/bash
# Runs a script as root in the lab, and ends as it does: boot.sh SCRIPT BINARY [SECONDS]. BINARY is the host under test.
set -euo pipefail

LAB=${SANDBAR_CACHE:-$HOME/.cache/sandbar}/lab
LAB=$(realpath "$LAB")
script=$(realpath "$1")
binary=$(realpath "$2")
seconds=${3:-240}
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# Without `no_timer_check` a machine that is busy fails the kernel's test of its clock.
options=(console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off nokaslr tsc=unstable no_timer_check
  "lab_folder=$LAB" "lab_script=$script" "lab_binary=$binary")
timeout --kill-after=5 "$seconds" qemu-system-x86_64 \
  -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nodefaults -no-reboot -display none -serial stdio \
  -kernel "$LAB/kernel/boot/vmlinuz-$(cat "$LAB/release")" -initrd "$LAB/initrd.gz" -append "${options[*]}" \
  -fsdev local,id=files,path=/,security_model=none,readonly=on,multidevs=remap \
  -device virtio-9p-pci,fsdev=files,mount_tag=files </dev/null | tee "$said"
ended=$(sed -n 's/\r$//; s/^LAB-ENDED //p' "$said" | tail -n1)
[ -n "$ended" ] || { echo "lab: it did not come to its end within $seconds s" >&2; exit 1; }
exit "$ended"
