"""How l3 takes a large collection: made-up videos under very many names, indexed (also after an interruption, and again),
trained on from the index, and a million draws read from it while memory is watched.

    python3 bench/data/large_collection.py build/release/l3 FOLDER [--videos 100000] [--pairs 1000000] [--plot memory.svg]
FOLDER is made, and kept: a second call finds what is there. 200 videos of 2 s are encoded; hard links make the others.
The million is drawn with eight draws an opening, a twentieth of it with a video opened for each.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time


def names_of(folder, videos):
    """Hard links to the videos, a thousand in a sub-folder."""
    files = sorted((folder / "source").rglob("*.mp4"))
    whole = folder / "all"
    for k in range(videos):
        name = whole / f"{k // 1000:03}" / f"{k:06}.mp4"
        if k % 1000 == 0:
            name.parent.mkdir(parents=True, exist_ok=True)
        if not name.exists():
            os.link(files[k % len(files)], name)
    return whole


def timed(*command, stop_after=None):
    start = time.perf_counter()
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if stop_after:
        try:
            process.wait(stop_after)
            print(f"{command[1]} ended before it was to be interrupted")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode not in ([0] if not stop_after else [0, 130]):
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {process.returncode}\n{errors[-2000:]}")
    return seconds, out


def watch(command):
    """Resident MiB of a process, each half second, and its answer."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    start, seen = time.perf_counter(), []
    while process.poll() is None:
        try:
            pages = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            seen.append((time.perf_counter() - start, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
        except (FileNotFoundError, IndexError, ValueError):
            pass
        time.sleep(0.5)
    return json.loads(process.stdout.read()), [s for s in seen if s[1] > 0]


def plot(file, curves, title):
    """Lines over time as SVG."""
    width, height, left, bottom = 760, 320, 60, 44
    last = max(t for _, points in curves for t, _ in points)
    most = 1.1 * max(m for _, points in curves for _, m in points)
    x = lambda t: left + (width - left - 10) * t / last
    y = lambda m: height - bottom - (height - bottom - 30) * m / most
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="18">{title}</text>']
    for k in range(6):
        m, t = most * k / 5, last * k / 5
        parts.append(f'<line x1="{left}" x2="{width - 10}" y1="{y(m):.1f}" y2="{y(m):.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 6}" y="{y(m) + 4:.1f}" text-anchor="end">{m:.0f}</text>'
                     f'<text x="{x(t):.1f}" y="{height - bottom + 16}" text-anchor="middle">{t:.0f}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">seconds; vertical: resident MiB</text>')
    for k, (name, points) in enumerate(curves):
        colour = ["#0072b2", "#d55e00", "#009e73"][k]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="' +
                     " ".join(f"{x(t):.1f},{y(m):.1f}" for t, m in points) + '"/>'
                     f'<text x="{width - 16}" y="{y(points[-1][1]) - 6 - 14 * k:.1f}" text-anchor="end" fill="{colour}">{name}</text>')
    pathlib.Path(file).write_text("\n".join(parts) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("l3")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--plot", help="SVG to write")
    o = parser.parse_args()
    source, index = o.folder / "source", o.folder / "all.l3index"
    if not source.exists():
        timed(o.l3, "synth", source, "--videos", 200, "--seconds", 2, "--seed", 1, "--quiet")
    whole = names_of(o.folder, o.videos)
    index.unlink(missing_ok=True)

    first, _ = timed(o.l3, "index", whole, "--out", index, "--quiet", stop_after=20)
    rest, _ = timed(o.l3, "index", whole, "--out", index, "--quiet")
    again, _ = timed(o.l3, "index", whole, "--out", index, "--quiet")
    print(f"index of {o.videos} videos: {first:.1f} s until interrupted, {rest:.1f} s for the rest, {again:.2f} s again")
    one = whole / "000" / "000000.mp4"
    shutil.copyfile(one, one.with_suffix(".new"))  # the name shares its file with many others
    os.replace(one.with_suffix(".new"), one)
    changed, _ = timed(o.l3, "index", whole, "--out", index, "--quiet")
    print(f"one file changed: {changed:.2f} s; the index has {index.stat().st_size / o.videos:.0f} bytes a video")
    run = o.folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    start, _ = timed(o.l3, "train", "--train", index, "--valid", source / "valid.csv", "--out", run, "--model", "tiny",
                     "--pairs", 64, "--valid-pairs", 2, "--quiet")
    print(f"training from it: {start:.1f} s from the command to the end of the first step")

    curves = []
    for name, pairs, options in (("8 draws an opening", o.pairs, ["--draws-per-opening", 8]),
                                 ("a video for each draw", o.pairs // 20, ["--keep-open", 0])):
        answer, seen = watch([o.l3, "bench", "loader", index, "--model", "tiny", "--batch", 64, "--pairs", pairs,
                              "--json", "--quiet", *options])
        warm = [m for t, m in seen if t > 0.1 * seen[-1][0]]
        half = len(warm) // 2
        print(f"{name}: {pairs} pairs at {answer['pairs_per_s']:.0f}/s, {answer['failures']} failures; resident "
              f"{min(warm):.0f} to {max(warm):.0f} MiB after the first tenth; mean of the second half less that of the "
              f"first {sum(warm[half:]) / (len(warm) - half) - sum(warm[:half]) / half:+.1f} MiB")
        curves.append((name, seen))
    if o.plot:
        plot(o.plot, curves, f"l3 bench loader: {o.pairs:,} pairs of {o.videos:,} videos")


if __name__ == "__main__":
    main()
