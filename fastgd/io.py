"""Models as files: safetensors that fastgd reads again, and ONNX for others.

A model file is a safetensors file (`_files` has its metadata) that holds every field of a `FitResult` under its name.
Whoever wants the coefficients alone takes the tensor ``coef`` of it by any reader of safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from fastgd._files import AnyPath, read_file, replace_file, write_file
from fastgd._path import DescentPath
from fastgd._version import __version__
from fastgd.result import FitResult

__all__ = ["load", "result_from", "save", "save_onnx"]

KIND, VERSION = "fastgd model", 1
#: Of the graph: a version of the operators and of the format that is old enough for every reader in use.
ONNX_OPERATORS, ONNX_FORMAT = 13, 8


def save(result: FitResult, path: AnyPath) -> None:
    """Write a result to a file; `FitResult.save` says how."""
    write_file(path, KIND, VERSION, tree_of(result))


def load(path: AnyPath) -> FitResult:
    """Read a result that `FitResult.save` has written: equal to what was saved in every bit.

    Nothing in the file is unpickled, evaluated or trusted: names, types and shapes are checked.

    Parameters
    ----------
    path : str or path-like
        Where the file is.

    Returns
    -------
    FitResult

    Raises
    ------
    ImportError
        If safetensors is not installed, the extra ``io``.
    NewerFormatError
        If a later version of fastgd has written it in a format that this one does not know.
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is no model of fastgd, cut short or damaged.

    Examples
    --------
    >>> import os, tempfile, fastgd as fg
    >>> path = os.path.join(tempfile.mkdtemp(), "line.safetensors")
    >>> fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).save(path)
    >>> fg.load(path).predict([[3.0]]).round(9).tolist()
    [7.0]
    """
    tree = read_file(path, KIND, VERSION)
    try:
        return result_from(tree)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} holds no result of a fit: {error}") from None


def tree_of(result: FitResult) -> dict[str, Any]:
    """The fields of a result by their names, and those of its path by theirs."""
    tree = {field.name: getattr(result, field.name) for field in fields(FitResult)}
    return tree | {"path": None if result.path is None else vars(result.path)}


def result_from(tree: Any) -> FitResult:
    """The result that `tree_of` made this of.

    Raises
    ------
    ValueError
        That names the field that is missing, unknown, or not what it should be.
    """
    if not isinstance(tree, dict):
        raise ValueError("its fields are missing")
    for name in sorted(FIELDS.keys() ^ tree.keys()):
        raise ValueError(f"{name} is {'missing' if name in FIELDS else 'no field of it'}")
    for name, fits in FIELDS.items():
        if not fits(tree[name]):
            raise ValueError(f"{name} is not what it should be")
    coef, intercept, names, categories = (tree[key] for key in ("coef", "intercept", "feature_names", "categories"))
    if (np.shape(intercept) != coef.shape[1:]) or 0 in coef.shape:
        raise ValueError(f"coef has shape {coef.shape}, intercept {np.shape(intercept)}")
    if names is not None and len(names) != len(coef):
        raise ValueError(f"there are {len(names)} feature_names for {len(coef)} coefficients")
    tree = dict(tree)
    tree["path"] = None if tree["path"] is None else DescentPath(**tree["path"])
    tree["feature_names"] = None if names is None else tuple(names)
    tree["categories"] = None if categories is None else {key: tuple(value) for key, value in categories.items()}
    return FitResult(**tree)


# ---- what fields may be ----------------------------------------------------------------------------------------------


def is_of(*types: type) -> Callable[[Any], bool]:
    """Whether a value is of just one of these types: True is no int."""
    return lambda value: type(value) in types


def is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def is_array(value: Any, dtypes: str, ndims: tuple[int, ...]) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.str[1:] in dtypes.split() and value.ndim in ndims


def is_history(value: Any) -> bool:
    """Whether these are columns of the same length, those that every fit has among them."""
    if not isinstance(value, dict) or not {"iteration", "loss", "grad_norm", "seconds"} <= value.keys():
        return False
    columns = {name: is_array(column, "f8 i8", (1,)) for name, column in value.items()}
    return all(columns.values()) and len({len(column) for column in value.values()}) == 1 and len(value["loss"]) > 0


def is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_categories(value: Any) -> bool:
    return isinstance(value, dict) and all(is_strings(values) for values in value.values())


def is_path(value: Any) -> bool:
    """Whether these are the fields of a `DescentPath`, in shapes that go together."""
    arrays = {"parameters": 2, "w": 1, "grad": 1, "hessian": 2}
    kinds = {"fit_intercept": bool, "loss": float, "l1": float}
    if not isinstance(value, dict) or value.keys() != arrays.keys() | kinds.keys():
        return False
    typed = all(type(value[name]) is kind for name, kind in kinds.items())
    if not typed or not all(is_array(value[name], "f8", (ndim,)) for name, ndim in arrays.items()):
        return False
    size = len(value["w"])
    shapes = [value[name].shape for name in ("grad", "hessian")]
    return shapes == [(size,), (size, size)] and value["parameters"].shape[1] == size


def is_options(value: Any) -> bool:
    return isinstance(value, dict) and all(type(item) in (type(None), bool, int, float, str) for item in value.values())


FIELDS: dict[str, Callable[[Any], bool]] = {
    "coef": lambda value: is_array(value, "f4 f8", (1, 2)),
    "intercept": lambda value: type(value) is float or is_array(value, "f8", (1,)),
    "loss": is_of(float),
    "n_iter": is_count,
    "n_passes": is_count,
    "converged": is_of(bool),
    "stop_reason": is_of(str),
    "solver": is_of(str),
    "choice": is_of(str),
    "lr": is_of(float, type(None)),
    "optimality": is_of(float),
    "gap_bound": is_of(float),
    "history": is_history,
    "feature_names": lambda value: value is None or is_strings(value),
    "categories": lambda value: value is None or is_categories(value),
    "options": is_options,
    "path": lambda value: value is None or is_path(value),
}


# ---- for others ------------------------------------------------------------------------------------------------------


def save_onnx(result: FitResult, path: AnyPath) -> None:
    """Write y = X coef + intercept as an ONNX graph; `FitResult.to_onnx` says how."""
    try:
        import onnx
    except ImportError:
        raise ImportError("to_onnx needs onnx: pip install 'fastgd[onnx]'") from None
    make, from_array = onnx.helper, onnx.numpy_helper.from_array
    coef = np.ascontiguousarray(result.coef)
    kind = make.np_dtype_to_tensor_dtype(coef.dtype)
    graph = make.make_graph(
        [make.make_node("MatMul", ["X", "coef"], ["Xw"]), make.make_node("Add", ["Xw", "intercept"], ["y"])],
        "linear model",
        [make.make_tensor_value_info("X", kind, ["n_samples", len(coef)])],
        [make.make_tensor_value_info("y", kind, ["n_samples", *coef.shape[1:]])],
        [from_array(coef, "coef"), from_array(np.asarray(result.intercept, coef.dtype), "intercept")],
    )
    model = make.make_model(
        graph,
        producer_name="fastgd",
        producer_version=__version__,
        opset_imports=[make.make_opsetid("", ONNX_OPERATORS)],
        ir_version=ONNX_FORMAT,
    )
    if result.feature_names is not None:
        make.set_model_props(model, {"feature_names": json.dumps(result.feature_names)})
    onnx.checker.check_model(model, full_check=True)
    replace_file(path, model.SerializeToString())
