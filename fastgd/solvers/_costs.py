"""What a solver costs, in seconds of one core, by fixed figures.

A pass over dense X is bound by memory, bytes(X) / BANDWIDTH; one over sparse rows by their entries. The second moments
are bound by arithmetic: n d^2 multiplications and additions for the Gram matrix, d^3 / 3 for its Cholesky factor. With
fewer rows than columns, and few enough, the moments are those of the rows, n^2 d and n^3; with more of them the matrix
is singular, and its eigenvectors take EIGEN d^3. Sparse rows are filled with their zeros for it.

The figures are constants, not measured where the fit runs, and know nothing of threads: the same input must take the
same solver, and so give the same bits, wherever and however busy the machine is. They are those of one core of a Zen 4
server (AMD; AVX-512, other cores at work): passes at 15 to 30 GB/s, moments at 46 to 51 (float64) and 86 to 96 GFLOP/s
(float32) for 300 to 3000 columns. Only BANDWIDTH / FLOPS decides. Where a core reads at half that speed beside the same
arithmetic, as cores of Intel's servers with AVX-512 do, the moments pay off up to twice the width; between the two
break-even points either solver takes at most twice as long as the other.
"""

from __future__ import annotations

import numpy as np

from fastgd._csr import CSR
from fastgd.objective import MSE

__all__ = [
    "DUAL_ROWS",
    "MOMENTS_BYTES",
    "clear",
    "descent_seconds",
    "moments_bytes",
    "moments_seconds",
    "narrow",
    "pass_seconds",
    "worth_a_trial",
]

#: Bytes of dense X that a pass reads in a second.
BANDWIDTH = 20e9
#: Seconds for an entry of sparse rows in a pass, its value, its column and the scattered sums.
SPARSE_ENTRY = 1.7e-9
#: Seconds that a pass takes, however little there is to read.
CALL = 20e-6
#: Multiplications and additions of moments in a second.
FLOPS = {np.dtype(np.float32): 90e9, np.dtype(np.float64): 45e9}
#: Columns from which on, and so many rows for each, those of float64 rows are products in float32, and their rate.
CLEAR_COLUMNS = 512
CLEAR_ROWS_PER_COLUMN = 8
CLEAR_FLOPS = 75e9
#: Columns up to which, and rows for each of them from which on, a fit with l1 forms the products of all of them first.
#: Of 20 and of 100 columns it takes 0.4 to 0.9 of the time that it takes without; of 400 it would take 0.6 to 2 of it.
NARROW_COLUMNS, NARROW_ROWS_PER_COLUMN = 128, 8
#: Time of the eigenvectors of a matrix of order d over that of d^3 such flops in float64.
EIGEN = 7
#: With no more rows than this, and fewer than columns, moments are those of the rows.
DUAL_ROWS = 4096
#: Bytes of the Gram matrix and its factor beyond which the moments are not formed.
MOMENTS_BYTES = 1 << 32
#: Passes for the time of which, and more, of the moments conjugate gradients are tried first; and rows for each column
#: from which on columns that have nothing to do with each other have a condition number below 9.
TRIAL_PASSES, TRIAL_ROWS = 32, 4
#: Seconds of a step of gradient descent besides its pass; of one through the moments, and of each entry of the Hessian
#: in it; of one in the eigenbasis, for each column.
STEP, RECURRENCE_STEP, RECURRENCE_ENTRY, EIGENBASIS_COLUMN = 25e-6, 0.5e-6, 0.4e-9, 5e-9
#: Setting up the one and the other: of the latter in any case, and for each entry of the Hessian times its order.
RECURRENCE, EIGENBASIS, EIGENBASIS_ENTRY = 1e-3, 2e-3, 1e-9
#: Passes that a descent through the moments takes to check itself.
CHECKS = 12


def pass_seconds(objective: MSE) -> float:
    """One pass over X."""
    X = objective.X
    work = SPARSE_ENTRY * len(X.data) if isinstance(X, CSR) else X.nbytes / BANDWIDTH
    return CALL + work


def moments_seconds(objective: MSE) -> float:
    """The second moments, their factor, and the two passes that certify the solution."""
    n, d = objective.X.shape
    if dual(n, d):
        products, factor = n * n * d, float(n**3)
    else:
        products, factor = n * d * d, EIGEN * d**3 if n <= d else d**3 / 3
    rate = CLEAR_FLOPS if clear(objective) else FLOPS[objective.dtype]
    return products / rate + factor / FLOPS[np.dtype(np.float64)] + 2 * pass_seconds(objective)


def descent_seconds(objective: MSE, steps: int) -> dict[str, float]:
    """So many steps of gradient descent: by passes, through the moments, and in their eigenbasis."""
    (n, d), one = objective.X.shape, pass_seconds(objective)
    moments = CALL + n * d * d / FLOPS[np.dtype(np.float64)]
    return {
        "passes": steps * (STEP + one),
        "recurrence": moments + RECURRENCE + CHECKS * one + steps * (RECURRENCE_STEP + RECURRENCE_ENTRY * d * d),
        "eigenbasis": moments + EIGENBASIS + EIGENBASIS_ENTRY * d**3 + 2 * one + steps * EIGENBASIS_COLUMN * d,
    }


def worth_a_trial(objective: MSE) -> bool:
    """Whether a few passes that tell how conjugate gradients converge are little beside the moments, and may save them.

    Of float32 rows the moments have digits that passes have not.
    """
    n, d = objective.X.shape
    if isinstance(objective.X, CSR) or objective.dtype != np.float64 or n < TRIAL_ROWS * d:
        return False
    return moments_seconds(objective) > TRIAL_PASSES * pass_seconds(objective)


def moments_bytes(objective: MSE) -> int:
    """The Gram matrix, its scaled copy and its factor, in double."""
    n, d = objective.X.shape
    return 3 * 8 * (n if dual(n, d) else d) ** 2


def clear(objective: MSE) -> bool:
    """Whether float64 columns are first multiplied in float32."""
    n, d = objective.X.shape
    wide = d > CLEAR_COLUMNS and n >= CLEAR_ROWS_PER_COLUMN * d
    return wide and objective.dtype == np.float64 and not isinstance(objective.X, CSR)


def narrow(objective: MSE) -> bool:
    """Whether a fit with l1 is sooner done with the products of all columns than with those of columns that enter.

    To form them from those that enter takes a pass for the columns' lengths, one for the start, and one with a copy of
    these columns each time; the moments take one for all, in place.
    """
    n, d = objective.X.shape
    return d <= NARROW_COLUMNS and n >= NARROW_ROWS_PER_COLUMN * d and not isinstance(objective.X, CSR)


def dual(n: int, d: int) -> bool:
    """Whether the moments are those of the rows."""
    return n < d and n <= DUAL_ROWS
