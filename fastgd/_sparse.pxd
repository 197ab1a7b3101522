from fastgd._types cimport SparseRows


cdef class SparseBlock:
    cdef SparseRows rows
    cdef readonly bint is_float     # the data is float32, else float64
    cdef readonly object X
    cdef readonly object y
    cdef readonly object s
