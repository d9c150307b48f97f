#!/usr/bin/env python3
"""Compiles the loops of which headers say `// vectorised`, and asks the compiler whether it made vectors of them.

  tests/vector_loops.py [--compiler g++] [--include FOLDER]...

Without, spectrograms take twice as long and no result is another one. Both g++ and clang++ are understood.
"""
import argparse
import pathlib
import re
import shlex
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent


def marked():
    for header in sorted((SOURCE / "include" / "l3" / "data").glob("*.hpp")):
        for number, line in enumerate(header.read_text().splitlines(), 1):
            if line.endswith("// vectorised"):
                yield header, number


def report(compiler, includes, arch):
    words = [compiler, "-std=c++20", "-O3", f"-march={arch}", f"-I{SOURCE / 'include'}",
             *(f"-idirafter{folder}" for folder in includes if folder),
             "-c", str(SOURCE / "tests" / "data" / "vector_loops.cpp"), "-o", "/dev/null"]
    is_clang = "clang" in subprocess.run([compiler, "--version"], text=True, capture_output=True).stdout
    words.append("-Rpass=loop-vectorize" if is_clang else "-fopt-info-vec-optimized")
    result = subprocess.run(words, text=True, capture_output=True)
    if result.returncode:
        sys.exit(f"{shlex.join(words)}:\n{result.stderr}")
    return re.findall(r"^(.+?):(\d+):\d+: (?:optimized: loop vectorized|remark: vectorized loop)", result.stderr, re.M)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="g++", help="default: g++")
    parser.add_argument("--include", action="append", default=[], help="a folder of headers, as xsimd's, that are not "
                        "where the compiler looks for them")
    options = parser.parse_args()
    loops = list(marked())
    if not loops:
        sys.exit("include/l3/data: expected loops marked `// vectorised`, found none")
    missed = 0
    for arch in "x86-64-v3", "x86-64-v4":
        said = report(options.compiler, options.include, arch)
        made = {(pathlib.Path(file).resolve(), int(line)) for file, line in said}
        for header, line in loops:
            if (header, line) not in made:
                missed += 1
                print(f"{header}:{line}: expected a loop of vectors for {arch}, found none", file=sys.stderr)
    print(f"{options.compiler} makes vectors of {len(loops)} loops" + (f", missing {missed}" if missed else ""))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
