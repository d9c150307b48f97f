"""Writes resize.csv beside this script; `--check` compares it with a fresh run.

Pictures are bytes from a linear congruential generator, so that any language can make the same ones (`picture` below),
with smooth and with hard edges; Pillow gives them another size (BILINEAR). Rows of the file:
width,height,new_width,new_height,the bytes of the new picture in hexadecimal (RGB, row by row)
"""
import argparse
import pathlib

import numpy as np
from PIL import Image

FILE = pathlib.Path(__file__).with_name("resize.csv")
# The smallest sides 3, 4, 5, 8, 11, 16: shrunk, enlarged, one axis alone by rounding, hardly at all.
SIZES = [((13, 7), (6, 3)), ((7, 13), (3, 6)), ((4, 3), (7, 5)), ((9, 8), (18, 16)), ((40, 30), (5, 4)), ((31, 17), (20, 11)),
         ((12, 11), (9, 8)), ((1, 1), (3, 3)), ((50, 2), (75, 3))]


def picture(width, height):
    state, values = 1, np.empty(width * height * 3, np.uint8)
    for k in range(len(values)):
        state = (1664525 * state + 1013904223) % 2**32
        values[k] = state >> 24 if k % 7 else 255 * (state >> 31)
    return values.reshape(height, width, 3)


def lines():
    yield "width,height,new_width,new_height,bytes"
    for (w, h), (nw, nh) in SIZES:
        new = np.asarray(Image.fromarray(picture(w, h)).resize((nw, nh), Image.Resampling.BILINEAR))
        yield f"{w},{h},{nw},{nh},{new.tobytes().hex()}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not what comes out")
    text = "\n".join(lines()) + "\n"
    if not parser.parse_args().check:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        raise SystemExit(f"{FILE.name}: not what Pillow makes")
