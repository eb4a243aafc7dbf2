#!/bin/bash
# The driver `ble` on BlueZ itself, with a controller that is pulled out and a bluetoothd that is killed.
. "$(dirname "$0")/guest.sh"

BLUETOOTHD=$(ls /usr/libexec/bluetooth/bluetoothd /usr/sbin/bluetoothd 2>/dev/null | head -n1)
start_bluez() { "$BLUETOOTHD" -n >>/run/bluetoothd.log 2>&1 & BLUEZ=$!; }
plug() { "$LAB/python/bin/python3" "$HERE/beacon.py" >>/run/beacon.log 2>&1 & BEACON=$!; }
newer() { [ "$(readings air | tail -n1 | jq -r .id)" \> "$1" ]; }
last() { readings air | tail -n1 | jq -r .id; }

# Without those for its cryptography the controller does not open.
modprobe -a hci_vhci af_alg algif_hash algif_skcipher cmac ecb aes_generic
mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
plug
eventually 60 "there is a controller" test -e /sys/class/bluetooth/hci0
start_bluez

start_host <<'TOML'
[ingress.air]
driver = "ble"
adapter = "hci0"
duplicate_window_ms = 500
allowed_uuids = ["f7826da6-4fa2-4e98-8024-bc5b71e0893e"]
TOML
eventually 60 "beacons are heard" has air 4
readings air | sed -n 1p
readings air | jq -e '.payload_json // (.payload | fromjson? // .)
  | .uuid == "f7826da6-4fa2-4e98-8024-bc5b71e0893e" and .major == 1 and .minor >= 100 and .tx_power == -59
    and .rssi <= -50 and .address == "F0:F1:F2:F3:F4:F5"' >/dev/null || fail "a reading says something else"
[ "$(readings air | jq -r '.device' | sort -u | wc -l)" -ge 3 ] || fail "the minor does not change"

kill -9 $BLUEZ
eventually 30 "bluetoothd is missed" is air backing-off
last_error air
seen=$(last)
start_bluez
eventually 60 "beacons are heard after bluetoothd came back" newer "$seen"

kill -9 $BEACON
eventually 30 "the controller is missed" is air backing-off
last_error air
seen=$(last)
plug
eventually 60 "beacons are heard with the controller back" newer "$seen"
