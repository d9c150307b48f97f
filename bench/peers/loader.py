"""Training batches from videos, l3 beside what PyTorch users take, by turns in one run.

    bench/peers/make_clips.sh clips
    python bench/peers/loader.py build/release/l3 clips/gop250 [--packed DIR]
VIDEOS is a folder of videos. A draw is the same work everywhere: a random video, a random moment of it; the picture on
display, its smallest side scaled to 256, a random crop of 224, mirrored or not, brightness and saturation; one second
of sound at 48 kHz mono, its log-spectrogram 257 x 199. Batches of 16, `--workers` workers.

l3 runs `l3 bench loader`: each draw opens a video (`--keep-open 0`), the same with videos kept open, `reservoir` with
eight draws an opening and 64 videos, `packed`. The others run in a torch.utils.data.DataLoader with torch's own operations: torchcodec,
PyAV and decord, each with one decoding thread a worker. Before anything is timed, each peer's pictures and sounds at
eight moments are compared with l3's: the mean difference of the pictures (means of 4 x 4 pixels) is below 3/255, the sound lies at the same
sample (to one, where a peer cuts before it resamples; decord's comes 17 late where it resamples).
"""
import argparse
import atexit
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

rate, side, crop, batch = 48000, 256, 224, 16
extensions = {".mp4", ".mkv", ".mov", ".webm", ".avi"}


class Torchcodec:
    name = "torchcodec"
    late = 1  # samples that the sound may lie beside l3's

    def __init__(self, file):
        from torchcodec.decoders import AudioDecoder, VideoDecoder
        self.video = VideoDecoder(file, seek_mode="approximate", num_ffmpeg_threads=1)
        self.audio = AudioDecoder(file, sample_rate=rate)

    def seconds(self):
        return min(self.video.metadata.duration_seconds, self.audio.metadata.duration_seconds_from_header)

    def picture(self, t):
        return self.video.get_frame_played_at(t).data

    def sound(self, start):
        samples = self.audio.get_samples_played_in_range(start, start + 1 + 1e-3)
        skip = round((start - samples.pts_seconds) * rate)
        return samples.data.mean(0)[skip:skip + rate]


class PyAV:
    name = "pyav"
    late = 1

    def __init__(self, file):
        import av
        self.file = file
        self.container = av.open(file)
        self.video, self.audio = self.container.streams.video[0], self.container.streams.audio[0]
        self.video.thread_type = "NONE"

    def seconds(self):
        return min(float(s.duration * s.time_base) for s in (self.video, self.audio))

    def picture(self, t):
        import torch
        self.container.seek(int(t / self.video.time_base), stream=self.video)
        shown = None
        for frame in self.container.decode(self.video):
            if shown is not None and frame.time > t + 1e-6:
                break
            shown = frame
        return torch.from_numpy(shown.to_ndarray(format="rgb24")).permute(2, 0, 1)

    def sound(self, start):
        import av
        import torch
        self.container.seek(max(0, int((start - 0.1) / self.audio.time_base)), stream=self.audio)
        resampler = av.AudioResampler(format="fltp", rate=rate)
        blocks, begin, end = [], None, None
        for frame in self.container.decode(self.audio):
            if begin is None:
                begin = frame.time
            blocks += [r.to_ndarray() for r in resampler.resample(frame)]
            end = frame.time + frame.samples / frame.sample_rate
            if end > start + 1.01:
                break
        blocks += [r.to_ndarray() for r in resampler.resample(None)]
        samples = np.concatenate(blocks, axis=1).mean(0)
        skip = round((start - begin) * rate)
        out = np.zeros(rate, np.float32)
        part = samples[skip:skip + rate]
        out[:len(part)] = part
        return torch.from_numpy(out)


class Decord:
    name = "decord"
    late = 17  # its resampler's delay

    def __init__(self, file):
        import decord
        decord.logging.set_level(decord.logging.QUIET)
        decord.bridge.set_bridge("torch")
        self.video = decord.VideoReader(file, num_threads=1)
        self.audio = decord.AudioReader(file, sample_rate=rate, mono=True)  # else not-a-numbers
        self.fps = self.video.get_avg_fps()
        self.mono = 0.5 ** 0.5  # its mix of two channels is 3 dB louder than their mean

    def seconds(self):
        return min(len(self.video) / self.fps, self.audio.shape[1] / rate)

    def picture(self, t):
        return self.video[min(int(t * self.fps + 1e-6), len(self.video) - 1)].permute(2, 0, 1)

    def sound(self, start):
        first = round(start * rate)
        return self.audio[first:first + rate][0] * self.mono


