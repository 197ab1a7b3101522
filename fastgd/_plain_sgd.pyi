from typing import Any

import numpy as np

from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock

LOSSES: dict[str, int]
SCHEDULES: dict[str, int]

def use(table: object) -> None: ...

class Descent:
    eta: float
    def __init__(
        self,
        coef: Any,
        intercept: float = 0.0,
        *,
        loss: str = "squared_error",
        schedule: str = "constant",
        epsilon: float = 0.1,
        eta: float = 0.01,
        power_t: float = 0.25,
        alpha: float = 0.0,
        l1_ratio: float = 0.0,
        step_alpha: float = 1.0,
        intercept_step: float = 1.0,
        average: float = 0,
        t: float = 1.0,
        mean: tuple[np.ndarray, float] | None = None,
        strict: bool = False,
    ) -> None: ...
    @property
    def n_features(self) -> int: ...
    @property
    def t(self) -> float: ...
    @property
    def coef(self) -> np.ndarray: ...
    @property
    def intercept(self) -> float: ...
    @property
    def n_averaged(self) -> int: ...
    @property
    def average(self) -> tuple[np.ndarray, float]: ...
    @property
    def is_finite(self) -> bool: ...
    def go(self, block: RowBlock | SparseBlock, order: np.ndarray) -> tuple[float, float]: ...

def keys(block: RowBlock | SparseBlock) -> np.ndarray: ...
