"""Makes mesmer.onnx and mesmer.safetensors: a small PanopticNet of random weights, and what onnxruntime says of it.

The graph has the names, the operations and the layout that tf2onnx gives Mesmer's own network; its weights are
random and come from no trained model. Made with Python 3.11, onnx 1.17.0, onnxruntime 1.32.0, numpy 2.0.2:

    pip install onnx==1.17.0 onnxruntime==1.32.0 numpy==2.0.2 safetensors==0.6.2
    python make_mesmer.py
"""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

FILTERS, BLOCKS, PYRAMID, SEMANTIC, DENSE, TILE = 4, (2, 1, 2, 1), 6, 5, 7, 64
rng = np.random.default_rng(20)
nodes, initializers = [], []


def constant(name, values):
    initializers.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def node(op, inputs, output, **attributes):
    nodes.append(helper.make_node(op, inputs, [output], name=output.split(":")[0], **attributes))
    return output


def conv(x, layer, inputs, outputs, side, stride=1, folded=False):
    weight = rng.normal(0, np.sqrt(1.6 / (inputs * side * side)), (outputs, inputs, side, side))
    bias = rng.normal(0.1, 0.2, outputs)
    suffix = ("/BiasAdd_weights_fused_bn", "/BiasAdd_bias_fused_bn") if folded else (
        "/Conv2D/ReadVariableOp:0", "/BiasAdd/ReadVariableOp:0")
    names = [f"panopticnet/{layer}{end}" for end in suffix]
    constant(names[0], weight.astype("float32"))
    constant(names[1], bias.astype("float32"))
    return node("Conv", [x, *names], f"panopticnet/{layer}/BiasAdd:0", strides=[stride] * 2,
                kernel_shape=[side] * 2, pads=[side // 2] * 4, dilations=[1, 1], group=1)


def relu(x, name):
    return node("Relu", [x], f"panopticnet/{name}/Relu:0")


def double(x):
    return node("Resize", [x, "roi", "scales"], x.replace(":0", "/Resize:0"), mode="linear",
                coordinate_transformation_mode="half_pixel", nearest_mode="floor")


def add(a, b, name):
    return node("Add", [a, b], f"panopticnet/{name}/add:0")


constant("scales", np.float32([1, 1, 2, 2]))
constant("roi", np.float32([]))
constant("pads", np.int64([0, 0, 1, 1, 0, 0, 1, 1]))
steps = np.arange(TILE, dtype="float32") / np.float32(TILE - 1)
grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1)[None]
constant("panopticnet/location/grid", grid)

x = node("Concat", ["input_0", "panopticnet/location/grid"], "panopticnet/concatenate_location/concat:0", axis=3)
x = node("Transpose", [x], "panopticnet/transposed:0", perm=[0, 3, 1, 2])
x = conv(x, "conv_channels", 4, 3, 1)
x = conv(x, "conv1_conv", 3, FILTERS, 7, 2)
ends = ("ReadVariableOp:0", "ReadVariableOp_1:0", "FusedBatchNormV3/ReadVariableOp:0",
        "FusedBatchNormV3/ReadVariableOp_1:0")
norm = [f"panopticnet/conv1_bn/{end}" for end in ends]
for name, low, high in zip(norm, (0.5, -0.5, -0.3, 0.5), (1.5, 0.5, 0.3, 2)):
    constant(name, rng.uniform(low, high, FILTERS).astype("float32"))
x = node("BatchNormalization", [x, *norm], "panopticnet/conv1_bn/FusedBatchNormV3:0", epsilon=1.0009999641624745e-05)
x = relu(x, "conv1_relu")
x = node("Pad", [x, "pads"], "panopticnet/pool1_pad/Pad:0")
x = node("MaxPool", [x], "panopticnet/pool1_pool/MaxPool:0", kernel_shape=[3, 3], strides=[2, 2])
stages, inputs = [], FILTERS
for stage, count in enumerate(BLOCKS):
    filters = FILTERS << stage
    for block in range(1, count + 1):
        name = f"conv{stage + 2}_block{block}"
        stride = 2 if block == 1 and stage > 0 else 1
        y = relu(conv(x, f"{name}_1_conv", inputs, filters, 1, stride, True), f"{name}_1_relu")
        y = relu(conv(y, f"{name}_2_conv", filters, filters, 3, 1, True), f"{name}_2_relu")
        y = conv(y, f"{name}_3_conv", filters, 4 * filters, 1, 1, True)
        if block == 1:
            x = conv(x, f"{name}_0_conv", inputs, 4 * filters, 1, stride, True)
        x = relu(add(x, y, f"{name}_add"), f"{name}_out")
        inputs = 4 * filters
    stages.append(x)
deep = conv(stages[3], "C5_reduced", 32 * FILTERS, PYRAMID, 1)
deep = add(conv(stages[2], "C4_reduced", 16 * FILTERS, PYRAMID, 1), double(deep), "P4_merged")
deep = add(conv(stages[1], "C3_reduced", 8 * FILTERS, PYRAMID, 1), double(deep), "P3_merged")
pyramid = conv(deep, "P3", PYRAMID, PYRAMID, 3)
outputs = []
for n, channels in enumerate((1, 3, 1, 3)):
    y = pyramid
    for step, inputs in enumerate((PYRAMID, SEMANTIC, SEMANTIC)):
        y = double(conv(y, f"conv_{step}_semantic_upsample_{n}", inputs, SEMANTIC, 3))
    y = relu(conv(y, f"conv_0_semantic_{n}", SEMANTIC, DENSE, 1, 1, True), f"relu_0_semantic_{n}")
    y = conv(y, f"conv_1_semantic_{n}", DENSE, channels, 1)
    y = relu(y, f"semantic_{n}") if channels == 1 else node("Softmax", [y], f"panopticnet/semantic_{n}/Softmax:0", axis=1)
    node("Transpose", [y], f"semantic_{n}", perm=[0, 2, 3, 1])
    outputs.append(helper.make_tensor_value_info(f"semantic_{n}", TensorProto.FLOAT, ["batch", TILE, TILE, channels]))

# A grid that is not repeated over the batch: one image at a time.
image = helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [1, TILE, TILE, 2])
graph = helper.make_graph(nodes, "panopticnet", [image], outputs, initializers)
model = helper.make_model(graph, producer_name="make_mesmer", ir_version=8,
                          opset_imports=[helper.make_opsetid("", 15)])
onnx.checker.check_model(model)
onnx.save(model, "mesmer.onnx")

image = rng.uniform(0, 1, (1, TILE, TILE, 2)).astype("float32")
session = onnxruntime.InferenceSession("mesmer.onnx", providers=["CPUExecutionProvider"])
found = session.run([f"semantic_{n}" for n in range(4)], {"input_0": image})
for n, head in enumerate(found):
    print(n, head.shape, head.min(), head.max(), head.std())
tensors = {f"semantic_{n}": np.ascontiguousarray(head) for n, head in enumerate(found)}
save_file({"image": image, **tensors}, "mesmer.safetensors")
