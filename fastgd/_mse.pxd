"""The C face of fastgd's mean squared error: `from fastgd._mse cimport ...`.

    L(w) = sum_i s_i (x_i.w - y_i)^2 / sum_i s_i,        grad L(w) = (2 / sum_i s_i) X'(s o (Xw - y))

There is no intercept and no penalty: for an intercept, give X a column of ones. X is C-contiguous (n, d); y and s
have n elements, w and g_out d. s may be NULL for weights of one. `work` holds `mse_work_size(n, d)` doubles that the
caller owns; its contents mean nothing between calls. Nothing is checked, allocated or thrown, and the GIL is not
needed: n and d are at least 1, and what is not finite comes out as it must.
"""

cdef Py_ssize_t mse_work_size(Py_ssize_t n, Py_ssize_t d) noexcept nogil

cdef double mse_f32(
    const float *X, const float *y, const float *s, const float *w, double *work, Py_ssize_t n, Py_ssize_t d
) noexcept nogil
cdef double mse_f64(
    const double *X, const double *y, const double *s, const double *w, double *work, Py_ssize_t n, Py_ssize_t d
) noexcept nogil

# These return L(w) and write grad L(w).
cdef double mse_value_and_grad_f32(
    const float *X, const float *y, const float *s, const float *w, float *g_out, double *work,
    Py_ssize_t n, Py_ssize_t d
) noexcept nogil
cdef double mse_value_and_grad_f64(
    const double *X, const double *y, const double *s, const double *w, double *g_out, double *work,
    Py_ssize_t n, Py_ssize_t d
) noexcept nogil

# These return L at the old w and leave w - lr * grad L(w) in w.
cdef double mse_step_f32(
    const float *X, const float *y, const float *s, float *w, double *work, Py_ssize_t n, Py_ssize_t d, double lr
) noexcept nogil
cdef double mse_step_f64(
    const double *X, const double *y, const double *s, double *w, double *work, Py_ssize_t n, Py_ssize_t d, double lr
) noexcept nogil
