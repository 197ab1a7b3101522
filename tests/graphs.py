"""Graphs of all kinds of node, written by hand or drawn at random, for tests of the tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastgd._graph import CALL, CONSTANT, ELEMENTWISE, INPUT, MATMUL, SUM, Node, Primitive

__all__ = ["Writer"]

INPUT_PRIMITIVE = Primitive("input", INPUT)
CONSTANT_PRIMITIVE = Primitive("constant", CONSTANT)
SUM_PRIMITIVE = Primitive("sum", SUM, lambda x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims))
MATMUL_PRIMITIVE = Primitive("matmul", MATMUL, np.matmul)
WHERE = Primitive("where", ELEMENTWISE, np.where)
ASTYPE = Primitive("astype", ELEMENTWISE, lambda x, dtype: np.asarray(x).astype(dtype))
CALLS = {
    "reshape": Primitive("reshape", CALL, lambda x, shape: np.reshape(x, shape)),
    "transpose": Primitive("transpose", CALL, lambda x, axes: np.transpose(x, axes)),
    "broadcast_to": Primitive("broadcast_to", CALL, lambda x, shape: np.broadcast_to(x, shape)),
    "index": Primitive("index", CALL, lambda x, key: x[key]),
    "max": Primitive("max", CALL, lambda x, axis: np.max(x, axis=axis)),
    "concatenate": Primitive("concatenate", CALL, lambda *arrays, axis: np.concatenate(arrays, axis)),
    "real": Primitive("real", CALL, np.real),
}
UFUNCS: dict[np.ufunc, Primitive] = {}


class Writer:
    """Writes nodes; shapes and dtypes come from what NumPy makes of zeros."""

    def input(self, shape: Sequence[int] = (), dtype: Any = np.float64) -> Node:
        return Node(INPUT_PRIMITIVE, (), tuple(shape), np.dtype(dtype))

    def constant(self, value: Any) -> Node:
        value = np.asarray(value)
        return Node(CONSTANT_PRIMITIVE, (), value.shape, value.dtype, value=value)

    def __call__(self, ufunc: np.ufunc, *inputs: Node) -> Node:
        primitive = UFUNCS.setdefault(ufunc, Primitive(ufunc.__name__, ELEMENTWISE, ufunc, ufunc))
        shape = np.broadcast_shapes(*(node.shape for node in inputs))
        dtype = ufunc.resolve_dtypes((*(node.dtype for node in inputs), None))[-1]
        return Node(primitive, inputs, shape, dtype)

    def where(self, condition: Node, x: Node, y: Node) -> Node:
        return Node(WHERE, (condition, x, y), np.broadcast_shapes(condition.shape, x.shape, y.shape), x.dtype)

    def astype(self, x: Node, dtype: Any) -> Node:
        return Node(ASTYPE, (x,), x.shape, np.dtype(dtype), {"dtype": np.dtype(dtype)})

    def sum(self, x: Node, axis: Sequence[int] | None = None, keepdims: bool = False) -> Node:
        axes = tuple(range(len(x.shape))) if axis is None else tuple(axis)
        shape = tuple(
            1 if i in axes else size for i, size in enumerate(x.shape) if keepdims or i not in axes
        )
        return Node(SUM_PRIMITIVE, (x,), shape, x.dtype, {"axis": axes, "keepdims": keepdims})

    def matmul(self, x: Node, y: Node) -> Node:
        outer = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        return Node(MATMUL_PRIMITIVE, (x, y), (*outer, x.shape[-2], y.shape[-1]), x.dtype)

    def call(self, name: str, *inputs: Node, **attributes: Any) -> Node:
        primitive = CALLS[name]
        result = np.asarray(primitive.apply(*(np.zeros(x.shape, x.dtype) for x in inputs), **attributes))
        return Node(primitive, inputs, result.shape, result.dtype, attributes)
