"""Sums over sparse rows by the kernels of src/kernels/sparse.pyx: doors named as those of _mse.pyx and _moments.pyx."""

cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer

from fastgd._rows cimport fill_targets, native
from fastgd._types cimport SparseKernels, SparseRows, sparse_fn, sparse_sums_fn
from fastgd._types cimport ASCENDING as ASCENDING_, INSIDE as INSIDE_, OUTSIDE as OUTSIDE_

cnp.import_array()

cdef enum:
    SHORT_PASS = 1 << 13    # entries and rows below which releasing the GIL costs more than it frees
    PIECE = 1 << 21         # entries, or rows, between two looks at Ctrl-C

cdef SparseKernels *kernels
cdef bint scatters_fast

OUTSIDE, INSIDE, ASCENDING = OUTSIDE_, INSIDE_, ASCENDING_


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels, scatters_fast
    from fastgd import _cpu
    scatters_fast = _cpu.scatters_fast
    kernels = <SparseKernels *> PyCapsule_GetPointer(table, "fastgd.SparseKernels")


cdef inline bint contiguous(cnp.ndarray array) noexcept:
    """A vector whose elements lie side by side, aligned and in native byte order."""
    return array.ndim == 1 and cnp.PyArray_ISCARRAY_RO(array)


cdef inline bint is_index(cnp.ndarray array, Py_ssize_t itemsize) noexcept:
    return contiguous(array) and cnp.PyArray_ISSIGNED(array) and cnp.PyArray_ITEMSIZE(array) == itemsize


cdef class SparseBlock:
    """Sparse rows with their targets and weights, read in place.

    Parameters
    ----------
    X : CSR
        Of native float32 or float64 data.
    y : ndarray of shape (n,), float32 or float64, or None for zeros
    s : ndarray of shape (n,), float32 or float64, or None for ones

    X is trusted: `fastgd._validation` has looked at its indices.
    """

    def __init__(self, X not None, y=None, s=None):
        cdef cnp.ndarray data = X.data, indices = X.indices, indptr = X.indptr
        cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(indptr)
        if not (
            native(data) and contiguous(data) and size in (4, 8) and is_index(indices, size) and is_index(indptr, size)
            and len(data) == len(indices) == indptr[len(X)] - indptr[0]
            and (y is None or (y.ndim == 1 and native(y) and len(y) == len(X)))
            and (s is None or (s.ndim == 1 and native(s) and len(s) == len(X)))
        ):
            raise ValueError("SparseBlock takes contiguous native arrays of matching lengths")
        self.X = X
        self.y = y
        self.s = s
        self.is_float = cnp.PyArray_TYPE(data) == cnp.NPY_FLOAT
        self.rows.data = cnp.PyArray_DATA(data)
        self.rows.indices = cnp.PyArray_DATA(indices)
        self.rows.indptr = cnp.PyArray_DATA(indptr)
        self.rows.is_long = size == 8
        self.rows.by_lanes = X.ascending and scatters_fast
        self.rows.n = len(X)
        self.rows.d = X.shape[1]
        fill_targets(&self.rows.targets, y, s)

    def __len__(self):
        return self.rows.n

    def pieces(self):
        """Parts of the block, in order, each so short that Ctrl-C is heard in time: itself if it is."""
        if len(self.X.data) + self.rows.n <= PIECE:
            return (self,)
        return (self.part(start, stop) for start, stop in self.X.cuts(PIECE))

    def part(self, Py_ssize_t start, Py_ssize_t stop):
        """Rows start to stop."""
        return SparseBlock(
            self.X[start:stop], None if self.y is None else self.y[start:stop],
            None if self.s is None else self.s[start:stop],
        )


cdef inline bint short(const SparseRows *rows, SparseBlock block) except -1:
    return len(block.X.data) + rows.n < SHORT_PASS


# ---- indices ---------------------------------------------------------------------------------------------------------

def examine(X not None):
    """OUTSIDE if a CSR has indices that are none of its columns; else ASCENDING, if every row's are, or INSIDE."""
    cdef cnp.ndarray indices = X.indices, indptr = X.indptr
    cdef SparseRows rows
    cdef int found
    rows.indices = cnp.PyArray_DATA(indices)
    rows.indptr = cnp.PyArray_DATA(indptr)
    rows.n = len(X)
    rows.d = X.shape[1]
    rows.is_long = cnp.PyArray_ITEMSIZE(indices) == 8
    with nogil:
        found = kernels.examine(&rows)
    return found


