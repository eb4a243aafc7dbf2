#!/bin/bash
# The driver `camera` on a camera of the kernel's (vivid), which is unplugged while it is in use.
. "$(dirname "$0")/guest.sh"

modprobe vivid n_devs=1 node_types=0x1
start_host <<'TOML'
[ingress.eye]
driver = "camera"
path = "/dev/video0"
width = 640
height = 360
interval_ms = 1000
device = "eye"
[ingress.hook]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{ path = "/capture" }]
[sink.shutter]
kind = "device"
device = "eye"
name = "capture"
[route.shutter]
ingress = ["hook"]
sinks = ["shutter"]
TOML
eventually 60 "pictures come" has eye 3
readings eye | sed -n 1p | cut -c1-400
id=$(readings eye | sed -n 1p | jq -r .id)
api "/v1/readings/$id" | jq -r .payload_base64 | base64 -d >/run/picture.jpg
size=$(ffprobe -v error -show_entries stream=codec_name,width,height -of csv=p=0 /run/picture.jpg)
[ "$size" = mjpeg,640,360 ] || fail "ffmpeg says of the picture: $size"
ffmpeg -v error -xerror -i /run/picture.jpg -f null - || fail "ffmpeg cannot decode it"
readings eye | jq -e '.attributes | tostring | contains("640") and contains("360") and contains("eye")' >/dev/null \
  || fail "it does not say how large it is"

curl -sSf -m 10 "http://$(address hook)/capture" -d now >/dev/null
# Not grep -q: it leaves before the pictures behind are written, which is a failure of what writes them.
commanded() { readings eye | grep '"command"' >/dev/null; }
eventually 30 "a command takes a picture" commanded

echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
eventually 30 "the camera is missed" is eye backing-off
last_error eye
last_error eye | grep -q /dev/video0 || fail "it does not say which camera"
before=$(readings eye | wc -l)
echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
eventually 60 "pictures come with the camera back" has eye $((before + 2))
