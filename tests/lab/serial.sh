#!/bin/bash
# The driver `serial` on a USB device of the kernel's (CDC-ACM), found by its USB id, unplugged and plugged in again.
. "$(dirname "$0")/guest.sh"

modprobe -a dummy_hcd cdc-acm libcomposite usb_f_acm
mount -t configfs config /sys/kernel/config
GADGET=/sys/kernel/config/usb_gadget/stick
mkdir "$GADGET"
echo 0x0403 >"$GADGET/idVendor"
echo 0x6001 >"$GADGET/idProduct"
mkdir "$GADGET/strings/0x409"
echo SN001 >"$GADGET/strings/0x409/serialnumber"
echo "Sensor Stick" >"$GADGET/strings/0x409/product"
mkdir "$GADGET/configs/c.1" "$GADGET/functions/acm.0"
ln -s "$GADGET/functions/acm.0" "$GADGET/configs/c.1"
CONTROLLER=$(ls /sys/class/udc | head -n1)
plug() { echo "$CONTROLLER" >"$GADGET/UDC"; }
unplug() { echo >"$GADGET/UDC"; }
# The far end, which a sensor would be.
far_end() {
  eventually 30 "the device is there" test -c /dev/ttyGS0 -a -c /dev/ttyACM0
  stty -F /dev/ttyGS0 raw -echo
}
# What was written while nobody had the port open may be lost: sensors repeat themselves.
measured() { echo "$1" >/dev/ttyGS0; readings line | grep -q "$1"; }
# What was said before somebody listens is lost, too.
acknowledged() { measured again && grep -q OK /run/told; }
# The processor time of the host, in hundredths of a second.
busy() { awk '{ print $14 + $15 }' "/proc/$HOST/stat"; }

plug
far_end
start_host <<'TOML'
[ingress.line]
driver = "serial"
port = "0403:6001:SN001"
baud = 115200
device = "stick"
acknowledge = "OK\n"
TOML
eventually 60 "the port is open" is line running
cat /dev/ttyGS0 >/run/told &
eventually 30 "a line is a reading" measured temperature-21
eventually 30 "it is acknowledged" acknowledged

for number in 1 2; do
  unplug
  eventually 30 "it is missed ($number)" is line backing-off
  last_error line
  before=$(busy)
  sleep 5
  spent=$(($(busy) - before))
  # Of 500: the emulated processor is slow, a host that spins takes them all.
  [ "$spent" -lt 250 ] || fail "it spins while the port is gone: $spent of 500"
  plug
  far_end
  eventually 60 "it is back ($number)" is line running
  eventually 30 "lines are readings again ($number)" measured "back-$number"
done