peers = {p.name: p for p in (Torchcodec, PyAV, Decord)}


def scaled(picture):
    from torchvision.transforms.v2 import functional as F
    small = min(picture.shape[1:])
    if small == side:
        return picture
    size = [round(s * side / small) for s in picture.shape[1:]]
    return F.resize(picture, size, antialias=True)


def draws(peer, files, seed):
    """Endless augmented draws (frame, spectrogram)."""
    import torch
    from torchvision.transforms.v2 import functional as F
    random = np.random.default_rng(seed)
    window = torch.hann_window(480)
    while True:
        clip = peer(files[random.integers(len(files))])
        end = clip.seconds()
        t = random.uniform(0, end - 0.05)
        start = random.uniform(max(0, t - 1), min(t, end - 1.05))
        picture = scaled(clip.picture(t))
        top, left = random.integers(picture.shape[1] - crop + 1), random.integers(picture.shape[2] - crop + 1)
        picture = picture[:, top:top + crop, left:left + crop]
        if random.integers(2):
            picture = picture.flip(2)
        picture = picture.float() / 255
        picture = F.adjust_saturation((picture + random.uniform(-32, 32) / 255).clamp(0, 1), random.uniform(0.5, 1.5))
        sound = clip.sound(start)
        sound = torch.nn.functional.pad(sound, (0, rate - len(sound))) * random.uniform(0.9, 1.1)
        frames = sound.unfold(0, 480, 240) * window
        spectrum = torch.fft.rfft(frames, 512).abs().clamp(min=1e-5).log().T / 5
        yield picture * 2 - 1, spectrum[None]


def serve(name, files, workers):
    """A peer's process: for each line with a number of seconds on standard input, a line with pairs and seconds."""
    import torch
    peer = peers[name]

    class Draws(torch.utils.data.IterableDataset):
        def __iter__(self):
            info = torch.utils.data.get_worker_info()
            torch.set_num_threads(1)
            return draws(peer, files, torch.initial_seed() + info.id)

    started = time.perf_counter()
    batches = iter(torch.utils.data.DataLoader(Draws(), batch_size=batch, num_workers=workers, multiprocessing_context="fork"))
    next(batches)
    print(json.dumps(time.perf_counter() - started), flush=True)
    for line in sys.stdin:
        wanted, pairs = float(line), 0
        # What was made ahead while others ran, and one batch of each worker: from then on as many are under way at any
        # time. Workers hand over by turns, so it is over when all have had their turn.
        for _ in range(3 * workers):
            next(batches)
        start = time.perf_counter()
        while time.perf_counter() - start < wanted:
            for _ in range(workers):
                next(batches)
                pairs += batch
        print(json.dumps([pairs, time.perf_counter() - start]), flush=True)


