from typing import Any

import numpy as np

from fastgd._rows import RowBlock

def use(table: object) -> None: ...
def add_gram(block: RowBlock, shift: np.ndarray, out: np.ndarray, in_double: bool = False) -> None: ...
def add_columns(block: RowBlock, shift: np.ndarray, out: np.ndarray) -> None: ...
def short_gram(
    X: Any,
    y: Any,
    d: int,
    shift: np.ndarray | None,
    in_double: bool,
    least: tuple[float, float],
    s: np.ndarray | None = None,
) -> tuple[int, np.ndarray, np.ndarray, bool] | None: ...
def mirror(gram: np.ndarray) -> None: ...
def fill_panel(block: RowBlock, start: int, shift: np.ndarray, panel_out: np.ndarray) -> None: ...
def solve_cholesky(lower: np.ndarray, x_out: np.ndarray) -> None: ...
def descend(
    matrix: np.ndarray,
    side: np.ndarray,
    anchor: np.ndarray,
    change: np.ndarray,
    before: np.ndarray,
    moved_out: np.ndarray,
    slopes_out: np.ndarray,
    pace: tuple[float, float, float, bool, bool],
) -> float: ...
