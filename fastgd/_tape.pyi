from collections.abc import Sequence
from typing import Any

import numpy as np

from fastgd._graph import Node

class Tape:
    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> None: ...
    def __call__(self, *arrays: Any) -> tuple[np.ndarray, ...]: ...
    def scalars(self, *numbers: float) -> tuple[float, ...]: ...
