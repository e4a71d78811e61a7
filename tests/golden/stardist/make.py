"""Makes small StarDist models with random weights in all shapes that the package offers, and what they predict.

usage: make.py FOLDER      (stardist 0.9.1, tensorflow-cpu 2.15.1, numpy 1.26.4; see tests/interop/make_venvs.sh)

FOLDER/NAME/{config.json, thresholds.json, weights_best.h5} as the package leaves them, and FOLDER/NAME.npz with `image`
(u8, [Y, X, C]), `prob` and `dist` of `predict(normalize(image, 1, 99.8))`, over all channels jointly.
"""
import json
import os
import shutil
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np  # noqa: E402
from csbdeep.utils import normalize  # noqa: E402
from stardist.models import Config2D, StarDist2D  # noqa: E402

SMALL = dict(unet_n_filter_base=4, net_conv_after_unet=8, train_patch_size=(64, 64), use_gpu=False)
MODELS = {
    "rgb_norm": dict(n_channel_in=3, grid=(1, 1), n_rays=8, unet_n_depth=2, unet_batch_norm=True),
    "grid4_elu": dict(grid=(4, 4), n_rays=16, unet_n_depth=1, unet_activation="elu", unet_last_activation="linear",
                      unet_n_conv_per_depth=3, unet_kernel_size=(5, 5), net_conv_after_unet=0, unet_prefix="star_"),
    "pool4": dict(grid=(2, 2), n_rays=12, unet_n_depth=1, unet_pool=(4, 4)),
    "plain": dict(grid=(2, 2), n_rays=32, unet_n_depth=2, unet_dropout=0.1),
}


def main(folder):
    rng = np.random.default_rng(7)
    for name, settings in MODELS.items():
        # The package's own __init__ writes config.json.
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        model = StarDist2D(Config2D(**{**SMALL, **settings}), name=name, basedir=folder)
        weights = []
        for variable, old in zip(model.keras_model.weights, model.keras_model.get_weights()):
            spread = rng.normal(0, 1, old.shape) * np.sqrt(2 / max(1, np.prod(old.shape[:-1])))
            kind = variable.name.split("/")[-1].split(":")[0]
            if kind in ("gamma", "moving_variance"):
                spread = rng.uniform(0.5, 1.5, old.shape)
            weights.append(spread.astype(np.float32))
        model.keras_model.set_weights(weights)
        model.keras_model.save_weights(os.path.join(folder, name, "weights_best.h5"))
        with open(os.path.join(folder, name, "thresholds.json"), "w") as file:
            json.dump({"prob": 0.6, "nms": 0.3}, file)
        channels = model.config.n_channel_in
        # Sides that are no multiples of what the network divides by.
        image = rng.integers(0, 256, (37, 50, channels), dtype=np.uint8)
        prepared = normalize(image if channels > 1 else image[..., 0], 1, 99.8)
        prob, dist = model.predict(prepared)
        np.savez_compressed(os.path.join(folder, name + ".npz"), image=image, prob=prob, dist=dist)


main(sys.argv[1])
