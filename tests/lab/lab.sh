#!/bin/bash
# Runs the host in the lab, one boot a script.
#
#   tests/lab/lab.sh all BINARY      everything there is
#   tests/lab/lab.sh short BINARY    what CI has the time for; says so where the emulator is not to be had
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${1:-} in
  all) scripts=(ble camera serial disk) ;;
  short) scripts=(ble camera) ;;
  *) echo "lab: say all or short" >&2; exit 2 ;;
esac
binary=$2
[ -x "$binary" ] || { echo "lab: there is no $binary" >&2; exit 1; }

"$HERE/setup.sh" || {
  code=$?
  [ "$code" = 3 ] && [ "$1" = short ] || exit "$code"
  echo "lab: the emulator is not to be had here: Bluetooth and cameras were tested with mocks alone (tests/radio)"
  exit 0
}
failed=()
for script in "${scripts[@]}"; do
  start=$SECONDS
  echo "lab: $script"
  if "$HERE/boot.sh" "$HERE/$script.sh" "$binary" 900; then
    echo "lab: $script: passed in $((SECONDS - start)) s"
  else
    echo "lab: $script: FAILED after $((SECONDS - start)) s"
    failed+=("$script")
  fi
done
[ ${#failed[@]} = 0 ] || { echo "lab: failed: ${failed[*]}" >&2; exit 1; }
