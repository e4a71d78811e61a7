"""PyTorch's side of `cargo xtask bench`: times the parts of an adaptation step of CPnet, one for each line that it reads.

usage: bench_step.py REFERENCE CHECKPOINT BATCH CROP VIEWS THREADS

REFERENCE is selfadapt_torch.py, imported from there; it runs in its fastest f32 form, channels_last. For each name of
a part on standard input it prints a line of JSON with seconds, or the process's peak memory in MiB.
"""
import importlib.util
import json
import resource
import sys
import time

reference, checkpoint, *numbers = sys.argv[1:]
batch, crop, views, threads = map(int, numbers)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(threads)
torch.manual_seed(0)
spec = importlib.util.spec_from_file_location("selfadapt_torch", reference)
theirs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(theirs)

adapting = theirs.SelfAdapt(checkpoint, l2sp=1e-2, ema=0.99, lam=1.0, views=views)
for network in (adapting.student, adapting.teacher):
    network.to(memory_format=torch.channels_last)
generator = torch.Generator().manual_seed(0)
images = torch.rand(batch, 2, crop, crop, generator=generator).to(memory_format=torch.channels_last)
made = {}


def clocks():
    return time.perf_counter(), time.process_time()


def between(start, end):
    return {"wall": end[0] - start[0], "cpu": end[1] - start[1]}


def prepare():
    """What the parts after the whole step work on."""
    if made:
        return
    with torch.no_grad():
        # Each view's output is as large as any other's, so one pass serves for all.
        output = adapting.teacher(images)[0]
        made["outputs"] = [output] * views
        flow = output[:, :2]
        made["label"] = flow, flow.abs(), torch.sigmoid(output[:, 2:])
    masks()
    student()


def masks():
    _, spread, probability = made["label"]
    thresholds = theirs.Thresholds()
    made["masks"] = thresholds.regression(spread), thresholds.classification(probability)


def student():
    """The data loss, as SelfAdapt.step has it, and its parts' seconds."""
    flow, _, probability = made["label"]
    of_flow, of_cells = made["masks"]
    adapting.opt.zero_grad(set_to_none=True)
    began = clocks()
    out = adapting.student(images)[0]
    asked = clocks()
    regression = (of_flow * (out[:, :2].float() - flow) ** 2).sum() / of_flow.sum().clamp(min=1)
    cross = F.binary_cross_entropy_with_logits(out[:, 2:].float(), probability.float(), reduction="none")
    loss = adapting.lam * regression + (of_cells * cross).sum() / of_cells.sum().clamp(min=1)
    answered = clocks()
    loss.backward()
    return {"forward": between(began, asked), "loss": between(asked, answered), "backward": between(answered, clocks())}


def optimiser():
    """L2-SP's value and gradient, AdamW, and the teacher's moving average, as SelfAdapt.step has them."""
    pull = sum(((p - w) ** 2).sum() for p, w in zip(adapting.params, adapting.w0))
    (0.5 * adapting.l2sp * pull).backward()
    adapting.opt.step()
    with torch.no_grad():
        for t, s in zip(adapting.teacher.state_dict().values(), adapting.student.state_dict().values()):
            if t.dtype.is_floating_point:
                t.mul_(adapting.ema).add_(s, alpha=1 - adapting.ema)
            else:
                t.copy_(s)


@torch.no_grad()
def merge():
    for k, f in theirs.VIEWS[views]:
        theirs.turn(images, k, f, False)
    undone = torch.stack([theirs.unturn(o, k, f, True) for o, (k, f) in zip(made["outputs"], theirs.VIEWS[views])])
    undone = undone.float()
    torch.sigmoid(undone[:, :, 2:]).mean(0)
    return undone[:, :, :2].mean(0), undone[:, :, :2].std(0, unbiased=False)


def peaks():
    """What the machine can do at most: a matrix product, and a copy that no cache holds."""
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    long, copy = torch.rand(1 << 26), torch.empty(1 << 26)

    def best(run):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    product, copying = best(lambda: torch.mm(a, b)), best(lambda: copy.copy_(long))
    return {"gflops": 2 * 2048**3 / product / 1e9, "gigabytes": 2 * long.nbytes / copying / 1e9}


PARTS = {
    "step": lambda: adapting.step(images, generator),
    "teacher": lambda: theirs.pseudo_labels(adapting.teacher, images, views),
    "masks": masks,
    "optimiser": optimiser,
    "views": merge,
    "augmentation": lambda: theirs.strong(images, generator),
}

for line in sys.stdin:
    part = line.strip()
    if part == "memory":
        found = {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    elif part == "versions":
        found = {"torch": torch.__version__}
    elif part == "peaks":
        found = peaks()
    elif part == "student":
        prepare()
        found = student()
    else:
        if part != "step":
            prepare()
        start = clocks()
        PARTS[part]()
        found = between(start, clocks())
    print(json.dumps(found), flush=True)
