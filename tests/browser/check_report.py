#!/usr/bin/env python3
"""Does a browser show the page of `l3 report` as it should? Needs Chromium and the standard library of Python.

    check_report.py --l3 BUILD/l3                      makes a small run of its own
    check_report.py --page report.html [--pictures DIR]     looks at a page, and keeps screenshots

Without errors on the console; every picture there, every sound a second long and playable; nothing wider than a phone;
text readable in light and in dark; everything that can be operated reached by the Tab key; nothing asked of a network.
"""
import argparse
import base64
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile

NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"]

# Each is evaluated in the page and gives a list of complaints.
CHECKS = {
    "pictures": """[...document.images].filter(i => !i.complete || i.naturalWidth == 0).map(i => 'no picture: ' + i.alt)""",
    "names of pictures": """[...document.images].filter(i => !i.alt).map(i => 'a picture that says nothing')""",
    "sounds": """Promise.all([...document.querySelectorAll('audio')].map(a => new Promise(done => {
        const told = () => done(a.error || a.readyState < 3 || !(Math.abs(a.duration - 1) < 0.01) ? a.ariaLabel + ': ' + a.duration : '');
        a.preload = 'auto'; a.oncanplaythrough = told; a.onerror = told; setTimeout(told, 20000); a.load();
      }))).then(all => all.filter(x => x))""",
    "width": """document.documentElement.scrollWidth > WIDTH
        ? ['the page is ' + document.documentElement.scrollWidth + ' wide, the screen WIDTH'] : []""",
    "contrast": """(() => {
        const rgb = c => c.match(/[\\d.]+/g).map(Number);
        const light = c => { const [r, g, b] = rgb(c).map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const back = light(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll('h1,h2,p,a,th,td,caption,figcaption,summary')].flatMap(e => {
          const own = light(getComputedStyle(e).color), ratio = (Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05);
          return ratio < 4.5 ? [e.tagName + ' has a contrast of ' + ratio.toFixed(1)] : []; });
      })()""",
    "anchors": """[...document.querySelectorAll('a[href^="#"]')].filter(a => !document.getElementById(a.hash.slice(1)))
        .map(a => 'no ' + a.hash)""",
    "headings": """document.querySelectorAll('h1').length == 1 && document.querySelectorAll('h2').length > 0 ? [] : ['no headings']""",
}


