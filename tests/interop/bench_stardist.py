"""Times StarDist's own segmentation of images: prints seconds as JSON, the import of the package left out.

usage: bench_stardist.py FOLDER THREADS OUT IMAGE...

`total` is from the loaded program to the last file written; `warm` is a second pass over the same images, which
TensorFlow has then compiled its functions for, of prediction and suppression alone; `network` is a third one, of `predict`
alone. `warm_cpu` and `network_cpu` are processor seconds, which other programs on the machine disturb less.
"""
import contextlib
import io
import json
import os
import sys
import time

folder, threads, out, *images = sys.argv[1:]
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = threads

import tensorflow as tf  # noqa: E402

tf.config.threading.set_intra_op_parallelism_threads(int(threads))
tf.config.threading.set_inter_op_parallelism_threads(1)

import numpy as np  # noqa: E402
import tifffile  # noqa: E402
from csbdeep.utils import normalize  # noqa: E402
from stardist import __version__  # noqa: E402
from stardist.models import StarDist2D  # noqa: E402

with contextlib.redirect_stdout(io.StringIO()):
    start = time.perf_counter()
    folder = os.path.abspath(folder)
    model = StarDist2D(None, name=os.path.basename(folder), basedir=os.path.dirname(folder))
    cells, prepared = 0, []
    for path in images:
        prepared.append(normalize(tifffile.imread(path), 1, 99.8))
        labels = model.predict_instances(prepared[-1])[0]
        cells += int(labels.max())
        name = os.path.splitext(os.path.basename(path))[0] + ".tif"
        tifffile.imwrite(os.path.join(out, name), labels.astype(np.uint16))
    total = time.perf_counter() - start
    found = {"version": __version__, "total": total, "cells": cells}
    for what, call in [("warm", model.predict_instances), ("network", model.predict)]:
        start, of_processors = time.perf_counter(), time.process_time()
        for image in prepared:
            call(image)
        found[what] = time.perf_counter() - start
        found[f"{what}_cpu"] = time.process_time() - of_processors
print(json.dumps(found))
