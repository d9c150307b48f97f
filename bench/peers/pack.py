"""Packing videos, l3 beside the ffmpeg program, by turns: the same pictures a second, the same size, JPEG of nearly the
same bytes, 48 kHz mono sound as 16-bit PCM; the same number of cores.

    python3 bench/peers/pack.py build/release/l3 VIDEOS [--rounds 3]
ffmpeg runs once for each video, with one thread each, as many at a time as there are cores, and writes pictures and sound
as files.
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time


def ffmpeg(video, to, quality):
    to.mkdir()
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-t", "10", "-i", video, "-map", "v:0", "-vf",
                    "fps=5:round=down,scale='if(gt(iw,ih),-2,256)':'if(gt(iw,ih),256,-2)':flags=bilinear", "-c:v", "mjpeg",
                    "-pix_fmt", "yuvj420p", "-q:v", str(quality), "-threads", "1", to / "%04d.jpg", "-map", "a:0", "-ac", "1",
                    "-ar", "48000", "-c:a", "pcm_s16le", to / "sound.wav"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("l3")
    parser.add_argument("videos", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quality", type=int, default=3, help="ffmpeg's -q:v; 3 makes files of about the size of l3's")
    parser.add_argument("--scratch", help="folder for what both write, better not in memory; default: where temporary files go")
    o = parser.parse_args()
    videos = sorted(o.videos.rglob("*.mp4"))
    cores = len(os.sched_getaffinity(0))
    ratios, rates = [], {"l3": [], "ffmpeg": []}
    with tempfile.TemporaryDirectory(dir=o.scratch) as scratch:
        for _ in range(o.rounds):
            out = pathlib.Path(scratch) / "out"
            start = time.perf_counter()
            subprocess.run([o.l3, "pack", o.videos, "--out", out, "--threads", str(cores), "--quiet"], check=True)
            mine = time.perf_counter() - start
            bytes_l3 = sum(f.stat().st_size for f in out.rglob("*.tar"))
            shutil.rmtree(out)
            out.mkdir()
            start = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(cores) as pool:
                list(pool.map(lambda k: ffmpeg(videos[k], out / str(k), o.quality), range(len(videos))))
            theirs = time.perf_counter() - start
            bytes_ffmpeg = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
            pictures = sum(1 for _ in out.rglob("*.jpg"))
            shutil.rmtree(out)
            rates["l3"].append(len(videos) / mine)
            rates["ffmpeg"].append(len(videos) / theirs)
            ratios.append(theirs / mine)
    for name, values in rates.items():
        print(f"{name}: {statistics.median(values):.1f} videos/s")
    print(f"l3 is {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times as fast; {len(videos)} videos, "
          f"{cores} cores, MB: l3 {bytes_l3 / 1e6:.0f}, ffmpeg {bytes_ffmpeg / 1e6:.0f} ({pictures} pictures)")


if __name__ == "__main__":
    main()
