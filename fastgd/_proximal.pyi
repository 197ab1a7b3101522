import numpy as np

def descend(
    matrix: np.ndarray,
    right_side: np.ndarray,
    penalty: np.ndarray,
    u_out: np.ndarray,
    image_out: np.ndarray,
    work: np.ndarray,
    lipschitz: float,
    steps: int,
) -> float: ...
