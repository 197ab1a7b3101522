"""Where the rows of a block are, for kernels that take them in any order."""

from libc.stdint cimport int32_t, int64_t

from fastgd._types cimport Rows, SparseRows, real


cdef inline const real *row_at(const Rows *rows, Py_ssize_t i, real *buffer) noexcept nogil:
    """Row i: where it is, or copied to the buffer."""
    cdef const real *x = <const real *> rows.X + i * rows.x_row
    cdef Py_ssize_t j
    if rows.x_col == 1:
        return x
    for j in range(rows.d):
        buffer[j] = x[j * rows.x_col]
    return buffer


cdef inline Py_ssize_t sparse_start(const SparseRows *rows, Py_ssize_t i) noexcept nogil:
    """Where row i starts in the block's entries, of which the first may be in the midst of a matrix."""
    if rows.is_long:
        return (<const int64_t *> rows.indptr)[i] - (<const int64_t *> rows.indptr)[0]
    return (<const int32_t *> rows.indptr)[i] - (<const int32_t *> rows.indptr)[0]
