"""Targets and weights of a block of rows as the kernels use them: contiguous doubles."""

from fastgd._types cimport Targets


cdef inline void load(
    const void *source, bint is_float, Py_ssize_t step, Py_ssize_t start, Py_ssize_t count, double *out
) noexcept nogil:
    """out[i] = source[(start + i) * step]."""
    cdef Py_ssize_t i
    cdef const float *narrow = <const float *> source + start * step
    cdef const double *wide = <const double *> source + start * step
    if is_float and step == 1:
        for i in range(count):
            out[i] = narrow[i]
    elif is_float:
        for i in range(count):
            out[i] = narrow[i * step]
    elif step == 1:
        for i in range(count):
            out[i] = wide[i]
    else:
        for i in range(count):
            out[i] = wide[i * step]


cdef inline void load_run(
    const Targets *targets, double b, Py_ssize_t start, Py_ssize_t count, double *target, double *weight
) noexcept nogil:
    """target[i] = y_i - b and weight[i] = s_i of `count` rows from `start` on."""
    cdef Py_ssize_t i
    if targets.y == NULL:
        for i in range(count):
            target[i] = -b
    else:
        load(targets.y, targets.y_is_float, targets.y_step, start, count, target)
        for i in range(count):
            target[i] -= b
    if targets.s == NULL:
        for i in range(count):
            weight[i] = 1.0
    else:
        load(targets.s, targets.s_is_float, targets.s_step, start, count, weight)


cdef inline double target_at(const Targets *targets, Py_ssize_t i) noexcept nogil:
    """y_i."""
    if targets.y == NULL:
        return 0.0
    i *= targets.y_step
    return (<const float *> targets.y)[i] if targets.y_is_float else (<const double *> targets.y)[i]


cdef inline double weight_at(const Targets *targets, Py_ssize_t i) noexcept nogil:
    """s_i."""
    if targets.s == NULL:
        return 1.0
    i *= targets.s_step
    return (<const float *> targets.s)[i] if targets.s_is_float else (<const double *> targets.s)[i]
