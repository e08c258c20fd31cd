#!/usr/bin/env bash
# Runs a command with a Vulkan device made of software, so that WebGPU works on a machine without a GPU:
#   scripts/webgpu-software.sh npm test -- webgpu
# The device is Mesa's lavapipe, which computes in fp16 as well. WebGPU needs Mesa 25 and rejects Debian 12's own 22.3:
# there it comes from the distribution's backports. The packages are unpacked into a cache folder (about 60 MB are
# downloaded once); nothing is installed, and the system's list of package sources stays as it is.
# Needs apt-get, dpkg-deb and an x86-64 machine, but not root.
set -euo pipefail
folder="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/murmurate-lavapipe"
libraries=usr/lib/x86_64-linux-gnu
icd="$folder/usr/share/vulkan/icd.d/lvp_icd.json"

fail() {
  echo "webgpu-software: $1" >&2
  exit 1
}

# Runs apt tool $1 on lists of its own in $work. It sees what is installed, so only what is missing is downloaded.
private() {
  local tool=$1
  shift
  "$tool" -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" \
    -o Debug::NoLocking=1 "$@"
}

# The archive that this system's own release comes from, with its updates and backports, as a sources.list.
sources() {
  local codename
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  apt-get indextargets --no-release-info --format '$(CREATED_BY) $(RELEASE) $(COMPONENT) $(REPO_URI)' |
    awk -v codename="$codename" '$1 == "Packages" && $2 == codename && $3 == "main" {
      for (i = split(" -updates -backports", suffix, " ") + 1; i > 0; i--)
        print "deb", $4, codename (i == 1 ? "" : suffix[i - 1]), "main"
    }' | sort -u
}

# Downloads Mesa, and what it needs beside the libraries that are installed, and unpacks them into $work/root.
unpack() {
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/root"
  sources >"$work/sources.list"
  [ -s "$work/sources.list" ] || fail "apt-get knows no archive of this system's release"
  private apt-get update || fail "the package lists could not be downloaded"
  local version packages
  version=$(private apt-cache madison mesa-vulkan-drivers | awk '$NF ~ /Packages$/ { print $3 }' | sort -rV | head -1)
  dpkg --compare-versions "${version:-0}" ge 25 ||
    fail "needs mesa-vulkan-drivers 25 or newer, but the newest one here is ${version:-not available}"
  packages=(mesa-vulkan-drivers="$version" libvulkan1)
  # A package that is installed already is needed here all the same: its files would not be in the folder.
  private apt-get install --download-only --yes --no-install-recommends --reinstall \
    --target-release "*-backports" "${packages[@]}" ||
    fail "mesa-vulkan-drivers $version could not be downloaded"
  for package in "$work"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
  # The driver by its path: what the loader finds by name could be the system's older one.
  sed -i "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$folder/$libraries/libvulkan_lvp.so\"#" \
    "$work/root/${icd#"$folder/"}"
}

if [ ! -e "$icd" ]; then
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  unpack
  mkdir -p "$(dirname "$folder")"
  rm -rf "$folder" && mv "$work/root" "$folder"
  rm -rf "$work"
  trap - EXIT
fi
export LD_LIBRARY_PATH="$folder/$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" VK_ICD_FILENAMES="$icd"
exec "$@"
