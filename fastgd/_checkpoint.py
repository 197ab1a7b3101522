"""Checkpoints: a file from which an interrupted fit goes on, to the bits of one that was not interrupted.

It holds what the fit is of, the targets that are finished, and the state of the loop that finds the next one
(`solvers/_state.py`). When the fit has ended, it holds the result.
"""

from __future__ import annotations

import math
import os
import time
import warnings
import zlib
from typing import Any

import numpy as np

from fastgd import _cpu, _kernels
from fastgd import _validation as validate
from fastgd._csr import CSR
from fastgd._files import as_bytes, read_file, refuse_unwritable, require_safetensors, write_file
from fastgd._version import __version__
from fastgd.io import result_from, tree_of
from fastgd.result import FitResult

__all__ = ["Checkpoint", "checkpoint_of"]

KIND, VERSION = "fastgd checkpoint", 1
#: Bytes of rows whose checksum is taken at once.
PIECE = 1 << 20


class Checkpoint:
    """The checkpoint of one fit: the `Keeper` of its solvers' loops, and the results of the targets that are finished.

    Parameters
    ----------
    path : str
    every : float
        Seconds between two states.
    about : dict of dict
        What the fit is of: its options, and its data by their checksums.

    Attributes
    ----------
    finished : list of (FitResult, str)
        For each target that is finished the result, and what is to be warned of.
    """

    def __init__(self, path: str, every: float, about: dict[str, dict[str, Any]]) -> None:
        self.path, self.every, self.about, self.rounding = path, every, about, rounding()
        self.place = os.path.abspath(path)      # wherever the callback goes
        self.finished: list[tuple[FitResult, str]] = []
        self.loops = 0
        self.pending: dict[str, Any] | None = None
        self.last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to keep a state."""
        return time.monotonic() - self.last >= self.every

    def write(self, state: dict[str, Any] | None, *, ended: bool = False) -> None:
        """Put this state in the file's place, or none, between targets. A disk that is full does not end the fit."""
        tree = {
            "about": self.about,
            "rounding": None if ended else self.rounding,
            "finished": [[tree_of(result), complaint] for result, complaint in self.finished],
            "state": state,
        }
        try:
            write_file(self.place, KIND, VERSION, tree)
        except OSError as error:
            warnings.warn(f"the checkpoint {self.path} was not written: {error}", RuntimeWarning, stacklevel=2)
        self.last = time.monotonic()

    def take(self, finished: list[tuple[FitResult, str]], *, last: bool, alone: bool) -> None:
        """Take in a target that is finished, the last one of these.

        One that is not `alone`, but has left something for the others, is found anew with them: till all are finished
        the file stays as it is.
        """
        if not alone:
            self.every = math.inf
        if alone or last:
            self.finished, self.loops, self.pending = list(finished), 0, None
            self.write(None, ended=last)

    def go_on(self) -> None:
        """Take up what the file holds.

        Raises
        ------
        ValueError
            If the file is none of this fit, and then with the first thing in which the two differ.

        Warns
        -----
        RuntimeWarning
            If the fit has not ended, and sums are rounded in another way here.
        """
        tree = read_file(self.path, KIND, VERSION)
        there: Any = tree.get("about")
        whole = isinstance(there, dict) and all(isinstance(there.get(kind), dict) for kind in self.about)
        if not whole:
            raise ValueError(f"{self.path} is damaged: it does not say what fit it is of")
        refuse_other_fit(self.path, there, self.about)
        if tree.get("rounding") not in (None, self.rounding):
            warn_of_rounding(self.path, tree["rounding"], self.rounding)
        try:
            self.finished = [(result_from(result), str(complaint)) for result, complaint in tree["finished"]]
            self.pending = state_from(tree["state"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is damaged: it holds no state of a fit ({error!r})") from None


def state_from(tree: Any) -> dict[str, Any] | None:
    """A state that a loop can look at, or none.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if tree is not None and not (isinstance(tree, dict) and isinstance(tree.get("loop"), int)):
        raise ValueError("it says not of which loop it is")
    return tree


def checkpoint_of(
    path: Any, every: float, resume: bool, options: dict[str, Any], data: dict[str, Any]
) -> Checkpoint:
    """The checkpoint that a fit of these data with these options is to have.

    Raises
    ------
    FileExistsError
        If there is such a file and the fit is not to go on from it.
    FileNotFoundError
        If there is no such directory.
    ImportError
        If safetensors is not installed.
    OSError
        If the file could not be read, or written.
    TypeError, ValueError
        If an argument is not what it must be, or the file is damaged or a checkpoint of another fit.
    """
    if path is None:
        raise ValueError("resume=True needs the file to go on from, checkpoint=PATH")
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(f"checkpoint must be a path or None, got {path!r}")
    path = os.fspath(path)
    require_safetensors("checkpoint=")
    if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        raise FileNotFoundError(f"checkpoint={path!r} is in a directory that is not there")
    there = os.path.exists(path)
    if there and not resume:
        raise FileExistsError(f"checkpoint={path!r} is there: resume=True goes on from it; else remove it")
    checkpoint = Checkpoint(path, every, about(options, data))
    if there:
        checkpoint.go_on()
    refuse_unwritable(path)
    return checkpoint


# ---- what a fit is of ------------------------------------------------------------------------------------------------


def about(options: dict[str, Any], data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What must be the same for it to be the same fit; see `rounding` for what else its bits depend on."""
    return {
        "version": {"fastgd": __version__},
        "machine": {"instruction set": _kernels.current},
        "option": dict(options),
        "data": {name: in_short(values, name) for name, values in data.items()},
    }


def rounding() -> dict[str, Any]:
    """What the last bits depend on besides, as far as it can be told, and nobody can choose.

    The number of places at which kernels read rows, in which Intel's and AMD's processors differ; and NumPy, whose BLAS
    adds up in an order that goes by the model of processor and its number of threads: by two sums of each dtype.
    """
    x = np.sin(np.arange(1.0, 40_001.0))
    crc = 0
    for values in (x, x.astype(np.float32)):
        columns = values.reshape(1000, 40)
        crc = zlib.crc32(as_bytes(np.append(columns.T @ columns, values @ values)), crc)
    return {"streams of memory": _cpu.streams, "version of NumPy": np.__version__, "checksum of NumPy's sums": crc}


def in_short(values: Any, name: str) -> str | None:
    """Dtype, shape, the checksum of all bytes, and how they lie in memory, which kernels read in different orders."""
    if values is None:
        return None
    if not isinstance(values, (CSR, np.ndarray)):
        values = validate.as_csr(values, name) if validate.is_sparse(values) else validate.as_array(values, name)
    if isinstance(values, CSR):
        parts = ", ".join(f"{checksum(array):08x}" for array in values.arrays)
        return f"sparse {values.dtype} of shape {values.shape} with checksums {parts}"
    memory = f"strides {values.strides}" + ("" if values.flags.aligned else ", not aligned,")
    return f"{values.dtype} of shape {values.shape} and {memory} with checksum {checksum(values):08x}"


def checksum(array: np.ndarray) -> int:
    """CRC-32 of the elements in row order: half a second for a gigabyte, without a copy."""
    crc, rows = 0, max(1, PIECE // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        crc = zlib.crc32(as_bytes(array[start : start + rows]), crc)
    return crc


def warn_of_rounding(path: str, there: Any, here: dict[str, Any]) -> None:
    """Say that the bits may be others than they would have been."""
    known = there if isinstance(there, dict) else {}
    name = next(name for name, value in here.items() if known.get(name) != value)
    warnings.warn(
        f"{path} was written where sums are rounded in another way, so that the last bits may differ from those of a "
        f"fit that was not interrupted: the {name} was {known.get(name)!r} there, and is {here[name]!r}",
        RuntimeWarning,
        stacklevel=5,
    )


def refuse_other_fit(path: str, there: dict[str, dict[str, Any]], here: dict[str, dict[str, Any]]) -> None:
    """Raise ValueError with the first thing in which the fit of a checkpoint differs from this one."""
    for kind, facts in here.items():
        for name, value in facts.items():
            found = there[kind].get(name)
            if found != value:
                what = f"the {kind} {name}" if kind != "data" else name
                raise ValueError(f"{path} is a checkpoint of another fit: {what} was {found!r} there, and is {value!r}")
