from fastgd._types cimport Rows, Targets


# Whether the elements are aligned native float32 or float64 at whole-element strides.
cdef bint native(object array) except -1

# Points at the arrays' memory, which is trusted to be that of native float vectors; either may be None.
cdef void fill_targets(Targets *targets, object y, object s) noexcept


# Places of memory that rows are read in at once (see Rows).
cdef Py_ssize_t streams


cdef class RowBlock:
    cdef Rows rows
    cdef readonly bint is_float     # X is float32, else float64
    cdef readonly object X
    cdef readonly object y
    cdef readonly object s

    cdef RowBlock without_targets(self)
