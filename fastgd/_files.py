"""Files that are there as a whole or not at all: a safetensors file with a checked header, and how it is replaced.

A file holds tensors, and in its metadata `format`, what kind of file it is with its version; `header`, a tree of JSON
in which tensors stand by their names; `producer`; and `crc32`, of all that. Nothing in it is unpickled or evaluated.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fastgd._version import __version__
from fastgd.errors import NewerFormatError

__all__ = ["AnyPath", "as_bytes", "pack", "read_file", "replace_file", "require_safetensors", "unpack", "write_file"]

AnyPath = str | os.PathLike[str]

#: Keys that stand for what JSON does not have: a tensor by its name, a float that is not finite.
TENSOR, FLOAT = "$tensor", "$float"
#: What a key of the tree that begins with it begins with once more.
ESCAPE = "$"
#: Numbers the files that are written at the same time.
serial = itertools.count()


# ---- whole files -----------------------------------------------------------------------------------------------------


def write_file(path: AnyPath, kind: str, version: int, tree: dict[str, Any]) -> None:
    """Write a tree of values and arrays, see `pack`.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    """
    require_safetensors("saving")
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {}
    header = json.dumps(pack(tree, "", tensors), allow_nan=False)
    metadata = {"format": f"{kind} {version}", "header": header, "producer": f"fastgd {__version__}"}
    replace_file(path, save(tensors, metadata | {"crc32": checksum(metadata, tensors)}))


def read_file(path: AnyPath, kind: str, version: int) -> dict[str, Any]:
    """The tree of values and arrays in a file of this kind, of this version or an older one.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    NewerFormatError
        If a later version of fastgd has written it.
    OSError
        If it cannot be read.
    ValueError
        If it is of another kind, cut short or damaged.
    """
    require_safetensors("loading")
    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)
    with open(path, "rb"):      # its own errors: no such file, no permission, a directory
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            check_format(path, metadata.get("format", ""), kind, version)
            tensors = {name: file.get_tensor(name) for name in file.keys()}     # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no {kind} file, or cut short: {error}") from None
    if metadata.pop("crc32", "") != checksum(metadata, tensors):
        raise ValueError(f"{path} is damaged: its contents do not match their checksum")
    try:
        tree = unpack(json.loads(metadata["header"]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its header does not fit its tensors ({error!r})") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is damaged: its header is no mapping")
    return tree


def check_format(path: str, found: str, kind: str, version: int) -> None:
    """Refuse another kind of file, and a version that is not known yet."""
    name, _, number = found.rpartition(" ")
    if name != kind or not (number.isascii() and number.isdigit()):
        what = f"a {name} file" if name.startswith("fastgd ") else "a safetensors file of another program"
        raise ValueError(f"{path} is no {kind} file, but {what}")
    if int(number) > version:
        raise NewerFormatError(
            f"{path} has version {number} of the {kind} format, and this fastgd knows versions up to {version}: "
            "load it with a newer fastgd"
        )


def replace_file(path: AnyPath, content: bytes) -> None:
    """Put the content in the file's place: a reader, and a crash at any moment, finds the old one or the new one.

    It is written beside, and synced to the disk before it takes the name; then the directory is synced, so that the
    name is kept too. A process that is killed may leave ``.NAME.PID-K.tmp`` beside, which nothing reads.
    """
    target = Path(os.path.realpath(path))   # what a link points to, not the link
    beside = target.with_name(f".{target.name}.{os.getpid()}-{next(serial)}.tmp")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise
    if hasattr(os, "O_DIRECTORY"):
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def require_safetensors(what: str) -> None:
    """Raise ImportError with the name of the extra if safetensors is not there."""
    try:
        import safetensors  # noqa: F401
    except ImportError:
        raise ImportError(f"{what} needs safetensors: pip install 'fastgd[io]'") from None


def checksum(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    """CRC-32 of the metadata and of the tensors' names and bytes."""
    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(as_bytes(tensors[name]), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of the elements, in row order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


# ---- trees of values -------------------------------------------------------------------------------------------------


def pack(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """A tree as JSON has it; its arrays go to `tensors`, by where they stand: ``history.loss``.

    Leaves are None, bool, int, float, str and ndarray, those of NumPy included; branches are dict, list and tuple, of
    which the last two become one. Floats keep their bits.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else {FLOAT: repr(float(value))}
    if isinstance(value, np.ndarray):
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, dict):
        return {
            ESCAPE + key if key.startswith(ESCAPE) else key: pack(item, f"{name}.{key}" if name else key, tensors)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [pack(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
    raise TypeError(f"{name} cannot be saved: it is a {type(value).__name__}")


def unpack(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """What `pack` made the JSON and the tensors of."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {TENSOR}:
        return tensors[value[TENSOR]]
    if value.keys() == {FLOAT}:
        return float(value[FLOAT])
    return {key.removeprefix(ESCAPE): unpack(item, tensors) for key, item in value.items()}
