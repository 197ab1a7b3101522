"""The contestants, each a module that is imported only when it is needed.

A contestant's module has

    VERSION         of the library
    RUNS            case -> function that prepares its `contest.Run` on given `problems.Data`
    set_threads(n)  (optional) what to call before anything else

The data is the same for all and read in place where the library can.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from types import ModuleType

from contest import Run, explained
from problems import Data

__all__ = ["PEERS", "Contestants"]

#: Name in the table -> module, and how to get the library.
PEERS = {
    "NumPy": ("numpy_peer", "pip install numpy"),
    "NumPy in place": ("numpy_inplace_peer", "pip install numpy"),
    "SciPy": ("scipy_peer", "pip install scipy"),
    "scikit-learn": ("sklearn_peer", "pip install scikit-learn"),
    "scikit-learn Ridge": ("sklearn_ridge_peer", "pip install scikit-learn"),
    "glum": ("glum_peer", "pip install glum"),
    "PyTorch": ("torch_peer", "see bench/README.md"),
    "PyTorch fused": ("torch_fused_peer", "see bench/README.md"),
    "autograd": ("autograd_peer", "pip install autograd"),
    "Numba": ("numba_peer", "pip install numba"),
    "JAX": ("jax_peer", "pip install jax"),
    "pure Python": ("reference_peer", "part of fastgd"),
}


@dataclass
class Contestants:
    """Those that are installed."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    broken: dict[str, Exception] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, threads: int, names: list[str]) -> Contestants:
        """Import fastgd, which must be there, and these peers."""
        found = cls({"fastgd": importlib.import_module("peers.fastgd_itself")})
        for name in names:
            module, how = PEERS[name]
            try:
                peer = importlib.import_module(f"peers.{module}")
                getattr(peer, "set_threads", lambda n: None)(threads)
                found.modules[name] = peer
            except ImportError as error:
                found.absent[name] = f"{name} is not installed ({explained(error)}); to get it: {how}"
            except Exception as error:
                found.broken[name] = error
        return found

    def versions(self) -> dict[str, str]:
        return {name: module.VERSION for name, module in self.modules.items()}

    def can(self, case: str) -> bool:
        """Whether fastgd has it."""
        return case in self.modules["fastgd"].RUNS

    def runs(self, case: str, data: Data) -> dict[str, Run | Exception]:
        """What each of them has for this case."""
        prepared: dict[str, Run | Exception] = dict(self.broken)
        for name, module in self.modules.items():
            if case in module.RUNS:
                try:
                    prepared[name] = module.RUNS[case](data)
                except Exception as error:
                    prepared[name] = error
        return prepared
