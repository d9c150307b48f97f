#!/usr/bin/env python3
"""Has another compiler read what g++ compiles: the program l3 and the examples, templates and all, without making code.

  tests/other_compiler.py --build build/ci [--compiler clang++]

Warnings are errors. What each unit is compiled with comes from the build's compile_commands.json.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys


def read(compiler, unit):
    words = shlex.split(unit["command"])
    # Before the compiler's name is what it is started with.
    first = next(n for n, w in enumerate(words) if re.search(r"(^|-)[gc]\+\+(-|$)", pathlib.Path(w).name))
    out = words.index("-o")
    words = [compiler, *words[first + 1:out], *words[out + 2:], "-fsyntax-only", "-Wno-unknown-warning-option",
             "-Wno-deprecated-declarations",  # (cmake/l3_warnings.cmake says why)
             "-Wno-unused-command-line-argument",  # what g++ alone is told
             "-Wno-invalid-feature-combination"]  # of clang 19 about its own -march=native, where there is AVX10
    return subprocess.run([w for w in words if w != "-c"], cwd=unit["directory"], text=True, capture_output=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder")
    parser.add_argument("--compiler", default="clang++", help="default: clang++")
    options = parser.parse_args()
    commands = options.build / "compile_commands.json"
    units = [u for u in json.loads(commands.read_text()) if " -o examples/" in u["command"] and
             not u["file"].endswith(".cu")] if commands.exists() else []
    if not units:
        sys.exit(f"{commands}: expected the program's units, found none")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for unit, result in zip(units, pool.map(lambda u: read(options.compiler, u), units)):
            if result.returncode:
                failed += 1
                print(f"{unit['file']}:\n{result.stderr}", file=sys.stderr)
    print(f"{options.compiler} reads {len(units) - failed} of {len(units)} units")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
