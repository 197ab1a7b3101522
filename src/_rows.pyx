"""A block of rows of NumPy arrays, as the kernels read it."""

cimport numpy as cnp

from fastgd._types cimport Targets

cnp.import_array()

cdef enum:
    PIECE = 1 << 24     # bytes of X between two looks at Ctrl-C
    LONG_RUN = 4096     # rows that a piece keeps together where columns are contiguous,
    LONG_PIECE = 1 << 28    # unless they are more than so many bytes
    LEAST_ROWS = 16     # in a piece: what each takes for its sums stays small beside it


streams = 1     # `fastgd._kernels` sets what is best on this CPU


def use_streams(Py_ssize_t count):
    """Read blocks made from now on in so many places at once, 1 or 4."""
    global streams
    if count != 1 and count != 4:
        raise ValueError(f"streams are 1 or 4, got {count}")
    streams = count


cdef bint native(object array) except -1:
    """Whether the array's elements are aligned native float32 or float64 at whole-element strides."""
    cdef int kind = cnp.PyArray_TYPE(array)
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(array)
    cdef int axis
    if kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE:
        return False
    if not cnp.PyArray_ISALIGNED(array) or not cnp.PyArray_ISNOTSWAPPED(array):
        return False
    for axis in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_STRIDE(array, axis) % size:
            return False
    return True


def is_native(array):
    """Whether a kernel can read this ndarray where it is."""
    return native(array)


cdef void fill_targets(Targets *targets, object y, object s) noexcept:
    """Point at native vectors; either may be None."""
    targets.y = targets.s = NULL
    targets.y_step = targets.s_step = 0
    targets.y_is_float = targets.s_is_float = False
    if y is not None:
        targets.y = cnp.PyArray_DATA(y)
        targets.y_is_float = cnp.PyArray_TYPE(y) == cnp.NPY_FLOAT
        targets.y_step = cnp.PyArray_STRIDE(y, 0) // cnp.PyArray_ITEMSIZE(y)
    if s is not None:
        targets.s = cnp.PyArray_DATA(s)
        targets.s_is_float = cnp.PyArray_TYPE(s) == cnp.NPY_FLOAT
        targets.s_step = cnp.PyArray_STRIDE(s, 0) // cnp.PyArray_ITEMSIZE(s)


cdef class RowBlock:
    """Rows of X with their targets and weights, read in place.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    y : ndarray of shape (n,), float32 or float64, or None for zeros
    s : ndarray of shape (n,), float32 or float64, or None for ones

    The arrays are trusted: `fastgd._validation` has accepted them and `is_native` holds for each.
    """

    def __init__(self, cnp.ndarray X not None, y=None, s=None):
        cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(X)
        if not (
            X.ndim == 2 and native(X) and (y is None or (y.ndim == 1 and native(y) and len(y) == len(X)))
            and (s is None or (s.ndim == 1 and native(s) and len(s) == len(X)))
        ):
            raise ValueError("RowBlock takes native float arrays of matching lengths")
        self.X = X
        self.y = y
        self.s = s
        self.is_float = cnp.PyArray_TYPE(X) == cnp.NPY_FLOAT
        self.rows.X = cnp.PyArray_DATA(X)
        self.rows.n = cnp.PyArray_DIM(X, 0)
        self.rows.d = cnp.PyArray_DIM(X, 1)
        self.rows.x_row = cnp.PyArray_STRIDE(X, 0) // size
        self.rows.x_col = cnp.PyArray_STRIDE(X, 1) // size
        self.rows.streams = streams
        fill_targets(&self.rows.targets, y, s)

    def __len__(self):
        return self.rows.n

    def pieces(self):
        """Parts of the block, in order, each so short that Ctrl-C is heard in time: itself if it is."""
        cdef Py_ssize_t row_bytes = self.rows.d * (4 if self.is_float else 8)
        cdef Py_ssize_t rows = max(PIECE // row_bytes, <Py_ssize_t> LEAST_ROWS)
        if self.rows.x_row == 1:
            rows = max(rows, min(<Py_ssize_t> LONG_RUN, LONG_PIECE // row_bytes))
        if rows >= self.rows.n:
            return (self,)
        return (self.part(start, start + rows) for start in range(0, self.rows.n, rows))

    def part(self, Py_ssize_t start, Py_ssize_t stop):
        """Rows start to stop."""
        return RowBlock(
            self.X[start:stop], None if self.y is None else self.y[start:stop],
            None if self.s is None else self.s[start:stop],
        )

    cdef RowBlock without_targets(self):
        cdef RowBlock block = RowBlock.__new__(RowBlock)
        block.rows = self.rows
        block.rows.targets.y = NULL
        block.is_float = self.is_float
        block.X = self.X
        block.s = self.s
        return block
