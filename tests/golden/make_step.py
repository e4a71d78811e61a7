"""Records one SelfAdapt step of the PyTorch reference, for tests/step_parity.rs.

    python tests/golden/make_step.py ../shared/reference/selfadapt_torch.py ../shared/assets/cellpose/cyto_scellseg.pt

Needs `pip install torch==2.6.0 cellpose==3.1.1.3`. Writes tests/golden/step.safetensors: the crops are drawn
here (blobs and noise), so only numbers computed from them are stored; weights are stored as the norm of how far
each moved. Augmentation is off. The reference takes its quantiles of every seventh value for speed; here it
takes them of all values, as our gate does.
"""
import importlib.util, json, struct, sys
import numpy as np
import torch


def blobs(batch=2, side=64, seed=11):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    crops = np.zeros((batch, 2, side, side), np.float32)
    for b in range(batch):
        for _ in range(9):
            cy, cx, r = rng.uniform(0, side, 2).tolist() + [rng.uniform(5, 11)]
            crops[b, 0] = np.maximum(crops[b, 0], np.exp(-(((y - cy) ** 2 + (x - cx) ** 2) / r**2) ** 2))
    crops[:, 0] += 0.05 * rng.standard_normal(crops[:, 0].shape)
    return crops.astype(np.float16).astype(np.float32)


def save(path, tensors):
    header, blob = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        kind = {"float32": "F32", "float16": "F16", "uint8": "U8"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + blob)


spec = importlib.util.spec_from_file_location("reference", sys.argv[1])
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)


class Full(ref.Thresholds):
    def regression(self, std):
        q = torch.stack([torch.quantile(std[:, c].flatten(), 0.8) for c in range(std.shape[1])])
        self.reg = self.ema(self.reg, q)
        return (std <= self.reg.view(1, -1, 1, 1)).float()

    def classification(self, prob):
        mask = torch.zeros_like(prob)
        for name, sel, conf in (("cell", prob >= 0.5, prob), ("background", prob < 0.5, 1 - prob)):
            self.cls[name] = self.ema(self.cls.get(name), torch.quantile(conf[sel], 0.2))
            mask = torch.where(sel & (conf >= self.cls[name]), torch.ones_like(mask), mask)
        return mask


torch.manual_seed(0)
torch.set_num_threads(1)
sa = ref.SelfAdapt(sys.argv[2], lr=3e-4, iters=60, warmup=1, l2sp=1e-2, lam=0.5, ema=0.95, views=8, strong_aug=False)
sa.th = Full()
x = torch.from_numpy(blobs())
with torch.no_grad():
    flow, std, prob = ref.pseudo_labels(sa.teacher, x, 8)
    th = Full()
    masks = [th.regression(std), th.classification(prob)]
before = {k: v.clone() for k, v in sa.student.state_dict().items()}
reports = [sa.step(x, None) for _ in range(2)]
out = {"crops": x.numpy().astype(np.float16), "flow": flow.numpy(), "spread": std.numpy(), "probability": prob.numpy(),
       "flow_mask": masks[0].numpy().astype(np.uint8), "cell_mask": masks[1].numpy().astype(np.uint8),
       "loss": np.array([r["loss"] for r in reports], np.float32), "regression": np.array([r["reg"] for r in reports], np.float32),
       "classification": np.array([r["cls"] for r in reports], np.float32), "distance": np.array([r["sp"] for r in reports], np.float32)}
for role, net in (("student", sa.student), ("teacher", sa.teacher)):
    for k, v in net.state_dict().items():
        if v.dtype.is_floating_point and not k.startswith("diam"):
            out[f"{role}/{k}"] = np.array([float((v - before[k]).double().norm()), float(v.double().norm())], np.float32)
save("tests/golden/step.safetensors", out)
print(reports)
