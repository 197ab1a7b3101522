import numpy as np

from fastgd._rows import RowBlock

def use(table: object) -> None: ...
def solve(
    block: RowBlock,
    shift: np.ndarray,
    gram: np.ndarray,
    w0: np.ndarray,
    fit_intercept: bool,
    l2: float,
    limits: tuple[float, float, float, float, float, float, float, int],
) -> tuple[np.ndarray, np.ndarray] | None: ...
