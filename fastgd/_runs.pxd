"""What the fronts of the stochastic kernels have in common: what a run must have, and how much of it goes unheard."""

from fastgd._rows cimport RowBlock
from fastgd._sparse cimport SparseBlock

cdef enum:
    PIECE = 1 << 22     # bytes of rows between two looks at Ctrl-C, and
    ROWS = 1 << 16      # rows


cdef inline int check_order(
    Py_ssize_t n_features, Py_ssize_t n, Py_ssize_t d, const Py_ssize_t[::1] order, Py_ssize_t batch_size
) except -1:
    """Refuse a run over n rows of d columns that a state of so many features or the order does not fit."""
    cdef Py_ssize_t k
    cdef size_t highest = 0         # what is negative is higher than any
    if n_features != d:
        raise ValueError(f"the rows have {d} columns, the state {n_features}")
    if order.shape[0] == 0 or batch_size < 1:
        raise ValueError(f"a run takes at least a row, and so does an update; got {order.shape[0]} and {batch_size}")
    for k in range(order.shape[0]):
        highest = max(highest, <size_t> order[k])
    if highest >= <size_t> n:
        raise IndexError(f"the order must hold rows from 0 to {n - 1}, got {<Py_ssize_t> highest}")
    return 0


cdef inline tuple shape_of(block):
    """(rows, columns) of a block, and how many rows of it may pass between two looks at Ctrl-C."""
    cdef RowBlock dense
    cdef SparseBlock sparse
    cdef Py_ssize_t size
    if isinstance(block, RowBlock):
        dense = block
        size = dense.rows.d * (4 if dense.is_float else 8)
        return dense.rows.n, dense.rows.d, min(max(<Py_ssize_t> PIECE // size, 1), <Py_ssize_t> ROWS)
    sparse = <SparseBlock?> block
    size = len(sparse.X.data) // max(sparse.rows.n, 1) * 16 + 1
    return sparse.rows.n, sparse.rows.d, min(max(<Py_ssize_t> PIECE // size, 1), <Py_ssize_t> ROWS)