class Browser:
    """Chromium without a window, spoken to through two pipes (the DevTools protocol)."""

    def __init__(self, program, folder):
        to_child, self.output = os.pipe()
        self.input, from_child = os.pipe()

        def child_ends():
            # Numbers 3 and 4 are the protocol's; either may be in use by one of the pipes.
            reads, writes = os.dup(to_child), os.dup(from_child)
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run",
             "--disable-background-networking", "--autoplay-policy=no-user-gesture-required",
             f"--user-data-dir={folder}", "about:blank"],
            close_fds=False, preexec_fn=child_ends, stdout=subprocess.DEVNULL,
            stderr=open(pathlib.Path(folder) / "said", "wb"))
        self.said = pathlib.Path(folder) / "said"
        os.close(to_child)
        os.close(from_child)
        self.pending, self.events, self.numbers, self.session = b"", [], itertools.count(1), None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.pending:
            ready = select.select([self.input], [], [], 60)[0]
            more = os.read(self.input, 1 << 20) if ready else b""
            if not more:
                print(self.said.read_text(errors="replace")[-2000:])
                sys.exit("check_report.py: the browser " + ("has ended" if ready else "says nothing for a minute"))
            self.pending += more
        message, _, self.pending = self.pending.partition(b"\0")
        return json.loads(message)

    def __call__(self, method, **parameters):
        message = {"id": next(self.numbers), "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != message["id"]:
            self.events.append(answer)
        if "error" in answer:
            sys.exit(f"check_report.py: {method}: {answer['error']}")
        return answer["result"]

    def open(self, url):
        self.events.clear()
        self("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def evaluate(self, expression):
        result = self("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            sys.exit(f"check_report.py: {result['exceptionDetails']}")
        return result["result"].get("value")

    def screen(self, width, scheme):
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def keep(self, file):
        data = self("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(data))

    def close(self):
        self.session = None
        try:
            os.write(self.output, b'{"id": 0, "method": "Browser.close"}\0')
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


def tab_order(browser):
    """Complaints about what the Tab key does not reach."""
    browser.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    wanted = browser.evaluate("document.querySelectorAll('a[href],summary,audio,[tabindex]').length")
    reached = set()
    for _ in range(12 * wanted + 50):  # a sound has several controls
        for kind in ["keyDown", "keyUp"]:
            browser("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        place = browser.evaluate("""[...document.querySelectorAll('a[href],summary,audio,[tabindex]')]
            .indexOf(document.activeElement)""")
        if place == 0 and len(reached) > 1:
            break
        reached.add(place)
    reached.discard(-1)
    # What lies in a closed drawer is reached once that is open.
    closed = browser.evaluate("""[...document.querySelectorAll('a[href],summary,audio,[tabindex]')]
        .filter(e => e.tagName != 'SUMMARY' && e.closest('details:not([open])')).length""")
    missing = wanted - closed - len(reached)
    return [f"{missing} of {wanted} elements are not reached by the Tab key"] if missing > 0 else []


def look(program, page, pictures):
    problems = []
    profile = tempfile.mkdtemp()
    browser = Browser(program, profile)
    try:
        for width, scheme in [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")]:
            browser.screen(width, scheme)
            browser.open(page.resolve().as_uri())
            for name, check in CHECKS.items():
                if name != "sounds" or width == 1280 and scheme == "light":
                    problems += [f"{width} {scheme}, {name}: {each}" for each in browser.evaluate(check.replace("WIDTH", str(width)))]
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                browser.keep(pictures / f"{width}-{scheme}.png")
            for event in browser.events:
                method, told = event.get("method"), event.get("params", {})
                if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                    problems.append(f"{width} {scheme}: the console says {json.dumps(told)[:300]}")
                if method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("data:", "file:")):
                    problems.append(f"{width} {scheme}: asks for {told['request']['url'][:100]}")
        browser.screen(1280, "light")
        problems += tab_order(browser)
        backgrounds = set()
        for scheme in ["dark", "light"]:
            browser.screen(1280, scheme)
            backgrounds.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        if len(backgrounds) == 1:
            problems.append("dark looks as light does")
        counts = browser.evaluate("[document.images.length, document.querySelectorAll('audio').length, "
                                  "document.querySelectorAll('svg.chart').length, document.querySelectorAll('h2').length]")
    finally:
        browser.close()
        shutil.rmtree(profile, ignore_errors=True)  # its helpers may still be at it
    return problems, counts


def make_run(l3, folder):
    """A small run with every kind of result, made in a few seconds."""
    def run(*words):
        subprocess.run([l3, *map(str, words), "--quiet"], check=True, stdout=subprocess.DEVNULL)

    data, out = folder / "data", folder / "run"
    run("synth", data, "--videos", 40, "--classes", 2, "--seconds", 2, "--seed", 4)
    small = ["--model", "tiny", "--batch", 4]
    sets = ["--train", data / "train.csv", "--valid", data / "valid.csv", "--valid-pairs", 8]
    run("train", *sets, *small, "--pairs", 80, "--valid-every", 5, "--log-every", 1, "--out", out)
    weights = ["--checkpoint", out / "last.safetensors"]
    run("eval", *weights, "--data", data / "test.csv", "--pairs", 32, "--out", out / "eval")
    run("baseline", "all", *sets, *small, "--test", data / "test.csv", "--pairs", 8, "--test-pairs", 16, *weights, "--out",
        out / "baselines")
    for name, network in [("learned", weights), ("random", ["--random-weights", "--model", "tiny"])]:
        run("probe", "folder", data / "train.csv", "--folds", 2, *network, "--out", out / "sounds" / name)
        run("probe", "cluster", "audio", data / "train.csv", *network, "--out", out / "clusters" / name)
    run("inspect", "units", data / "test.csv", *weights, "--count", 2, "--top", 3, "--moments", 16, "--out", out / "units")
    video = next(data.rglob("*.mp4"))
    for what in ["heatmap", "spectrogram", "correspondence"]:
        run("inspect", what, video, *weights, "--out", out / "places")
    run("report", out)
    return out / "report.html"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--l3")
    parser.add_argument("--page", type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("--chromium", default=next(filter(None, map(shutil.which, NAMES)), None))
    o = parser.parse_args()
    if o.chromium is None:
        print("SKIPPED: no Chromium")
        return
    with tempfile.TemporaryDirectory() as folder:
        page = o.page or make_run(o.l3, pathlib.Path(folder))
        problems, (pictures, sounds, charts, sections) = look(o.chromium, page, o.pictures)
    if not o.page and (pictures < 4 or sounds < 3 or charts < 3 or sections < 5):
        problems.append(f"the page has only {pictures} pictures, {sounds} sounds, {charts} charts, {sections} sections")
    for each in problems:
        print(each)
    print(f"{pictures} pictures, {sounds} sounds, {charts} charts, {sections} sections; {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
