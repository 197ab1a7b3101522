"""What this installation is made of and runs on."""

from __future__ import annotations

import numpy as np

from fastgd import _cpu, _kernels
from fastgd._engine import usable_cpus
from fastgd._version import __version__

__all__ = ["configuration", "show_config"]


def configuration() -> dict[str, str]:
    """The version, the instruction-set levels, the threads, NumPy and the compiler, by name."""
    return {
        "fastgd": __version__,
        "instruction set": f"{_kernels.current} (built: {', '.join(_kernels.built())}; "
        f"available here: {', '.join(_kernels.available())})",
        "threads": str(usable_cpus()),
        "NumPy": np.__version__,
        "compiler": _cpu.compiler,
    }


def show_config() -> None:
    """Print the version, the instruction-set levels, the threads, NumPy and the compiler."""
    for name, value in configuration().items():
        print(f"{name + ':':<17}{value}")
