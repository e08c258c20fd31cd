#!/usr/bin/env bash
# Runs a command with a Vulkan device made of software, so that WebGPU works on a machine without a GPU:
#   scripts/webgpu-software.sh npm test -- webgpu
# Debian's chromium-common holds SwiftShader and a Vulkan loader; both are unpacked into a cache folder (30 MB are
# fetched once, about 6 MB kept), nothing is installed. Needs apt-get, dpkg-deb and an x86-64 machine.
set -euo pipefail
folder="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/murmurate-swiftshader"
icd="$folder/vk_swiftshader_icd.json"
files=(libvk_swiftshader.so libvulkan.so.1 vk_swiftshader_icd.json)

# Unpacks SwiftShader from package $1.
unpack() {
  (cd "$work" && apt-get download -qq "$1" 2>/dev/null) || return 1
  dpkg-deb --fsys-tarfile "$work/$1"_*.deb | tar -xC "$work" "${files[@]/#/./usr/lib/chromium/}" 2>/dev/null
}

if [ ! -e "$icd" ]; then
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  unpack chromium-common || { apt-get update -qq && unpack chromium-common; } || {
    echo "webgpu-software: no SwiftShader in Debian's chromium-common; put ${files[*]} into $folder" >&2
    exit 1
  }
  mkdir -p "$(dirname "$folder")"
  rm -rf "$folder" && mv "$work/usr/lib/chromium" "$folder"
  rm -rf "$work"
  trap - EXIT
fi
export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" VK_ICD_FILENAMES="$icd"
exec "$@"
