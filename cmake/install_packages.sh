# shellcheck shell=bash disable=SC2034
# Sourced by tests/run.sh and examples/quickstart.sh: which packages of Debian (or Ubuntu) they need, and how to get them.

l3_build_packages=(
  build-essential cmake ninja-build pkg-config
  libtbb-dev libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev libarchive-dev
  libsqlite3-dev libturbojpeg0-dev libhdf5-dev
  libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libswresample-dev
)
l3_test_packages=(catch2 clang libbenchmark-dev liblinear-dev doxygen ffmpeg python3 python3-onnx libopenmpi-dev openmpi-bin iproute2)
l3_full_packages=(chromium) # tests/run.sh --full

# install_packages PACKAGE...: installs those that are missing, and only those. Asks nothing when none is.
install_packages() {
  local package missing=() as_root=()
  if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
    echo "This system has no apt-get; l3 needs what Debian calls: $*" >&2
    echo "Going on in the hope that they are here." >&2
    return 0
  fi
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    echo "All $# packages are here."
    return 0
  fi
  echo "To install: ${missing[*]}"
  if ((EUID != 0)); then
    if ! command -v sudo > /dev/null; then
      echo "Installing packages takes root or sudo, and neither is at hand. As root, run:" >&2
      echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  # An update that fails in part (one source of several is out of reach) may still have found what is needed.
  "${as_root[@]}" update || echo "apt-get update failed; trying with the lists at hand." >&2
  "${as_root[@]}" install --yes --no-install-recommends "${missing[@]}" < /dev/null > /dev/null || {
    echo "apt-get could not install: ${missing[*]}" >&2
    return 1
  }
}
