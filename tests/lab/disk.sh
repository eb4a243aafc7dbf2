#!/bin/bash
# A disk that begins to fail under the store, and is mended: nothing acknowledged is lost, and the service returns.
. "$(dirname "$0")/guest.sh"

modprobe -a ext4 dm-mod dm-flakey loop
truncate -s 96M /run/disk.img
LOOP=$(losetup -f --show /run/disk.img)
SIZE=$(blockdev --getsz "$LOOP")
table() { dmsetup suspend --nolockfs lab; dmsetup load lab --table "$1"; dmsetup resume lab; }
SOUND="0 $SIZE linear $LOOP 0"
# Down for all but an instant: every write fails.
FAILING="0 $SIZE flakey $LOOP 0 0 3600 1 error_writes"
dmsetup create lab --table "$SOUND"
dmsetup mknodes
# Without a journal of its own, which would make the whole file system read-only for good.
mkfs.ext4 -q -O ^has_journal /dev/mapper/lab
FOLDER=/run/store
mkdir -p "$FOLDER"
mount -o errors=continue /dev/mapper/lab "$FOLDER"
chmod 700 "$FOLDER"

start_host <<'TOML'
[ingress.hook]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{ path = "/in" }]
TOML
HOOK=http://$(address hook)/in
: >/run/acknowledged
# The status; what is acknowledged is noted with its id.
post() {
  local answer
  answer=$(curl -sS -m 20 -w '\n%{http_code}' "$HOOK" -d "$1") || { echo "none"; return; }
  if [ "${answer##*$'\n'}" = 202 ]; then jq -r .id <<<"${answer%$'\n'*}" >>/run/acknowledged; fi
  echo "${answer##*$'\n'}"
}
posted() { [ "$(post "$1")" = "$2" ]; }
for number in $(seq 20); do posted "sound $number" 202 || fail "a reading was refused"; done

table "$FAILING"
eventually 30 "what cannot be stored is refused" posted failing 503
for number in $(seq 10); do post "failing $number" >/dev/null; done
table "$SOUND"
eventually 60 "the service returns" posted mended 202
for number in $(seq 20); do posted "mended $number" 202 || fail "a reading was refused once it was mended"; done

all_there() {
  local there
  there=$(api '/v1/readings?ingress=hook&limit=1000' | jq -r '.items[].id')
  while read -r id; do grep -q "$id" <<<"$there" || fail "$id was acknowledged, and is lost"; done </run/acknowledged
}
all_there
kill -9 $HOST
wait $HOST 2>/dev/null || true
# Nothing but what the disk holds.
umount "$FOLDER"
echo 3 >/proc/sys/vm/drop_caches
mount /dev/mapper/lab "$FOLDER"
run_host
all_there
say "all $(wc -l </run/acknowledged) acknowledged readings are there after kill -9"
