#!/bin/sh
# Makes $1 with $COMPONENTIZE_PY. What wasi:http is stands where wasmtime has it, in $WASI_WIT.
set -eu
wit=$(mktemp -d)
trap 'rm -rf "$wit"' EXIT
mkdir -p "$wit/deps/sandbar"
cp ../../../wit/handler.wit "$wit/deps/sandbar/"
cp -r ../../../wit/deps/. "$wit/deps/"
for file in "$WASI_WIT"/deps/*.wit; do
  name=$(basename "$file" .wit)
  mkdir "$wit/deps/$name"
  cp "$file" "$wit/deps/$name/"
done
package() { sed -n 's/^package \(.*\);$/\1/p' "$1"; }
handler=$(package "$wit/deps/sandbar/handler.wit")
http=$(package "$WASI_WIT/deps/http.wit")
cat >"$wit/world.wit" <<WORLD
package sandbar:permitted;

world permitted {
  include ${handler%@*}/handler@${handler#*@};
  import ${http%@*}/outgoing-handler@${http#*@};
}
WORLD
${COMPONENTIZE_PY:-componentize-py} -d "$wit" -w permitted componentize -p . -p ../../../guest-sdk/sources/python app -o "$1"
