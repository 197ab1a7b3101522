"""The only place that converts or refuses what users pass.

Above this line anything may come; below it arrays are ndarrays of a real dtype and of matching shapes, and numbers are
finite numbers of the right kind. Finiteness of array elements is checked by the passes that read them anyway:
`refuse_nonfinite` is called when their sums are not finite, to tell bad input from overflow.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

__all__ = [
    "as_accumulator",
    "as_flag",
    "as_matrix",
    "as_number",
    "as_parameters",
    "as_positive_integer",
    "as_vector",
    "as_weights",
    "check_out",
    "kernel_dtype",
    "refuse_nonfinite",
    "refuse_overlap",
]

SCAN_BYTES = 1 << 20


def as_array(value: Any, name: str) -> np.ndarray:
    """`value` as an ndarray of a real dtype: bool, integer or floating, in any byte order."""
    if value is None:
        raise TypeError(f"{name} must be an array, got None")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill or drop the masked entries first")
    if hasattr(value, "indptr") or hasattr(value, "tocsr"):
        raise TypeError(f"{name} is a sparse matrix; this version takes dense arrays only, such as {name}.toarray()")
    try:
        array = from_frame(value, name) if hasattr(value, "columns") else np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array: {error}") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array


def from_frame(frame: Any, name: str) -> np.ndarray:
    """A data frame's columns side by side; of bool, integer and floating types together, where NumPy gives objects."""
    array = np.asarray(frame)
    if array.dtype.kind != "O" or not hasattr(frame, "dtypes"):
        return array
    for column, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if getattr(dtype, "kind", "O") not in "buif":
            raise TypeError(f"{name} must hold real numbers, but its column {column!r} has dtype {dtype}")
    return frame.to_numpy(np.float64, na_value=np.nan)


def kernel_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which data of this dtype is computed: float32 for float16 and float32, else float64."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def as_matrix(X: Any, name: str = "X", n_features: int | None = None) -> np.ndarray:
    """X of shape (n_samples, n_features), neither of them zero."""
    array = as_array(X, name)
    if array.ndim != 2:
        hint = f"; one feature is {name}[:, None], one sample {name}[None, :]" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have shape (n_samples, n_features), got {array.shape}{hint}")
    if 0 in array.shape:
        raise ValueError(f"{name} must have at least one row and one column, got shape {array.shape}")
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(f"{name} must have {n_features} columns, got {array.shape[1]}")
    return array


def as_vector(y: Any, n_samples: int, name: str = "y") -> np.ndarray:
    """One number for each sample."""
    array = as_array(y, name)
    if array.shape != (n_samples,):
        hint = f"; {name}.ravel() makes a vector of it" if array.size == n_samples and array.ndim > 1 else ""
        raise ValueError(f"{name} must have shape ({n_samples},), one entry for each row of X, got {array.shape}{hint}")
    return array


def as_weights(sample_weight: Any, n_samples: int) -> tuple[np.ndarray | None, float]:
    """The weights of the samples, or None, and their sum."""
    if sample_weight is None:
        return None, float(n_samples)
    weights = as_vector(sample_weight, n_samples, "sample_weight")
    lowest = float(weights.min())
    total = float(np.sum(weights, dtype=np.float64))
    if not np.isfinite(total) or not np.isfinite(lowest):
        refuse_nonfinite(sample_weight=weights)
        raise ValueError("sample_weight sums to infinity")
    if lowest < 0:
        raise ValueError(f"sample_weight must not be negative, got {lowest:g} at index {int(weights.argmin())}")
    if total == 0:
        raise ValueError("sample_weight is zero everywhere")
    return weights, total


def as_parameters(w: Any, n_parameters: int, name: str = "w") -> np.ndarray:
    """Parameters, or a direction among them, as an aligned native float vector."""
    array = as_array(w, name)
    if array.shape != (n_parameters,):
        raise ValueError(f"{name} must have shape ({n_parameters},), got {array.shape}")
    return np.require(array, kernel_dtype(array.dtype), "A").copy()


def check_out(out: Any, n_parameters: int, name: str = "out") -> None:
    """Raise what is wrong with an array that a result was to be written to."""
    if type(out) is not np.ndarray:
        raise TypeError(f"{name} must be a NumPy array, got {type(out).__name__}")
    if out.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64 in native byte order, got {out.dtype}")
    if out.shape != (n_parameters,):
        raise ValueError(f"{name} must have shape ({n_parameters},), got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only")
    raise ValueError(f"{name} must be aligned to its elements")


def refuse_overlap(out: np.ndarray, name: str = "out", **inputs: Any) -> None:
    """Raise ValueError if `out` shares memory with one of the inputs."""
    for input_name, value in inputs.items():
        try:
            shared = value is not None and np.shares_memory(out, np.asarray(value), max_work=100_000)
        except np.exceptions.TooHardError:
            shared = True
        if shared:
            raise ValueError(f"{name} shares memory with {input_name}")


def refuse_nonfinite(**arrays: Any) -> None:
    """Raise ValueError that names the first array with a NaN or an infinity, and where in it the first one is."""
    for name, array in arrays.items():
        index = None if array is None else first_nonfinite(np.asarray(array))
        if index is not None:
            value = np.asarray(array)[index]
            where = ", ".join(str(i) for i in index)
            raise ValueError(f"{name} holds {value} at index {where if len(index) == 1 else f'({where})'}")


def first_nonfinite(array: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first NaN or infinity in row order, found without a copy of the array."""
    if array.dtype.kind != "f":
        return None
    rows = max(1, SCAN_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        bad = ~np.isfinite(array[start : start + rows])
        if bad.any():
            place = np.unravel_index(int(bad.argmax()), bad.shape)
            return (start + int(place[0]), *(int(i) for i in place[1:]))
    return None


def as_number(value: Any, name: str, *, above: float | None = None, least: float | None = None) -> float:
    """A finite real number, greater than `above` or at least `least`."""
    wanted = "a finite number" + (f" above {above:g}" if above is not None else "")
    wanted += f" of at least {least:g}" if least is not None else ""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, np.floating, np.integer)):
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not np.isfinite(number) or (above is not None and number <= above) or (least is not None and number < least):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return number


def as_positive_integer(value: Any, name: str) -> int:
    """An integer of at least 1."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Integral, np.integer)):
        raise TypeError(f"{name} must be an integer of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)


def as_accumulator(dtype: Any, name: str = "dtype") -> bool:
    """Whether sums are to be double throughout: float64 says so, None leaves it to the data."""
    if dtype is None:
        return False
    try:
        wide = np.dtype(dtype) == np.float64
    except TypeError:
        wide = False
    if not wide:
        raise ValueError(f"{name} must be None or float64, got {dtype!r}")
    return True


def as_flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)
