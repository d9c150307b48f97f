#!/usr/bin/env bash
# Builds everything that wants a GPU and puts it into a folder small enough to be taken to a machine where nothing can be
# installed and little is there beside a driver: programs, the libraries that they load, and videos to train on.
#   bench/gpu/bundle.sh DIR [VIDEOS]     VIDEOS: a folder with train.csv, valid.csv and test.csv
# On Debian 12, whose libraries and Catch2 it knows. For Hopper, or for CUDA_ARCHITECTURES (80-real: Ampere).
# There, bench/gpu/all.sh runs it. FFmpeg and libarchive are built from Debian's sources with the few formats that are
# needed, for theirs load a hundred other libraries. Needs what tests/run.sh installs, and nvcc; runs where glibc is as new
# as here, on processors with AVX2.
set -euo pipefail
(($# == 1 || $# == 2)) || { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd)
videos=${2:+$(cd "$2" && pwd)}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$PWD/build/bundle
programs=$work/programs
rm -rf "$programs"
mkdir -p "$work/lib" "$work/apt/lists/partial" "$programs/bin" "$programs/lib"

# source_of PACKAGE: the path of its unpacked source, with sources named even where apt asks for programs alone.
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  if [[ -f $list ]]; then sed 's/^Types: deb$/Types: deb-src/;s/^deb /deb-src /' "$list" > "$work/apt/$(basename "$list")"; fi
done
apt=(apt-get -q -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/apt" -o "Dir::State::Lists=$work/apt/lists")
source_of() {
  local at
  at=$(find "$work" -maxdepth 1 -type d -name "$1-[0-9]*" | head -n 1)
  if [[ -z $at ]]; then
    (cd "$work" && "${apt[@]}" update && "${apt[@]}" source "$1") > "$work/$1.log" 2>&1 || { cat "$work/$1.log" >&2; return 1; }
    at=$(find "$work" -maxdepth 1 -type d -name "$1-[0-9]*" | head -n 1)
  fi
  echo "$at"
}

if [[ ! -e $work/lib/libavcodec.so.59 ]]; then
  echo "== FFmpeg"
  cd "$(source_of ffmpeg)"
  ./configure --disable-everything --disable-autodetect --disable-programs --disable-doc --disable-avdevice --disable-avfilter \
    --disable-postproc --disable-network --disable-x86asm --disable-debug --enable-shared --disable-static --enable-protocol=file \
    --enable-demuxer=mov,wav,image2,png_pipe --enable-parser=h264,aac,png --enable-decoder=h264,aac,png,mjpeg,pcm_s16le \
    --enable-encoder=png --prefix="$work" --libdir="$work/lib" --shlibdir="$work/lib" > "$work/ffmpeg.log"
  make -j "$(nproc)" install >> "$work/ffmpeg.log" 2>&1
  cd - > /dev/null
fi
if [[ ! -e $work/lib/libarchive.so.13 ]]; then
  echo "== libarchive"
  without=()
  for each in ACL BZip2 CNG EXPAT ICONV LIBB2 LIBXML2 LZ4 LZMA LZO NETTLE OPENSSL PCREPOSIX TEST XATTR ZSTD TAR CPIO CAT; do
    without+=("-DENABLE_$each=OFF")
  done
  cmake -S "$(source_of libarchive)" -B "$work/archive" -DCMAKE_BUILD_TYPE=Release "${without[@]}" > "$work/archive.log"
  cmake --build "$work/archive" --target archive -j "$(nproc)" >> "$work/archive.log" 2>&1
  cp -L "$work/archive/libarchive/libarchive.so" "$work/lib/libarchive.so.13"  # CMake numbers it otherwise than Debian
fi

echo "== l3"
cmake -S . -B "$work/l3" -G Ninja -DCMAKE_BUILD_TYPE=Release -DL3_CUDA=ON -DL3_MPI=OFF -DL3_ARCH=x86-64-v3 \
  -DCMAKE_CUDA_ARCHITECTURES="${CUDA_ARCHITECTURES:-90a-real}" -DCMAKE_CUDA_FLAGS=-lineinfo -DCMAKE_DISABLE_FIND_PACKAGE_NCCL=ON -DL3_HDF5=OFF \
  -DCMAKE_BUILD_RPATH='$ORIGIN/../lib' -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags > "$work/l3.log"
cmake --build "$work/l3" --target l3 l3_cuda_tests bench_gpu_step -j "$(nproc)" >> "$work/l3.log" 2>&1 || { tail -n 40 "$work/l3.log" >&2; exit 1; }
# ptxas says so by the way: no warning, but a large part of the speed.
if grep -a "wgmma.mma_async instructions are serialized" "$work/l3.log"; then
  rm -rf "$work/l3"  # else nothing would be said the next time
  echo "bundle.sh: the products above are waited for one by one" >&2
  exit 1
fi
for program in l3 tests/l3_cuda_tests bench/bench_gpu_step; do
  strip -o "$programs/bin/$(basename "$program")" "$work/l3/$program"
done
# The small ones first, then whatever else these load, but what every machine has.
LD_LIBRARY_PATH=$work/lib ldd "$programs"/bin/* | awk '$2 == "=>" {print $3}' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|libgcc_s|libstdc\+\+)\.so' | xargs cp -Lt "$programs/lib"
strip --strip-unneeded "$programs"/lib/*
tar -czf "$out/programs.tar.gz" -C "$programs" bin lib
if [[ -n $videos ]]; then
  rm -rf "$out/videos" && mkdir "$out/videos"
  cp -r "$videos"/{train,valid,test}{,.csv} "$out/videos/"
fi
du -sh "$out"/*
