#!/usr/bin/env python3
"""Opens a checkpoint that selfadapt wrote in real Cellpose 3 and 2, and compares.

    check_cellpose.py --python-cellpose3 VENV3/bin/python --python-cellpose2 VENV2/bin/python \
        --written ADAPTED [--original CHECKPOINT] [--ours MASKS.tif ...] [--diameter D] IMAGE.tif ...

For each Cellpose:
  * torch opens the written file with weights_only=True, and again with mmap=True, to the same tensors;
  * with --original, of which the written file is a copy: names, order, tensors and _metadata are the same,
    bit for bit, and `CellposeModel.eval` gives the same masks from both, pixel for pixel;
  * with --ours, the masks that `selfadapt segment` made of the same images with the written checkpoint,
    in the same order: average precision at IoU 0.9 against Cellpose's masks, at least --least (0.99).

Prints a dated Markdown table. Exits with 1 if a check failed, with 2 if one could not be made.
Runs under any Python 3.9 or later; only the two given ones need Cellpose. See make_venvs.sh.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys


def tensors_equal(a, b):
    """Same names in the same order, same types and shapes, same bits."""
    import torch

    def bits(t):
        return t.contiguous().reshape(-1).view(torch.uint8)

    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and torch.equal(bits(a[k]), bits(b[k])) for k in a
    )


def worker(args):
    """Runs within an environment that has Cellpose; prints one JSON object."""
    import numpy
    import tifffile
    import torch
    from importlib.metadata import version

    from cellpose import metrics, models

    torch.set_num_threads(args.threads)
    written = torch.load(args.written, map_location="cpu", weights_only=True)
    mapped = torch.load(args.written, map_location="cpu", weights_only=True, mmap=True)
    report = {
        "versions": f"cellpose {version('cellpose')}, torch {torch.__version__}, numpy {numpy.__version__}, "
        f"Python {sys.version.split()[0]}",
        "tensors": len(written),
        "mmap": tensors_equal(written, mapped),
        "images": [],
    }
    if args.original:
        original = torch.load(args.original, map_location="cpu", weights_only=True)
        report["identical"] = tensors_equal(original, written)
        report["metadata"] = getattr(original, "_metadata", None) == getattr(written, "_metadata", None)

    def segment(checkpoint, image):
        model = models.CellposeModel(gpu=False, pretrained_model=os.path.abspath(checkpoint))
        diameter = args.diameter if args.diameter > 0 else None
        return model.eval(image, channels=[0, 0], diameter=diameter)[0].astype("int32")

    def cells(masks):
        return len(numpy.unique(masks[masks > 0]))

    def precision(truth, masks):
        # Cellpose counts by the largest label: number them 1..n first. Two empty images agree.
        def renumbered(m):
            return numpy.unique(numpy.append(0, m), return_inverse=True)[1][1:].reshape(m.shape).astype("int32")

        truth, masks = renumbered(truth), renumbered(masks)
        if not truth.any() and not masks.any():
            return 1.0
        return float(metrics.average_precision([truth], [masks], threshold=[0.9])[0][0, 0])

    for index, path in enumerate(args.images):
        image = tifffile.imread(path)
        masks = segment(args.written, image)
        row = {"image": os.path.basename(path), "cells": cells(masks)}
        if args.original:
            row["same_masks"] = bool((segment(args.original, image) == masks).all())
        if args.ours:
            ours = tifffile.imread(args.ours[index])
            row["ours"] = cells(ours)
            row["ap90"] = precision(masks, ours) if ours.shape == masks.shape else 0.0
        report["images"].append(row)
    print(json.dumps(report))


def run_worker(python):
    """This script again, under another Python; None if that failed."""
    done = subprocess.run([python, __file__, "--worker", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else None


def table(reports, args):
    """The Markdown table, and whether every check passed."""
    passed = True

    def verdict(fine, yes, no):
        nonlocal passed
        passed = passed and fine
        return yes if fine else f"**{no}**"

    print(f"Checked on {datetime.date.today().isoformat()}; diameter {args.diameter:g}, {args.threads} thread(s).\n")
    print("| environment | file | image | cells | masks as from the original | selfadapt's cells | AP at IoU 0.9 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for report in reports:
        opened = verdict(report["mmap"], f"{report['tensors']} tensors, also by mmap", "differs by mmap")
        if args.original:
            same = report["identical"] and report["metadata"]
            opened += ", " + verdict(same, "bit-identical with names, order and metadata", "differs from the original")
        for row in report["images"]:
            masks = verdict(row["same_masks"], "identical", "differ") if args.original else "-"
            cells = precision = "-"
            if args.ours:
                cells = str(row["ours"])
                precision = verdict(row["ap90"] >= args.least, f"{row['ap90']:.4f}", f"{row['ap90']:.4f}")
            print(f"| {report['versions']} | {opened} | {row['image']} | {row['cells']} | {masks} | {cells} | {precision} |")
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python-cellpose3", help="Python of an environment with cellpose 3.1.1.3")
    parser.add_argument("--python-cellpose2", help="Python of an environment with cellpose 2.3.2")
    parser.add_argument("--written", required=True, help="checkpoint that selfadapt wrote")
    parser.add_argument("--original", help="checkpoint of which the written one is a copy")
    parser.add_argument("--ours", action="append", help="masks by selfadapt, one for each image, in order")
    parser.add_argument("--diameter", type=float, default=30.0, help="0: the checkpoint's diam_labels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--least", type=float, default=0.99, help="least AP at IoU 0.9 of ours against Cellpose's")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("images", nargs="+", metavar="IMAGE.tif")
    args = parser.parse_args()
    pythons = [python for python in (args.python_cellpose3, args.python_cellpose2) if python]
    if args.ours and len(args.ours) != len(args.images):
        parser.error(f"--ours is given {len(args.ours)} times for {len(args.images)} images")
    if args.worker:
        return worker(args)
    if not pythons:
        parser.error("give --python-cellpose3, --python-cellpose2, or both")
    reports = [run_worker(python) for python in pythons]
    passed = table([report for report in reports if report], args)
    if None in reports:
        sys.exit(2)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
