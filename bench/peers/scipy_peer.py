"""SciPy's sparse matrices: two passes, over X and over its transpose, which is made ready beforehand in CSR too."""

from __future__ import annotations

import scipy
from contest import Run
from problems import Data
from scipy.sparse import csr_array

VERSION = scipy.__version__


def gradient(data: Data) -> Run:
    X, y, w, scale = as_scipy(data), data.y, data.w, data.dtype.type(2 / data.n)
    XT = X.T.tocsr()
    return Run(lambda: scale * (XT @ (X @ w - y)))


def as_scipy(data: Data) -> csr_array:
    return csr_array((data.X.data, data.X.indices, data.X.indptr), shape=data.X.shape)


RUNS = {"sparse gradient": gradient}
