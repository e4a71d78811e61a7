"""What stardist 0.9.1 teaches of drawn label images, and what its losses say: for tests/stardist_train.rs.

usage: make_stardist_train.py      (stardist 0.9.1, tensorflow-cpu 2.15.1, numpy 1.26.4; see tests/interop/make_venv_stardist.sh)

Writes stardist_train.npz beside this file:

- `labels` [48, 48] and `whole` [16, 16] (one object everywhere);
- `dist.GRID.RAYS` [Y, X, RAYS] and `prob.GRID` [Y, X] as `StarDistData2D` makes them of `labels`: `star_dist` at the grid,
  `edt_prob` of the labels thinned to the grid; `dist.whole` and `prob.whole` at grid 1, 8 rays;
- a batch for the losses: `loss.true_prob` [2, 10, 12, 1] (-1 where it does not count), `loss.true_dist` and `loss.dist`
  [2, 10, 12, 6], `loss.logit`; for each of mae, mse and iou `loss.KIND` (total with the package's own weights, loss of
  probabilities, loss of distances) and the gradients of the total, `loss.KIND.by_logit` and `loss.KIND.by_dist`.
"""
import os
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from stardist.geometry import star_dist  # noqa: E402
from stardist.models import Config2D, StarDist2D  # noqa: E402
from stardist.utils import edt_prob  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
kept = {}

# Touching discs, cut ones, a ring with an object in it, a bow, a line, one pixel; two parts of one number; gaps.
y, x = np.mgrid[:48, :48]
labels = np.zeros((48, 48), np.uint16)
labels[(y - 10) ** 2 + (x - 10) ** 2 < 55] = 3
labels[((y - 12) / 1.5) ** 2 + (x - 23) ** 2 < 36] = 4
labels[(y - 2) ** 2 + (x - 40) ** 2 < 40] = 7
labels[(y - 34) ** 2 + (x - 14) ** 2 < 144] = 9
labels[(y - 34) ** 2 + (x - 14) ** 2 < 49] = 0
labels[(y - 34) ** 2 + (x - 14) ** 2 < 20] = 12
labels[((y - 30) ** 2 + (x - 38) ** 2 < 90) & ((y - 26) ** 2 + (x - 34) ** 2 > 36)] = 13
labels[44, 30:46] = 20
labels[47, 0] = 21
labels[20, 46] = 21
kept["labels"] = labels
for grid, counts in ((1, (8,)), (2, (32, 7)), (4, (16,))):
    kept[f"prob.{grid}"] = edt_prob(labels[::grid, ::grid])
    for rays in counts:
        kept[f"dist.{grid}.{rays}"] = star_dist(labels, rays, mode="cpp", grid=(grid, grid))
whole = np.full((16, 16), 5, np.uint16)
kept["whole"] = whole
kept["prob.whole"], kept["dist.whole"] = edt_prob(whole), star_dist(whole, 8, mode="cpp")

rng = np.random.default_rng(3)
shape = (2, 10, 12)
inside = np.stack([edt_prob(labels[20:40:2, 2:26:2]), edt_prob(labels[5:15, 4:16])])
true_prob = np.where(rng.random(shape) < 0.1, -1, inside)[..., None].astype(np.float32)
mask = np.maximum(true_prob, 0)
true_dist = (rng.uniform(1, 9, shape + (6,)) * (mask > 0)).astype(np.float32)
logit = rng.normal(0, 2, shape + (1,)).astype(np.float32)
dist = (true_dist + rng.normal(0, 2, true_dist.shape)).astype(np.float32)
kept.update({"loss.true_prob": true_prob, "loss.true_dist": true_dist, "loss.logit": logit, "loss.dist": dist})
for kind in ("mae", "mse", "iou"):
    with tempfile.TemporaryDirectory() as folder:
        config = Config2D(n_rays=6, unet_n_depth=1, unet_n_filter_base=2, train_dist_loss=kind, train_tensorboard=False)
        model = StarDist2D(config, name="m", basedir=folder)
        model.prepare_for_training()
        of_prob, of_dist = model.keras_model.loss
        a, b = tf.Variable(logit), tf.Variable(dist)
        target = np.concatenate([true_dist, mask], axis=-1)
        with tf.GradientTape() as tape:
            parts = [tf.reduce_mean(of_prob(true_prob, tf.sigmoid(a))), tf.reduce_mean(of_dist(target, b))]
            total = sum(w * part for w, part in zip(config.train_loss_weights, parts))
        # Keras weighs and averages as the line above.
        keras = model.keras_model.compiled_loss([tf.constant(true_prob), tf.constant(target)], [tf.sigmoid(a), b])
        assert abs(float(keras) - float(total)) < 1e-5 * float(total), (keras, total)
        kept[f"loss.{kind}"] = np.array([float(total)] + [float(part) for part in parts])
        by_logit, by_dist = tape.gradient(total, [a, b])
        kept[f"loss.{kind}.by_logit"], kept[f"loss.{kind}.by_dist"] = by_logit.numpy(), by_dist.numpy()
np.savez_compressed(os.path.join(HERE, "stardist_train.npz"), **kept)