# ---- mean squared error ----------------------------------------------------------------------------------------------

cdef int run(
    SparseBlock block, const SparseRows *rows, sparse_fn kernel, const double[::1] w, double b, double *out
) except -1:
    if short(rows, block):
        kernel(rows, &w[0], b, out)
    else:
        with nogil:
            kernel(rows, &w[0], b, out)
    return 0


cdef int run_sums(SparseBlock block, const SparseRows *rows, const double[::1] w, double b, double *out) except -1:
    cdef sparse_sums_fn kernel = kernels.sums_f32 if block.is_float else kernels.sums_f64
    cdef Py_ssize_t size = kernels.sums_f32_bytes(rows) if block.is_float else 0
    cdef void *scratch = PyMem_RawMalloc(size) if size else NULL
    if size and scratch == NULL:
        raise MemoryError()
    if short(rows, block):
        kernel(rows, &w[0], b, out, scratch)
    else:
        with nogil:
            kernel(rows, &w[0], b, out, scratch)
    PyMem_RawFree(scratch)
    return 0


cdef int check_lengths(SparseBlock block, const double[::1] w, double[::1] out) except -1:
    if w.shape[0] != block.rows.d or out.shape[0] != block.rows.d + 2:
        raise ValueError(f"a block of {block.rows.d} columns takes as many parameters and two sums more")
    return 0


def add_value(SparseBlock block not None, const double[::1] w, double b, double[::1] out):
    """out[0] += sum_i s_i r_i^2 and out[1] += sum_i s_i r_i over the block, with r_i = x_i.w + b - y_i."""
    check_lengths(block, w, out)
    run(block, &block.rows, kernels.value_f32 if block.is_float else kernels.value_f64, w, b, &out[0])


def add_sums(SparseBlock block not None, const double[::1] w, double b, double[::1] out):
    """`add_value`, and out[2:] += sum_i s_i r_i x_i."""
    check_lengths(block, w, out)
    run_sums(block, &block.rows, w, b, &out[0])


def add_curvature(SparseBlock block not None, const double[::1] v, double b, double[::1] out):
    """`add_sums` with targets of zero: out[2:] += X'(s o (Xv + b))."""
    cdef SparseRows rows = block.rows
    check_lengths(block, v, out)
    rows.targets.y = NULL
    run_sums(block, &rows, v, b, &out[0])


def predict(SparseBlock block not None, const double[::1] w, double b, double[::1] out):
    """out[i] = x_i.w + b."""
    if w.shape[0] != block.rows.d or out.shape[0] != block.rows.n:
        raise ValueError(f"a block of {block.rows.n} rows of {block.rows.d} columns takes as many of each")
    run(block, &block.rows, kernels.predict_f32 if block.is_float else kernels.predict_f64, w, b, &out[0])


# ---- second moments --------------------------------------------------------------------------------------------------

cdef int check_shift(SparseBlock block, double[::1] shift, Py_ssize_t size, Py_ssize_t wanted) except -1:
    if shift.shape[0] != block.rows.d + 1 or size != wanted:
        raise ValueError(f"a block of {block.rows.d} columns takes a shift of one entry more and {wanted} sums")
    return 0


def add_columns(SparseBlock block not None, double[::1] shift, double[::1] out):
    """Add the weighted sums of [X, y, 1] less (shift, 0) to `out[: d + 2]` and those of its squares to the rest."""
    check_shift(block, shift, out.shape[0], 2 * (block.rows.d + 2))
    cdef void *scratch = PyMem_RawMalloc(kernels.scratch_bytes(&block.rows))
    if scratch == NULL:
        raise MemoryError()
    with nogil:
        (kernels.columns_f32 if block.is_float else kernels.columns_f64)(&block.rows, &shift[0], &out[0], scratch)
    PyMem_RawFree(scratch)


def fill_panel(SparseBlock block not None, Py_ssize_t start, double[::1] shift, double[:, ::1] panel_out):
    """Rows `start`, `start + 1`, ... of sqrt(s) * ([X, y, 1] less (shift, 0)) as double, as many as the panel holds."""
    cdef Py_ssize_t count = panel_out.shape[0]
    check_shift(block, shift, panel_out.shape[1], block.rows.d + 2)
    if start < 0 or start + count > block.rows.n:
        raise ValueError("the panel reaches beyond the block")
    with nogil:
        (kernels.panel_f32 if block.is_float else kernels.panel_f64)(
            &block.rows, start, count, &shift[0], &panel_out[0, 0]
        )
