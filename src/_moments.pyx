"""Second moments of NumPy arrays, over the kernels of src/kernels/moments.pyx."""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer

from fastgd._rows cimport RowBlock
from fastgd._types cimport MomentsKernels, moments_fn

cdef MomentsKernels *kernels


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <MomentsKernels *> PyCapsule_GetPointer(table, "fastgd.MomentsKernels")


cdef int run(moments_fn kernel, RowBlock block, const double *shift, double *out) except -1:
    cdef double *scratch = <double *> PyMem_RawMalloc(kernels.scratch_reals(&block.rows) * sizeof(double))
    if scratch == NULL:
        raise MemoryError()
    with nogil:
        kernel(&block.rows, shift, out, scratch)
    PyMem_RawFree(scratch)
    return 0


cdef int check(RowBlock block, double[::1] shift, Py_ssize_t size, Py_ssize_t wanted) except -1:
    if shift.shape[0] != block.rows.d + 1 or size != wanted:
        raise ValueError(f"a block of {block.rows.d} columns takes a shift of one entry more and {wanted} sums")
    return 0


def add_gram(RowBlock block not None, double[::1] shift, double[::1] out):
    """Add the block's Gram matrix of [X, y, 1] less (shift, 0) to `out`, flat (d + 2, d + 2), upper triangle."""
    cdef Py_ssize_t order = block.rows.d + 2
    check(block, shift, out.shape[0], order * order)
    run(kernels.gram_f32 if block.is_float else kernels.gram_f64, block, &shift[0], &out[0])


def add_columns(RowBlock block not None, double[::1] shift, double[::1] out):
    """Add the weighted sums of [X, y, 1] less (shift, 0) to `out[: d + 2]` and those of its squares to the rest."""
    cdef Py_ssize_t order = block.rows.d + 2
    check(block, shift, out.shape[0], 2 * order)
    run(kernels.columns_f32 if block.is_float else kernels.columns_f64, block, &shift[0], &out[0])


def fill_panel(RowBlock block not None, Py_ssize_t start, double[::1] shift, double[:, ::1] panel_out):
    """Rows `start`, `start + 1`, ... of sqrt(s) * ([X, y, 1] less (shift, 0)) as double, as many as the panel holds."""
    cdef Py_ssize_t count = panel_out.shape[0]
    check(block, shift, panel_out.shape[1], block.rows.d + 2)
    if start < 0 or start + count > block.rows.n:
        raise ValueError("the panel reaches beyond the block")
    with nogil:
        (kernels.panel_f32 if block.is_float else kernels.panel_f64)(
            &block.rows, start, count, &shift[0], &panel_out[0, 0]
        )


def solve_cholesky(double[:, ::1] lower, double[::1] x_out):
    """Overwrite x with the solution of L L' x = b, of which it holds b; L is lower triangular.

    Forward substitution by rows of L, then backward by the same rows, as columns of L' (Golub and Van Loan, Matrix
    Computations, 4th ed., algorithms 3.1.1 and 3.1.4).
    """
    cdef Py_ssize_t d = x_out.shape[0], i, j
    cdef double *x = &x_out[0]
    cdef const double *row
    cdef double dot
    if lower.shape[0] != d or lower.shape[1] != d:
        raise ValueError("solve_cholesky takes a square factor of the vector's size")
    with nogil:
        for i in range(d):
            row = &lower[i, 0]
            dot = 0
            for j in range(i):
                dot += row[j] * x[j]
            x[i] = (x[i] - dot) / row[i]
        for i in range(d - 1, -1, -1):
            row = &lower[i, 0]
            x[i] /= row[i]
            for j in range(i):
                x[j] -= x[i] * row[j]
