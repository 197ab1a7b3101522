"""Files that are there as a whole or not at all: a safetensors file with a checked header, and how it is replaced.

A file holds tensors, and in its metadata `format`, what kind of file it is with its version; `header`, a tree of JSON
in which tensors stand by their names; `producer`; and `crc32`, of all that. Nothing in it is unpickled or evaluated.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastgd._version import __version__
from fastgd.errors import NewerFormatError

__all__ = [
    "AnyPath",
    "as_bytes",
    "pack",
    "read_file",
    "refuse_unwritable",
    "replace_file",
    "require_safetensors",
    "unpack",
    "write_file",
]

AnyPath = str | os.PathLike[str]

#: Keys that stand for what JSON does not have: a tensor by its name, a float that is not finite.
TENSOR, FLOAT = "$tensor", "$float"
#: What a key of the tree that begins with it begins with once more.
ESCAPE = "$"


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
            try:
                tensors = {name: file.get_tensor(name) for name in file.keys()}     # noqa: SIM118 (no mapping)
            except ValueError as error:     # more axes than NumPy's arrays have
                raise SafetensorError(str(error)) from None
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
    if name != kind:
        what = f"a {name} file" if name.startswith("fastgd ") else "a safetensors file of another program"
        raise ValueError(f"{path} is no {kind} file, but {what}")
    if not re.fullmatch("[0-9]{1,9}", number):
        raise ValueError(f"{path} is damaged: it says that {number[:20]!r} is the version of its format")
    if int(number) > version:
        raise NewerFormatError(
            f"{path} has version {number} of the {kind} format, and this fastgd knows versions up to {version}: "
            "load it with a newer fastgd"
        )


def replace_file(path: AnyPath, content: bytes) -> None:
    """Put the content in the file's place: a reader, and a crash at any moment, finds the old one or the new one.

    It is written beside, and synced to the disk before it takes the name; then the directory is synced, so that the
    name is kept too. The permissions are those of the old one. A process that is killed may leave ``.NAME.HEX.tmp``
    beside, which nothing reads.

    Raises
    ------
    OSError
        If it cannot be written, or what is there is no file.
    """
    target = Path(os.path.realpath(path))   # what a link points to, not the link
    with blamed_on(path):
        mode, beside = mode_of(target), name_beside(target)
        try:
            with open(beside, "xb") as file:
                if mode is not None:
                    os.chmod(beside, mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
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


def refuse_unwritable(path: AnyPath) -> None:
    """Raise OSError if `replace_file` could not write there now; nothing is changed.

    What killed processes have left beside is removed: it is for files that one process writes.
    """
    target = Path(os.path.realpath(path))
    with blamed_on(path):
        mode_of(target)
        beside = name_beside(target)
        try:
            open(beside, "xb").close()
        finally:
            beside.unlink(missing_ok=True)
        for beside in target.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.tmp", beside.name):
                beside.unlink(missing_ok=True)


def name_beside(target: Path) -> Path:
    """Where a file is written that is to replace this one.

    Drawn, since processes that were killed may have left any number, and those on other machines have the same ones.
    """
    return target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")


def mode_of(target: Path) -> int | None:
    """The permissions of the file that is to be replaced; None if there is none. A device or a folder is refused."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, "what is there is no file that could be replaced")
    return stat.S_IMODE(mode)


@contextlib.contextmanager
def blamed_on(path: AnyPath) -> Iterator[None]:
    """Errors of the system name this path, whatever file beside it they are about."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


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
