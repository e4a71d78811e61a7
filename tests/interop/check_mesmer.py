"""Runs Mesmer's own ONNX file and one that selfadapt wrote in onnxruntime, and times its network against ours.

    python check_mesmer.py --original mesmer.onnx --written adapted.onnx --record maps.npz
    python check_mesmer.py --tile tile256.npz --image tile.tif
    python check_mesmer.py --original mesmer.onnx --binary target/debug/selfadapt --image tissue.tif --rounds 3

Needs numpy and onnxruntime, and tifffile for --image (two channels, nuclear and membrane).
"""

import argparse
import datetime
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

HEADS = [f"semantic_{n}" for n in range(4)]


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def draw(tile, image):
    """Writes a recorded tile [H, W, 2] as an image of two channels."""
    import tifffile

    raw = np.load(tile)["raw"]
    tifffile.imwrite(image, np.ascontiguousarray(raw.transpose(2, 0, 1)), metadata={"axes": "CYX"})


def compare(original, written, record, threads):
    """Both files on the same tiles; what the written one says is recorded, for ours to be compared with."""
    tiles = np.random.default_rng(0).uniform(0, 1, (2, 256, 256, 2)).astype("float32")
    one, two = (session(path, threads).run(HEADS, {"input_0": tiles}) for path in (original, written))
    differences = [float(np.abs(a - b).max() / np.ptp(a)) for a, b in zip(one, two)]
    if not all(difference > 0 for difference in differences):
        raise SystemExit(f"expected other maps of the adapted network in each head, found differences {differences}")
    told = ", ".join(f"{name} {difference:.2g}" for name, difference in zip(HEADS, differences))
    print(f"Checked on {datetime.date.today()}; onnxruntime {onnxruntime.__version__}, numpy {np.__version__}. From the original the adapted network differs by {told}.\n")
    if record:
        np.savez(record, tiles=tiles, **dict(zip(HEADS, two)))


def bench(args):
    """Both see 25 tiles of 256 x 256 in batches of as many: an image of 1024 x 1024."""
    runtime = session(args.original, args.threads)
    tiles = np.random.default_rng(0).uniform(0, 1, (25, 256, 256, 2)).astype("float32")
    ratios = []
    for number in range(args.rounds):
        start = time.perf_counter()
        for first in range(0, 25, args.batch):
            runtime.run(HEADS, {"input_0": tiles[first:first + args.batch]})
        theirs = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            command = [args.binary, "segment", "--quiet", "--model", args.original, "--pixel-size", "0.5",
                       "--batch-size", str(args.batch), "--out", folder, args.image]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                           env={**os.environ, "RAYON_NUM_THREADS": str(args.threads)})
            seconds = json.loads((Path(folder) / "segment.json").read_text())["seconds"]
        ours = seconds["network"]
        ratios.append(ours / theirs)
        print(f"round {number}: onnxruntime {theirs:.2f} s, selfadapt {ours:.2f} s, ratio {ratios[-1]:.2f}; "
              f"reading {seconds['read']:.2f} s, decoding {seconds['decode']:.2f} s")
    print(f"median ratio {np.median(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--original")
    parser.add_argument("--written")
    parser.add_argument("--record")
    parser.add_argument("--tile")
    parser.add_argument("--binary")
    parser.add_argument("--image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.tile:
        draw(args.tile, args.image)
    if args.written:
        compare(args.original, args.written, args.record, args.threads)
    if args.binary:
        bench(args)
