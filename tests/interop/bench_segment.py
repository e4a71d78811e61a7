"""Times Cellpose's own segmentation of images: prints seconds as JSON, the import of the package left out.

usage: bench_segment.py CHECKPOINT DIAMETER THREADS OUT IMAGE...
"""
import json
import os
import sys
import time

checkpoint, diameter, threads, out, *images = sys.argv[1:]
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = threads

import numba  # noqa: E402
import torch  # noqa: E402
from cellpose import dynamics, io, models, version  # noqa: E402

torch.set_num_threads(int(threads))
numba.set_num_threads(int(threads))

in_dynamics = 0.0
original = dynamics.resize_and_compute_masks


def timed(*args, **kwargs):
    global in_dynamics
    start = time.perf_counter()
    result = original(*args, **kwargs)
    in_dynamics += time.perf_counter() - start
    return result


dynamics.resize_and_compute_masks = timed

# Numba compiles on the first call: a cost of the package's import, not of the work.
import numpy as np  # noqa: E402

warm = np.zeros((2, 32, 32), np.float32)
warm[:, 8:24, 8:24] = 1.0
original(warm, warm[0] * 6 - 3, niter=2, min_size=1, resize=None)

start = time.perf_counter()
model = models.CellposeModel(gpu=False, pretrained_model=checkpoint)
cells = 0
for path in images:
    image = io.imread(path)
    masks, flows, _ = model.eval(image, channels=[0, 0], diameter=float(diameter))
    cells += int(masks.max())
    name = os.path.splitext(os.path.basename(path))[0] + "_cp_masks.tif"
    io.imsave(os.path.join(out, name), masks.astype(np.uint16))
total = time.perf_counter() - start
print(json.dumps({"version": version, "total": total, "dynamics": in_dynamics, "cells": cells}))
