"""The only place that converts or refuses what users pass.

Above this line anything may come; below it arrays are ndarrays of a real dtype and of matching shapes, and numbers are
finite numbers of the right kind. Finiteness of array elements is checked by the passes that read them anyway:
`refuse_nonfinite` is called when their sums are not finite, to tell bad input from overflow.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastgd import _sparse
from fastgd._csr import CSR

__all__ = [
    "as_accumulator",
    "as_choice",
    "as_flag",
    "as_matrix",
    "as_number",
    "as_parameters",
    "as_positive_integer",
    "as_seed",
    "as_targets",
    "as_vector",
    "as_weights",
    "check_out",
    "column_names",
    "kernel_dtype",
    "refuse_nonfinite",
    "refuse_other_names",
    "refuse_overlap",
]

SCAN_BYTES = 1 << 20


def as_array(value: Any, name: str) -> np.ndarray:
    """`value` as an ndarray of a real dtype: bool, integer or floating, in any byte order."""
    if value is None:
        raise TypeError(f"{name} must be an array, got None")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill or drop the masked entries first")
    if is_sparse(value):
        raise TypeError(f"{name} is a sparse matrix, and must be a dense array, such as {name}.toarray().ravel()")
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


def column_names(X: Any) -> tuple[str, ...] | None:
    """The names of the columns of a frame of pandas or polars, or a table of Arrow, if they all are strings."""
    names = getattr(X, "column_names", None) or getattr(X, "columns", None)
    if names is None:
        return None
    names = tuple(names)
    return names if names and all(isinstance(name, str) for name in names) else None


def refuse_other_names(X: Any, expected: tuple[str, ...] | None, name: str = "X") -> None:
    """Raise ValueError if the columns of a frame have names, but not those, or not in that order."""
    names = None if expected is None else column_names(X)
    if expected is None or names is None or names == expected:
        return
    missing = [column for column in expected if column not in names]
    if missing:
        raise ValueError(f"{name} lacks the column {missing[0]!r} of the fit")
    unknown = [column for column in names if column not in expected]
    if unknown:
        raise ValueError(f"{name} has a column {unknown[0]!r} that was not in the fit")
    place = next((k for k, pair in enumerate(zip(names, expected, strict=False)) if pair[0] != pair[1]), len(expected))
    raise ValueError(
        f"{name} must have the columns of the fit in their order, but its column {place} is {names[place]!r}; take "
        "the columns feature_names of it"
    )


def kernel_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which data of this dtype is computed: float32 for float16 and float32, else float64."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def as_matrix(X: Any, name: str = "X", n_features: int | None = None) -> np.ndarray | CSR:
    """X of shape (n_samples, n_features), neither of them zero."""
    matrix = X if isinstance(X, CSR) else as_csr(X, name) if is_sparse(X) else as_array(X, name)
    check_matrix_shape(matrix.shape, name)
    if n_features is not None and matrix.shape[1] != n_features:
        raise ValueError(f"{name} must have {n_features} columns, got {matrix.shape[1]}")
    return matrix


def check_matrix_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 2:
        hint = f"; one feature is {name}[:, None], one sample {name}[None, :]" if len(shape) == 1 else ""
        raise ValueError(f"{name} must have shape (n_samples, n_features), got {shape}{hint}")
    if 0 in shape:
        raise ValueError(f"{name} must have at least one row and one column, got shape {shape}")


# ---- sparse matrices -------------------------------------------------------------------------------------------------


def is_sparse(value: Any) -> bool:
    """Whether this is a sparse matrix of any format, of SciPy or of a class that is like it."""
    return hasattr(value, "indptr") or hasattr(value, "tocsr")


def as_csr(X: Any, name: str) -> CSR:
    """A sparse matrix whose indices can be trusted: its own arrays if its format is CSR, else those of a copy.

    Whatever has `indptr`, `indices`, `data` and `shape` is CSR unless its `format` says otherwise: CSC has them too.
    Other formats are converted by their own `tocsr`. Index arrays are copied if they are not contiguous, aligned, in
    native byte order and both int32 or both int64.
    """
    if not is_csr(X):
        converted = X.tocsr() if hasattr(X, "tocsr") else None
        if not is_csr(converted):
            raise TypeError(f"{name} is a sparse matrix, but none in CSR format (indptr, indices, data, shape)")
        X = converted
    shape = X.shape
    if not (isinstance(shape, tuple) and all(isinstance(size, (int, np.integer)) and size >= 0 for size in shape)):
        raise TypeError(f"{name}.shape must be (n_samples, n_features), got {shape!r}")
    check_matrix_shape(shape, name)
    data = as_array(X.data, f"{name}.data")
    indices, indptr = as_indices(X.indices, f"{name}.indices"), as_indices(X.indptr, f"{name}.indptr")
    if len(indptr) != shape[0] + 1:
        raise ValueError(f"{name}.indptr must have {shape[0] + 1} entries, one more than rows, got {len(indptr)}")
    if data.shape != indices.shape:
        raise ValueError(f"{name}.data must have shape {indices.shape}, as {name}.indices has, got {data.shape}")
    check_indptr(indptr, len(data), name)
    held = int(indptr[-1])
    if indptr.dtype != indices.dtype:
        common = np.int64 if held > np.iinfo(np.int32).max else indices.dtype
        indices, indptr = indices.astype(common, copy=False), indptr.astype(common, copy=False)
    matrix = CSR(data[:held], indices[:held], indptr, int(shape[1]))
    matrix.ascending = columns_ascend(matrix, name)
    return matrix


def is_csr(X: Any) -> bool:
    """Whether the four parts of CSR are there and its format, if it has one, is no other."""
    return getattr(X, "format", "csr") == "csr" and all(
        hasattr(X, part) for part in ("indptr", "indices", "data", "shape")
    )


def as_indices(value: Any, name: str) -> np.ndarray:
    """Contiguous native int32 or int64: the array itself if it is, else a copy."""
    array = as_array(value, name)
    if array.dtype.kind not in "ui":
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, got shape {array.shape}")
    narrow = array.dtype.kind == "i" and array.dtype.itemsize == 4
    return np.require(array, np.int32 if narrow else np.int64, ["C", "A"])


def check_indptr(indptr: np.ndarray, size: int, name: str) -> None:
    """Refuse row pointers that do not start at 0, fall, or end beyond the entries there are."""
    if indptr[0] != 0:
        raise ValueError(f"{name}.indptr must start at 0, got {indptr[0]}")
    for start in range(0, len(indptr) - 1, SCAN_BYTES):
        part = indptr[start : start + SCAN_BYTES + 1]
        falls = part[1:] < part[:-1]
        if falls.any():
            row = start + int(falls.argmax())
            raise ValueError(f"{name}.indptr must not fall, but row {row} is from {indptr[row]} to {indptr[row + 1]}")
    if indptr[-1] > size:
        raise ValueError(f"{name}.indptr ends at {indptr[-1]}, but there are {size} entries")


def columns_ascend(X: CSR, name: str) -> bool:
    """Whether the columns of every row ascend; refuse indices that are none."""
    kinds = {_sparse.examine(X[start:stop]) for start, stop in X.cuts(SCAN_BYTES)}
    if _sparse.OUTSIDE in kinds:
        place = int(((X.indices < 0) | (X.indices >= X.shape[1])).argmax())
        raise ValueError(
            f"{name}.indices must be from 0 to {X.shape[1] - 1}, got {X.indices[place]} in row {X.row_of(place)}"
        )
    return _sparse.INSIDE not in kinds


# ---- vectors and numbers ---------------------------------------------------------------------------------------------


def as_vector(y: Any, n_samples: int, name: str = "y") -> np.ndarray:
    """One number for each sample."""
    array = as_array(y, name)
    if array.shape != (n_samples,):
        hint = f"; {name}.ravel() makes a vector of it" if array.size == n_samples and array.ndim > 1 else ""
        raise ValueError(f"{name} must have shape ({n_samples},), one entry for each row of X, got {array.shape}{hint}")
    return array


def as_targets(y: Any, n_samples: int, name: str = "y") -> list[np.ndarray] | None:
    """The columns of several targets, (n_samples, n_targets); None where y is none such, and is to be a vector."""
    array = as_array(y, name)
    if array.ndim != 2 or len(array) != n_samples or array.shape[1] < 2:
        return None     # for `as_vector` to say what is wrong, if anything is
    return [array[:, column] for column in range(array.shape[1])]


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
        arrays = () if value is None else value.arrays if isinstance(value, CSR) else (np.asarray(value),)
        try:
            shared = any(np.shares_memory(out, array, max_work=100_000) for array in arrays)
        except np.exceptions.TooHardError:
            shared = True
        if shared:
            raise ValueError(f"{name} shares memory with {input_name}")


def refuse_nonfinite(**arrays: Any) -> None:
    """Raise ValueError that names the first array with a NaN or an infinity, and where in it the first one is."""
    for name, array in arrays.items():
        values = array.data if isinstance(array, CSR) else array
        index = None if values is None else first_nonfinite(np.asarray(values))
        if index is not None:
            value = np.asarray(values)[index]
            if isinstance(array, CSR):
                index = (array.row_of(index[0]), int(array.indices[index]))
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


def as_number(
    value: Any, name: str, *, above: float | None = None, least: float | None = None, below: float | None = None
) -> float:
    """A finite real number, greater than `above`, at least `least` and less than `below`."""
    number = value if type(value) is float else as_float(value) if is_real(value) else math.nan
    if (
        math.isfinite(number)
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
    ):
        return number
    wanted = "a finite number" + (f" above {above:g}" if above is not None else "")
    wanted += f" of at least {least:g}" if least is not None else ""
    wanted += f" and below {below:g}" if below is not None else ""
    raise (ValueError if is_real(value) else TypeError)(f"{name} must be {wanted}, got {value!r}")


def is_real(value: Any) -> bool:
    """Whether this is a real number, of Python or of NumPy, and no bool."""
    if isinstance(value, (bool, np.bool_)):
        return False
    return isinstance(value, (float, int, numbers.Real, np.floating, np.integer))


def as_float(value: Any) -> float:
    """The number as a float, infinite if it is larger than any."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def as_positive_integer(value: Any, name: str) -> int:
    """An integer of at least 1."""
    if type(value) is int and value > 0:
        return value
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


def as_choice(value: Any, name: str, choices: Sequence[str]) -> str:
    """One of these words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    return value


def as_seed(random_state: Any, name: str) -> int:
    """A number from 0 to 2^63 - 1: an integer itself, drawn from a generator, and 0 of None."""
    if random_state is None:
        return 0
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, (bool, np.bool_)) or not isinstance(random_state, (numbers.Integral, np.integer)):
        raise TypeError(f"{name} must be an integer, a numpy.random.Generator or None, got {random_state!r}")
    seed = int(random_state)
    if not 0 <= seed < 2**63:
        raise ValueError(f"{name} must be an integer from 0 to 2^63 - 1, got {random_state!r}")
    return seed
