#!/usr/bin/env bash
# Videos for loader.py: ten seconds at 25 pictures a second, H.264 with B pictures and stereo AAC at 44.1 kHz, as sites
# serve them. 24 are encoded, each stands in the folder under eight names.
#   bench/peers/make_clips.sh OUT    writes OUT/gop250 (454x256) and OUT/gop12 (640x360)
set -euo pipefail
out=${1:?expected a folder to write, as in: bench/peers/make_clips.sh clips}
make() { # FOLDER SIZE GOP
  mkdir -p "$out/$1"
  for k in $(seq 0 23); do
    local first="$out/$1/0-$k.mp4"
    ffmpeg -nostdin -v error -y -f lavfi -i "mandelbrot=s=$2:rate=25:start_scale=$(echo "scale=4; 3/($k+1)" | bc):end_scale=0.001:end_pts=700:inner=period" \
      -f lavfi -i "sine=frequency=$((200 + 40 * k)):beep_factor=3:sample_rate=44100" \
      -f lavfi -i "anoisesrc=color=pink:amplitude=0.1:seed=$k:sample_rate=44100" \
      -filter_complex "[0]noise=alls=6:allf=t+u:all_seed=$k[v];[1][2]amix=inputs=2,aformat=channel_layouts=stereo[a]" \
      -map '[v]' -map '[a]' -t 10 -c:v libx264 -g "$3" -keyint_min "$3" -sc_threshold 0 -pix_fmt yuv420p -crf 26 -threads 1 \
      -c:a aac -b:a 128k -movflags +faststart "$first"
    for copy in $(seq 1 7); do ln -f "$first" "$out/$1/$copy-$k.mp4"; done
  done
}
make gop250 454x256 250
make gop12 640x360 12
