#!/usr/bin/env bash
# Builds @tensorflow/tfjs-node with its native addon where the package's own download of TensorFlow is not
# possible: everything comes from the npm registry and from PyPI.
#
#   scripts/build-tfjs-native.sh DIR
#   MURMURATE_TFJS=DIR npm run reference -- --device tfjs test/reference/cases/*
#
# DIR gets node_modules (300 MB) and tensorflow (830 MB: headers and the two libraries of PyPI's wheel, whose
# download is 230 MB). A second run finds everything done. Linux on x86-64; needs node, npm, g++ and
# python3 with pip or venv (Debian: apt-get install g++ python3-venv).
set -euo pipefail

TFJS=4.22.0
TENSORFLOW=2.18.1
NODE_API_HEADERS=1.8.0

say() { echo "build-tfjs-native: $*"; }
fail() { say "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "needs $1 (Debian: apt-get install $2)"; }

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
[ "$(uname -sm)" = "Linux x86_64" ] ||
  fail "builds on Linux x86-64 only: elsewhere npm install @tensorflow/tfjs-node downloads the addon"
mkdir -p "$1" 2>/dev/null || fail "cannot make the folder $1"
dir=$(cd "$1" && pwd)
package=$dir/node_modules/@tensorflow/tfjs-node
addon=$package/lib/napi-v8/tfjs_binding.node
done_mark=$dir/.built-$TFJS-$TENSORFLOW

if [ -e "$done_mark" ] && [ -e "$addon" ]; then
  say "already built in $dir"
  exit 0
fi
need node nodejs
need npm npm
need g++ g++
need python3 python3-venv
scratch=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

say "1 of 4: @tensorflow/tfjs-node $TFJS and the headers of Node-API from npm"
[ -e "$dir/package.json" ] || echo '{ "private": true }' >"$dir/package.json"
npm install --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error \
  "@tensorflow/tfjs-node@$TFJS" "node-api-headers@$NODE_API_HEADERS" >"$scratch/log" 2>&1 ||
  fail "npm install failed: $(tail -n 1 "$scratch/log")"

say "2 of 4: tensorflow-cpu $TENSORFLOW from PyPI"
if python3 -m pip --version >/dev/null 2>&1; then
  pip=(python3 -m pip)
else
  python3 -m venv "$scratch/venv" >"$scratch/log" 2>&1 ||
    fail "python3 has neither pip nor venv (Debian: apt-get install python3-venv)"
  pip=("$scratch/venv/bin/python" -m pip)
fi
# Any Python's wheel holds the same libraries: that of 3.11 is taken whichever runs here.
"${pip[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
  --dest "$scratch" "tensorflow-cpu==$TENSORFLOW" >"$scratch/log" 2>&1 ||
  fail "pip download failed: $(tail -n 1 "$scratch/log")"

say "3 of 4: unpacking its headers and libraries"
rm -rf "$dir/tensorflow"
python3 - "$scratch" "$dir" >"$scratch/log" 2>&1 <<'PYTHON' || fail "unpacking failed: $(tail -n 1 "$scratch/log")"
import glob, sys, zipfile
scratch, target = sys.argv[1:]
wanted = ("tensorflow/include/", "tensorflow/libtensorflow_cc.so", "tensorflow/libtensorflow_framework.so")
with zipfile.ZipFile(glob.glob(scratch + "/*.whl")[0]) as wheel:
    wheel.extractall(target, [name for name in wheel.namelist() if name.startswith(wanted)])
PYTHON

say "4 of 4: compiling the addon"
mkdir -p "$(dirname "$addon")"
g++ -shared -fPIC -O2 -std=c++17 -DNAPI_VERSION=8 \
  -I "$dir/node_modules/node-api-headers/include" -I "$dir/tensorflow/include" \
  "$package"/binding/*.cc -o "$addon" \
  -L "$dir/tensorflow" -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 \
  -Wl,-rpath,'$ORIGIN/../../../../../tensorflow' >"$scratch/log" 2>&1 ||
  fail "g++ failed: $(grep -m 1 error "$scratch/log" || tail -n 1 "$scratch/log")"

version=$(cd "$dir" && TF_CPP_MIN_LOG_LEVEL=2 node -e \
  "console.log(require('@tensorflow/tfjs-node').backend().binding.TF_Version)" 2>"$scratch/log") ||
  fail "the addon does not load: $(grep -m 1 Error "$scratch/log" || tail -n 1 "$scratch/log")"
touch "$done_mark"
say "built for TensorFlow $version; use it with MURMURATE_TFJS=$dir"
