#!/usr/bin/env python3
"""Opens StarDist folders that selfadapt wrote in the real package, lets selfadapt open models that the package trained,
and compares.

    check_stardist.py --selfadapt BINARY --original FOLDER --written FOLDER --adapted RUN/adapted \
        --taught RUN/trained --scratch FOLDER --training IMAGES_AND_MASKS IMAGE.tif ...

  * --written is a copy of --original by way of selfadapt: the same weights, maps and labels, bit for bit;
  * --adapted is what an adaptation left: the package opens it, and gives the labels that selfadapt gives, at the scale
    that its selfadapt.json says;
  * --taught is what a training from nothing left: the same;
  * models of other shapes, trained by the package for a minute on dsb_*.tif of --training: the same labels.

Labels are compared by stardist.matching at IoU 0.9, at least --least (0.99). Prints a dated Markdown table; exits with 1
if a check failed. Runs under a Python with stardist 0.9.1; see make_venv_stardist.sh.
"""

import argparse
import contextlib
import datetime
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import version

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import scipy.ndimage as ndi  # noqa: E402
import tensorflow as tf  # noqa: E402
import tifffile  # noqa: E402
from csbdeep.utils import normalize  # noqa: E402
from stardist.matching import matching  # noqa: E402
from stardist.models import Config2D, StarDist2D  # noqa: E402

# Shapes that differ from the default in all that a configuration can say.
SHAPES = {
    "grid 1, batch norm": dict(grid=(1, 1), unet_batch_norm=True, unet_n_depth=2, n_rays=16),
    "three channels, 64 rays": dict(n_channel_in=3, n_rays=64),
    "grid 4, no features, elu": dict(grid=(4, 4), net_conv_after_unet=0, unet_activation="elu"),
}
# Long enough that outlines are outlines: the polygons of a model that saw less cross themselves, and what the package then
# calls their common area depends on how Clipper rounds.
EPOCHS, STEPS = 5, 80