def coarse(picture):
    """Means of 4 x 4: programs differ in how they fill in the colours, which videos have at half the resolution."""
    h, w = (s // 4 * 4 for s in picture.shape[:2])
    return picture[:h, :w].astype(np.float32).reshape(h // 4, 4, w // 4, 4, 3).mean((1, 3))


def check(name, files, dump):
    """Compares a peer's pictures and sounds with l3's."""
    peer, arrays = peers[name], np.load(dump)
    for k in range(len(arrays["times"])):
        clip, t, start = peer(files[int(arrays["clips"][k])]), float(arrays["times"][k]), float(arrays["starts"][k])
        picture = coarse(scaled(clip.picture(t)).permute(1, 2, 0).numpy())
        expected = coarse(arrays[f"picture{k}"])
        apart = np.abs(picture - expected).mean() if picture.shape == expected.shape else np.inf
        if not apart < 3:
            sys.exit(f"{name}: expected l3's picture at {t:.3f} s of {files[int(arrays['clips'][k])]}, found one {apart:.1f}/255 apart")
        sound, want = clip.sound(start).numpy(), arrays[f"sound{k}"]
        size = min(len(sound), len(want)) - 400
        lags = range(-200, 201)
        likeness = [np.corrcoef(want[200:200 + size], sound[200 + lag:200 + lag + size])[0, 1] for lag in lags]
        best = int(np.argmax(likeness))
        if abs(lags[best]) > peer.late or likeness[best] < 0.98:
            sys.exit(f"{name}: expected l3's sound at {start:.4f} s, found it {lags[best]} samples off (correlation {likeness[best]:.3f})")
        level = np.sqrt((sound ** 2).mean() / (want ** 2).mean())
        if not 0.97 < level < 1.03:
            sys.exit(f"{name}: expected sound as loud as l3's, found {level:.2f} times that")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("l3", help="the program")
    parser.add_argument("videos", help="folder of videos")
    parser.add_argument("--packed", help="the same videos, packed by l3 pack")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=10, help="for each contender and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(peers), help="which peers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--check", help=argparse.SUPPRESS)
    parser.add_argument("--dump", help=argparse.SUPPRESS)
    o = parser.parse_args()
    files = sorted(str(f) for f in pathlib.Path(o.videos).rglob("*") if f.suffix.lower() in extensions)
    if o.check:
        return check(o.check, files, o.dump)
    if o.serve:
        return serve(o.serve, files, o.workers)
    if len(files) < batch:
        sys.exit(f"{o.videos}: expected at least {batch} videos, found {len(files)}")

    def l3(data, pairs, *more):
        return subprocess.run([o.l3, "bench", "loader", *data, "--model", "paper", "--batch", str(batch), "--workers",
                               str(o.workers), "--pairs", str(pairs), "--json", "--quiet", *more],
                              check=True, stdout=subprocess.PIPE, text=True).stdout

    few = len(files) < 3 * 64  # too few for the reservoir
    sources = {"l3": (o.videos, "--keep-open", "0"), "l3 kept open": (o.videos,)}
    sources |= {} if few else {"l3 reservoir": (o.videos, "--keep-open", "0", "--draws-per-opening", "8", "--reservoir", "64")}
    sources |= {"l3 packed": (o.packed,)} if o.packed else {}
    served, first, speed = {}, {}, {}

    def signalled(process, number):
        """A peer and its workers, which otherwise make batches ahead while another is measured."""
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass  # it has ended

    def answer(name):
        """The next line of a peer, which then stands still; one that has ended is left out from here on."""
        line = served[name].stdout.readline()
        signalled(served[name], signal.SIGSTOP if line else signal.SIGKILL)
        if not line:
            print(f"left out: {name} ended with {served.pop(name).wait()}", file=sys.stderr)
            speed.pop(name, None)
        return json.loads(line) if line else None

    with tempfile.TemporaryDirectory() as folder:
        names = pathlib.Path(folder) / "videos.txt"
        names.write_text("".join(os.path.abspath(f) + "\n" for f in files))
        dump = pathlib.Path(folder) / "moments.npz"
        l3([str(names)], 1, "--dump", str(dump))
        this = [sys.executable, __file__, o.l3, o.videos, "--workers", str(o.workers)]
        for name in filter(None, o.only.split(",")):
            said = subprocess.run([*this, "--check", name, "--dump", str(dump)], stderr=subprocess.PIPE, text=True)
            if said.returncode:
                why = said.stderr.strip().splitlines() or [f"{name}: exit code {said.returncode}"]
                print(f"left out: {why[-1]}", file=sys.stderr)
                continue
            served[name] = subprocess.Popen([*this, "--serve", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, text=True, start_new_session=True)
            atexit.register(signalled, served[name], signal.SIGKILL)
            first[name] = answer(name)
    # How many pairs take l3 about so many seconds.
    pairs = {name: max(4 * batch, int(json.loads(l3(data, 64 * batch))["pairs_per_s"] * o.seconds))
             for name, data in sources.items()}
    speed |= {name: [] for name in [*sources, *served]}
    for _ in range(o.rounds):
        for name, data in sources.items():
            found = json.loads(l3(data, pairs[name]))
            speed[name].append(found["pairs_per_s"])
            first[name] = found["first_batch_s"]
        for name in list(served):
            signalled(served[name], signal.SIGCONT)
            try:
                print(o.seconds, file=served[name].stdin, flush=True)
            except BrokenPipeError:
                pass  # answer() says so
            if found := answer(name):
                speed[name].append(found[0] / found[1])
    best = [max(values) for values in zip(*(speed[name] for name in served))] or [float("nan")] * o.rounds
    if o.json:
        return print(json.dumps({"pairs_per_s": speed, "first_batch_s": first, "workers": o.workers, "videos": len(files)}))
    print(f"\n{o.videos}: {len(files)} videos, {o.workers} workers, {o.rounds} rounds\n\n"
          "| loader | pairs/s | times the best peer | first batch s |\n| --- | ---: | ---: | ---: |")
    for name in sorted(speed, key=lambda n: -statistics.median(speed[n])):
        times = [mine / peer for mine, peer in zip(speed[name], best)]
        print(f"| {name} | {statistics.median(speed[name]):.1f} | {statistics.median(times):.2f} "
              f"({min(times):.2f} to {max(times):.2f}) | {first[name]:.2f} |")


if __name__ == "__main__":
    main()
