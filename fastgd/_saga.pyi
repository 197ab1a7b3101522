from typing import Any

import numpy as np

from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock

def use(table: object) -> None: ...

class State:
    def __init__(self, coef: Any, intercept: float = 0.0) -> None: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_averaged(self) -> int: ...
    @property
    def intercept(self) -> float: ...
    @property
    def coef(self) -> np.ndarray: ...
    @property
    def average(self) -> tuple[np.ndarray, float]: ...
    def forget(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, values: dict[str, Any]) -> None: ...

def run(
    block: RowBlock | SparseBlock,
    state: State,
    order: np.ndarray,
    rate: float,
    metric: Any,
    means: Any = None,
    drift: Any = None,
    intercept_drift: float = 0.0,
    anchor: Any = None,
    batch_size: int = 1,
    momentum: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    intercept_step: float = 1.0,
    clamps: bool = False,
    average_from: int = -1,
) -> None: ...
