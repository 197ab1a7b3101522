"""Arrays over memory that others own, without a copy: NumPy's, PyTorch's, of the buffer protocol, of DLPack.

The only place that looks at what kind of object an optimiser was given. What cannot be shared, or not written, is
refused by name.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastgd import _updates
from fastgd._validation import is_real

__all__ = ["gradient_view", "is_tensor", "parameter_view"]

#: DLPack's number for memory of the CPU.
DLPACK_CPU = 1


def is_tensor(value: Any) -> bool:
    """Whether this is a PyTorch tensor, which it can only be where PyTorch was imported."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)     # none yet while torch is being imported
    return tensor is not None and isinstance(value, tensor)


def parameter_view(value: Any, name: str) -> tuple[np.ndarray, Any]:
    """The memory of a parameter as an array that may be written, and the tensor that it is of, if it is one.

    Raises
    ------
    TypeError, ValueError
        If it has no memory that can be shared, or not float32 or float64 in native byte order, or if it is read-only,
        not aligned, or has elements that share memory.
    """
    owner = value if is_tensor(value) else None
    if owner is not None and not value.is_leaf:
        raise ValueError(f"{name} is a tensor that was computed from others, and must be a leaf: detach() makes it one")
    array = view_of(value, name)
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(f"{name} must be float32 or float64 in native byte order to be updated in place, "
                        f"got {array.dtype}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only, and is to be updated in place")
    if not array.flags.aligned:
        raise ValueError(f"{name} must be aligned to its elements")
    if overlaps_itself(array):
        raise ValueError(f"{name} has elements that share memory, with strides {array.strides} and shape {array.shape}")
    return array, owner


def gradient_view(value: Any, name: str, parameter: np.ndarray) -> np.ndarray:
    """The memory of a gradient as an array; of a number where the parameter is one, an array of it."""
    if parameter.ndim == 0 and isinstance(value, (int, float)) and is_real(value):
        return np.asarray(value, parameter.dtype)
    return view_of(value, name)


def view_of(value: Any, name: str) -> np.ndarray:
    """The memory of an array, a tensor, or anything with the buffer protocol or DLPack."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill or drop the masked entries first")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if is_tensor(value):
        return tensor_view(value, name)
    try:
        return np.asarray(memoryview(value))
    except TypeError:
        pass
    except ValueError as error:
        raise TypeError(f"{name} has a buffer that is no array of numbers: {error}") from None
    if hasattr(value, "__dlpack__"):
        return dlpack_view(value, name)
    raise TypeError(
        f"{name} must be an array, a tensor, or an object with the buffer protocol or DLPack, "
        f"got {type(value).__name__}"
    )


def tensor_view(tensor: Any, name: str) -> np.ndarray:
    """The memory of a dense tensor of the CPU."""
    if tensor.device.type != "cpu":
        raise TypeError(f"{name} is a tensor on {tensor.device}, and must be on the CPU")
    if str(tensor.layout) != "torch.strided":
        raise TypeError(f"{name} is a tensor of layout {tensor.layout}, and must be dense")
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise TypeError(f"{name} must be float32 or float64, got a tensor of {tensor.dtype}")
    try:
        return tensor.detach().numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(f"{name} is a tensor whose memory cannot be shared: {error}") from None


def dlpack_view(value: Any, name: str) -> np.ndarray:
    """What DLPack hands over. NumPy takes it for read-only unless the other side says that it is not."""
    device = value.__dlpack_device__()[0]
    if device != DLPACK_CPU:
        raise TypeError(f"{name} is on a device of DLPack's type {int(device)}, and must be on the CPU")
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError) as error:
        raise TypeError(f"{name} cannot be shared by DLPack: {error}") from None


def overlaps_itself(array: np.ndarray) -> bool:
    """Whether elements share memory; True also of strides that are too entangled to tell.

    They do not if each stride is longer than all that the shorter ones span.
    """
    span = array.itemsize
    axes = zip(array.strides, array.shape, strict=True)
    for stride, length in sorted((abs(stride), length) for stride, length in axes):
        if length > 1:
            if stride < span:
                return array.size > 0
            span += stride * (length - 1)
    return False


def refuse_shared(parameters: list[_updates.Parameter]) -> None:
    """Raise ValueError if two parameters share memory."""
    spans = sorted((*_updates.span(parameter.array), k) for k, parameter in enumerate(parameters))
    near: list[tuple[int, int]] = []        # (end, number) of those that may reach as far as the next one starts
    for start, stop, k in spans:
        near = [(end, j) for end, j in near if end > start]
        for _, j in near:
            if _updates.share(parameters[j].array, parameters[k].array):
                first, second = sorted((j, k))
                raise ValueError(
                    f"parameter {parameters[second].name} shares memory with parameter {parameters[first].name}"
                )
        near.append((stop, k))
