"""Crops of Cellpose 3.1.1's random_rotate_and_resize and what it drew: python make_warp.py writes warp.npz."""

import os

import numpy as np
from cellpose import dynamics, transforms

SIDE = 48
HERE = os.path.dirname(os.path.abspath(__file__))

y, x = np.mgrid[:60, :70].astype("float32")
image = np.stack([np.sin(y / 5) + np.cos(x / 4), np.exp(-((y - 20) ** 2 + (x - 40) ** 2) / 200)]).astype("float32")
masks = np.zeros((60, 70), "int32")
masks[(y - 22) ** 2 + (x - 30) ** 2 < 150] = 1
masks[((y - 40) / 1.5) ** 2 + (x - 48) ** 2 < 90] = 2
maps = np.concatenate([(masks > 0)[None], dynamics.masks_to_flows_cpu(masks)[0]]).astype("float32")

drawn, images, targets = [], [], []
for seed, rescale in enumerate([1.0, 0.8, 1.4, 0.6, 1.1]):
    np.random.seed(seed)
    flip = np.random.rand() > 0.5
    angle = np.random.rand() * np.pi * 2
    scale = np.float32((1 - 0.25 + 0.5 * np.random.rand())) / rescale
    room = np.maximum(0, np.array([70 * scale - SIDE, 60 * scale - SIDE]))
    shift = (np.random.rand(2) - 0.5) * room
    drawn.append([flip, angle, scale, shift[1], shift[0]])
    np.random.seed(seed)
    found = transforms.random_rotate_and_resize(
        [image], Y=[maps], rescale=[rescale], scale_range=0.5, xy=(SIDE, SIDE)
    )
    images.append(found[0][0])
    targets.append(found[1][0])
np.savez_compressed(
    os.path.join(HERE, "warp.npz"),
    image=image,
    maps=maps,
    drawn=np.array(drawn, "float64"),
    images=np.stack(images).astype("float32"),
    targets=np.stack(targets).astype("float32"),
)
