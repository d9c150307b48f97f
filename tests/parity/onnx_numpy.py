"""Computes an ONNX graph with NumPy: the operators that l3 uses, as the standard defines them (operator set 13)."""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper, numpy_helper


def windows(x, window, strides):
    """(N, C, places..., window...) of x (N, C, sides...)."""
    sides = len(window)
    every = sliding_window_view(x, window, axis=tuple(range(2, 2 + sides)))
    return every[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]


def conv(x, w, bias=None, *, kernel_shape, pads=None, strides=None):
    sides = len(kernel_shape)
    assert w.shape[2:] == tuple(kernel_shape)
    pads = pads or [0] * 2 * sides
    x = np.pad(x, [(0, 0), (0, 0), *((pads[k], pads[sides + k]) for k in range(sides))])
    seen = windows(x, w.shape[2:], strides or [1] * sides)
    y = np.tensordot(seen, w, axes=((1, *range(2 + sides, 2 + 2 * sides)), range(1, 2 + sides)))
    y = np.moveaxis(y, -1, 1)
    return y if bias is None else y + bias.reshape(-1, *[1] * sides)


def batch_norm(x, gain, bias, mean, variance, *, epsilon):
    of = (-1, *[1] * (x.ndim - 2))
    return (x - mean.reshape(of)) / np.sqrt(variance.reshape(of) + epsilon) * gain.reshape(of) + bias.reshape(of)


def gemm(x, w, bias, *, transB):
    return x @ (w.T if transB else w) + bias


def slice_(x, starts, ends, axes):
    places = [slice(None)] * x.ndim
    for start, end, axis in zip(starts, ends, axes):
        places[axis] = slice(start, end)
    return x[tuple(places)]


def softmax(x, *, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


OPERATORS = {
    "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "MatMul": np.matmul, "Sqrt": np.sqrt,
    "Log": np.log, "Conv": conv, "BatchNormalization": batch_norm, "Gemm": gemm, "Slice": slice_, "Softmax": softmax,
    "Relu": lambda x: np.maximum(x, 0),
    "MaxPool": lambda x, *, kernel_shape, strides: windows(x, kernel_shape, strides).max((4, 5)),
    "AveragePool": lambda x, *, kernel_shape, strides: windows(x, kernel_shape, strides).mean((4, 5)),
    "GlobalMaxPool": lambda x: x.max(tuple(range(2, x.ndim)), keepdims=True),
    "Flatten": lambda x: x.reshape(len(x), -1),
    "Reshape": lambda x, shape: x.reshape([x.shape[k] if n == 0 else n for k, n in enumerate(shape)]),
    "Transpose": lambda x, *, perm: x.transpose(perm),
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Gather": lambda x, index, *, axis: x.take(index, axis),
    "ReduceMax": lambda x, *, axes: x.max(tuple(axes), keepdims=True),
    "ReduceSum": lambda x, axes: x.sum(tuple(axes), keepdims=True),
    "Cast": lambda x, *, to: {1: np.float32}[to](x),
}


def run(model, inputs):
    """The outputs of an onnx.ModelProto, in their order, of {name: array}."""
    values = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    values.update(inputs)
    for node in model.graph.node:
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = OPERATORS[node.op_type](*(values[name] for name in node.input), **settings)
    return [values[output.name] for output in model.graph.output]
