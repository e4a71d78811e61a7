"""Records what PyTorch answers for the elementary kernels, in tests/golden/kernels.safetensors.

    python tests/golden/make_kernels.py        (torch 2.6, numpy; seeded)

Names are CASE/ARRAY; selfadapt-kernels/src/golden.rs reads them.
"""
import json, pathlib, struct
import numpy as np
import torch
import torch.nn.functional as F

torch.manual_seed(20261122)
torch.set_num_threads(1)
arrays = {}


def keep(case, **tensors):
    for name, tensor in tensors.items():
        arrays[f"{case}/{name}"] = tensor.detach().contiguous().numpy()


def leaf(*shape, scale=1.0, shift=0.0):
    return (torch.randn(*shape) * scale + shift).requires_grad_()


def back(y):
    """Backward from a random gradient, which is returned."""
    dy = torch.randn_like(y)
    y.backward(dy)
    return dy


for case, shape in (("odd", (2, 3, 3, 5)), ("one", (3, 2, 1, 1)), ("wide", (1, 2, 3, 17))):
    for relu in (False, True):
        for train in (True, False):
            x, gamma, beta = leaf(*shape, scale=2, shift=0.7), leaf(shape[1]), leaf(shape[1])
            mean, variance = torch.randn(shape[1]), torch.rand(shape[1]) + 0.2
            y = F.batch_norm(x, mean.clone(), variance.clone(), gamma, beta, train, 0.05, 1e-5)
            y = F.relu(y) if relu else y
            dy = back(y)
            name = f"batch_norm_{'train' if train else 'eval'}_{'relu' if relu else 'plain'}_{case}"
            keep(name, x=x, gamma=gamma, beta=beta, mean=mean, variance=variance, y=y, dy=dy,
                 dx=x.grad, dgamma=gamma.grad, dbeta=beta.grad)
            if train:
                v, m = torch.var_mean(x, (0, 2, 3), correction=0)
                keep(name, batch_mean=m, batch_variance=v)

for case, shape in (("odd", (2, 2, 5, 7)), ("even", (1, 3, 6, 4)), ("ties", (1, 2, 5, 6))):
    for kernel, stride in ((2, 2), (3, 2), (2, 1), (2, 3)):
        x = leaf(*shape)
        if case == "ties":
            x = (torch.randn(*shape) * 1.5).round().requires_grad_()
        y = F.max_pool2d(x, kernel, stride)
        dy = back(y)
        keep(f"max_pool_{kernel}_{stride}_{case}", x=x, y=y, dy=dy, dx=x.grad)

for h, w in ((1, 1), (3, 2), (5, 7)):
    x = leaf(2, 2, h, w)
    y = F.interpolate(x, scale_factor=2, mode="nearest")
    dy = back(y)
    keep(f"nearest_{h}_{w}", x=x, y=y, dy=dy, dx=x.grad)
    for oh, ow in ((2 * h, 2 * w), (7, 5), (2, 3)):
        x = leaf(1, 2, h, w)
        y = F.interpolate(x, size=(oh, ow), mode="bilinear", align_corners=False)
        dy = back(y)
        keep(f"bilinear_{h}_{w}_{oh}_{ow}", x=x, y=y, dy=dy, dx=x.grad)

mask = (torch.rand(2, 3, 5, 7) > 0.4).float()
logits, prob = leaf(2, 3, 5, 7, scale=6), torch.rand(2, 3, 5, 7)
loss = (mask * F.binary_cross_entropy_with_logits(logits, prob, reduction="none")).sum() / mask.sum()
loss.backward()
keep("bce", prediction=logits, target=prob, mask=mask, loss=loss, gradient=logits.grad)
pred, target = leaf(2, 3, 5, 7, scale=3), torch.randn(2, 3, 5, 7)
loss = (mask * (pred - target) ** 2).sum() / mask.sum()
loss.backward()
keep("mse", prediction=pred, target=target, mask=mask, loss=loss, gradient=pred.grad)
mask = mask[:, :1].contiguous()
logits, prob = leaf(2, 3, 5, 7, scale=6), torch.softmax(torch.randn(2, 3, 5, 7), 1)
loss = (mask[:, 0] * F.cross_entropy(logits, prob, reduction="none")).sum() / mask.sum()
loss.backward()
keep("cross_entropy", prediction=logits, target=prob, mask=mask, loss=loss, gradient=logits.grad)

# Flows (a vector in channels 0 and 1) and a logit, seen in the eight views and undone.
outputs = []
for flip in (False, True):
    for turns in range(4):
        output = torch.randn(2, 3, 4, 6) if turns % 2 == 0 else torch.randn(2, 3, 6, 4)
        keep(f"views_{'flip' if flip else 'keep'}_{turns}", output=output)
        for _ in range(4 - turns):
            output = torch.rot90(output, 1, [2, 3])
            output = torch.cat([-output[:, 1:2], output[:, 0:1], output[:, 2:]], 1)
        if flip:
            output = torch.flip(output, [3])
            output = torch.cat([output[:, 0:1], -output[:, 1:2], output[:, 2:]], 1)
        outputs.append(output)
