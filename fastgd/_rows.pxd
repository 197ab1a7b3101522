from fastgd._types cimport Rows


cdef class RowBlock:
    cdef Rows rows
    cdef readonly bint is_float     # X is float32, else float64
    cdef readonly object X
    cdef readonly object y
    cdef readonly object s

    cdef RowBlock without_targets(self)