def quiet(call, *args, **kwargs):
    """What `call` returns, without the package's chatter."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*args, **kwargs)


def opened(folder):
    folder = os.path.abspath(folder)
    return quiet(StarDist2D, None, name=os.path.basename(folder), basedir=os.path.dirname(folder))


def channels_of(image, count):
    """The image as it is, or in `count` channels that differ."""
    if count == 1:
        return image
    return np.stack([image.astype(np.float32) * (1 + 0.2 * c) for c in range(count)], axis=-1)


def agreement(labels, ours):
    if not labels.any() and not ours.any():
        return 1.0
    return float(matching(labels, ours, thresh=0.9).accuracy)


class Check:
    def __init__(self, args):
        self.args = args
        self.passed = True
        self.rows = []

    def verdict(self, fine, text):
        self.passed = self.passed and bool(fine)
        return text if fine else f"**{text}**"

    def segmented(self, folder, paths):
        """Labels of `selfadapt segment`, an image each."""
        out = os.path.join(self.args.scratch, "masks")
        shutil.rmtree(out, ignore_errors=True)
        command = [self.args.selfadapt, "segment", "--quiet", "--model", folder, "--out", out, *paths]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
        return [tifffile.imread(os.path.join(out, f"{stem}_cp_masks.tif")).astype(np.int32) for stem in stems]

    def row(self, what, image, count, own, ours, more="-"):
        precision = agreement(own, ours)
        cells = f"{count(own)} | {count(ours)}"
        best = self.verdict(precision >= self.args.least, f"{precision:.4f}")
        self.rows.append(f"| {what} | {image} | {cells} | {best} | {more} |")


def count(labels):
    return len(np.unique(labels[labels > 0]))


def written(check, args):
    original, copy = opened(args.original), opened(args.written)
    pairs = list(zip(original.keras_model.get_weights(), copy.keras_model.get_weights()))
    same = all(a.dtype == b.dtype and (a == b).all() for a, b in pairs)
    same = same and original.thresholds == copy.thresholds and original.config.__dict__ == copy.config.__dict__
    weights = check.verdict(same, f"{len(pairs)} arrays {'identical' if same else 'differ'}")
    for path, ours in zip(args.images, check.segmented(args.written, args.images)):
        image = normalize(tifffile.imread(path), 1, 99.8)
        maps = zip(quiet(original.predict, image), quiet(copy.predict, image))
        same = all((a == b).all() for a, b in maps)
        theirs, own = (quiet(model.predict_instances, image)[0] for model in (original, copy))
        same = same and (theirs == own).all()
        more = f"{weights}, maps and labels {check.verdict(same, 'identical' if same else 'differ')}"
        check.row("there and back", os.path.basename(path), count, own, ours, more)


def left(check, args, what, folder):
    # scipy's zoom, as the package calls it, leaves the last row and column 0 where rounding carries them beyond the image:
    # for 256 pixels at 22/52, for example. selfadapt does not, so the package is compared without it.
    ndi.zoom = functools.partial(ndi.zoom, mode="nearest")
    model = opened(folder)
    with open(os.path.join(folder, "selfadapt.json")) as file:
        scale = json.load(file)["scale"]
    for path, ours in zip(args.images, check.segmented(folder, args.images)):
        image = normalize(tifffile.imread(path), 1, 99.8)
        own = quiet(model.predict_instances, image, scale=scale)[0]
        check.row(what, os.path.basename(path), count, own, ours, f"scale {scale:.3f}")


def trained(check, args):
    names = [f"dsb_{i:02d}" for i in (0, 1, 8, 9, 13, 14, 17, 19, 21, 24)]
    images = [tifffile.imread(os.path.join(args.training, f"{name}.tif")) for name in names]
    masks = [tifffile.imread(os.path.join(args.training, f"{name}_masks.tif")).astype(np.int32) for name in names]
    for number, (what, shape) in enumerate(SHAPES.items()):
        settings = dict(unet_n_filter_base=8, train_patch_size=(96, 96), train_batch_size=4, train_epochs=EPOCHS)
        settings |= dict(train_steps_per_epoch=STEPS, train_tensorboard=False, train_learning_rate=1e-3, use_gpu=False)
        config = Config2D(**{**settings, **shape})
        channels = config.n_channel_in
        prepared = [normalize(channels_of(image, channels), 1, 99.8) for image in images]
        folder = os.path.join(args.scratch, f"model_{number}")
        shutil.rmtree(folder, ignore_errors=True)
        tf.keras.utils.set_random_seed(number)
        model = quiet(StarDist2D, config, name=os.path.basename(folder), basedir=os.path.abspath(args.scratch))
        quiet(model.train, prepared[2:], masks[2:], validation_data=(prepared[:2], masks[:2]), seed=number)
        # So short a training is sure of little: half of what it is surest of. (optimize_thresholds takes minutes.)
        surest = max(float(quiet(model.predict, image)[0].max()) for image in prepared[:2])
        with open(os.path.join(folder, "thresholds.json"), "w") as file:
            json.dump({"prob": surest / 2, "nms": 0.3}, file)
        paths = []
        for path in args.images:
            image = channels_of(tifffile.imread(path), channels)
            paths.append(os.path.join(args.scratch, os.path.basename(path)))
            tifffile.imwrite(paths[-1], image, photometric="rgb" if channels == 3 else "minisblack")
        model = opened(folder)
        for path, ours in zip(paths, check.segmented(folder, paths)):
            own = quiet(model.predict_instances, normalize(tifffile.imread(path), 1, 99.8))[0]
            check.row(f"trained: {what}", os.path.basename(path), count, own, ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selfadapt", required=True, help="our binary")
    parser.add_argument("--original", required=True, help="a StarDist folder")
    parser.add_argument("--written", required=True, help="the same, as selfadapt wrote it")
    parser.add_argument("--adapted", required=True, help="the folder that an adaptation left")
    parser.add_argument("--taught", required=True, help="the folder that a training by selfadapt left")
    parser.add_argument("--scratch", required=True, help="a folder for models that are trained")
    parser.add_argument("--training", required=True, help="folder with dsb_*.tif and dsb_*_masks.tif")
    parser.add_argument("--least", type=float, default=0.99, help="least accuracy of matching at IoU 0.9")
    parser.add_argument("--no-training", action="store_true", help="leave out the models that are trained: minutes")
    parser.add_argument("images", nargs="+", metavar="IMAGE.tif")
    args = parser.parse_args()
    os.makedirs(args.scratch, exist_ok=True)
    check = Check(args)
    written(check, args)
    left(check, args, "adapted", args.adapted)
    left(check, args, "from scratch", args.taught)
    if not args.no_training:
        trained(check, args)
    packages = ", ".join(f"{name} {version(name)}" for name in ("stardist", "csbdeep", "tensorflow-cpu", "numpy"))
    print(f"Checked on {datetime.date.today().isoformat()}; {packages}, Python {sys.version.split()[0]}.\n")
    print("| model | image | the package's objects | selfadapt's | AP at IoU 0.9 | more |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    print("\n".join(check.rows))
    sys.exit(0 if check.passed else 1)


if __name__ == "__main__":
    main()