stack = torch.stack(outputs)
prob, softmax = torch.sigmoid(stack[:, :, 2:]), torch.softmax(stack, 2)
keep("views_merged", flow_mean=stack[:, :, :2].mean(0), flow_std=stack[:, :, :2].std(0, unbiased=False),
     prob_mean=prob.mean(0), prob_std=prob.std(0, unbiased=False))
image = torch.randn(1, 2, 3, 5)
keep("turn", image=image)
for flip in (False, True):
    for turns in range(4):
        view = torch.rot90(torch.flip(image, [3]) if flip else image, turns, [2, 3])
        keep("turn", **{f"{'flip' if flip else 'keep'}_{turns}": view})

values = torch.randn(2, 3, 11, 13)
keep("quantile", values=values)
for q in (0.0, 0.2, 0.5, 0.8, 0.999, 1.0):
    channels = [np.quantile(values[:, c].numpy().astype(np.float64), q) for c in range(3)]
    keep("quantile", **{f"q{q}": torch.tensor(channels, dtype=torch.float32)})

pull, scale = 0.3, 0.7
weights = [torch.randn(n).requires_grad_() for n in (5, 33, 70)]
anchors = [torch.randn_like(w) for w in weights]
teachers = [torch.randn_like(w) for w in weights]
optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.05)
for k, (w, a, t) in enumerate(zip(weights, anchors, teachers)):
    keep(f"adamw_{k}", weight=w.clone(), anchor=a, teacher=t.clone())
for step, rate in enumerate((1e-2, 3e-2, 2e-2)):
    optimizer.param_groups[0]["lr"] = rate
    for k, (w, a) in enumerate(zip(weights, anchors)):
        data = torch.randn_like(w)
        w.grad = (scale * data + pull * (w - a)).detach()
        keep(f"adamw_{k}", **{f"gradient{step}": data})
    optimizer.step()
    for k, (w, t) in enumerate(zip(weights, teachers)):
        with torch.no_grad():
            t.mul_(0.9).add_(w, alpha=0.1)
        state = optimizer.state[w]
        keep(f"adamw_{k}", **{f"weight{step}": w.clone(), f"teacher{step}": t.clone(),
                              f"first{step}": state["exp_avg"].clone(), f"second{step}": state["exp_avg_sq"].clone()})

# Further cases stand last, so that the numbers of those before them stay as they are.
for kernel, stride, (ci, co), (h, w) in ((3, 1, (5, 7), (6, 9)), (3, 1, (32, 16), (9, 11)), (1, 1, (6, 3), (5, 4)),
                                         (3, 2, (4, 6), (9, 8)), (7, 2, (3, 5), (11, 10)), (1, 2, (5, 4), (7, 6)),
                                         (5, 1, (2, 3), (7, 5))):
    x, weight, bias = leaf(2, ci, h, w), leaf(co, ci, kernel, kernel, scale=0.3), leaf(co)
    y = F.conv2d(x, weight, bias, stride, kernel // 2)
    dy = back(y)
    keep(f"conv2d_{kernel}_{stride}_{ci}_{co}", x=x, weight=weight, bias=bias, y=y, dy=dy,
         dx=x.grad, dweight=weight.grad, dbias=bias.grad)
# Longer than the kernels' blocks of pixels.
x, gamma, beta = leaf(1, 2, 35, 40, scale=2, shift=0.7), leaf(2), leaf(2)
y = F.relu(F.batch_norm(x, torch.zeros(2), torch.ones(2), gamma, beta, True, 0.05, 1e-5))
dy = back(y)
v, m = torch.var_mean(x, (0, 2, 3), correction=0)
keep("batch_norm_train_relu_long", x=x, gamma=gamma, beta=beta, y=y, dy=dy, dx=x.grad, dgamma=gamma.grad,
     dbeta=beta.grad, batch_mean=m, batch_variance=v)
x = leaf(1, 1, 4, 301)
y = F.max_pool2d(x, 2, 2)
dy = back(y)
keep("max_pool_2_2_long", x=x, y=y, dy=dy, dx=x.grad)

header, offset = {}, 0
for name in sorted(arrays):
    size = arrays[name].nbytes
    header[name] = {"dtype": "F32", "shape": list(arrays[name].shape), "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
path = pathlib.Path(__file__).with_name("kernels.safetensors")
path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(arrays[n].astype("<f4").tobytes() for n in sorted(arrays)))
print(path, path.stat().st_size, "bytes,", len(arrays), "arrays")
