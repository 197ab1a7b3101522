"""Sine and cosine of doubles, of which NumPy calls the C library's for one element at a time; and what is no ufunc.

That is conversions, copies and choices, which are in strided.h.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. The arguments and strides are those of
a ufunc's inner loop. With k the whole number next to x / (pi/2) and r = x - k pi/2, sine and cosine of x are, by k mod
4, plus or minus sine or cosine of r in [-pi/4, pi/4]:

- The reduction (Cody and Waite, Software Manual for the Elementary Functions, 1980, chapter 8) carries pi/2 as the sum
  of three doubles, P1 + P2 + P3, and r as the sum of two. x - k P1 is exact with a fused multiply-add, as a multiple of
  P1's last place that is less than 1; k P2 is taken off by exact sums and products (Dekker 1971); k P3 goes into the
  lower part.
- sin and cos of r are the polynomials of fdlibm (Sun Microsystems, k_sin.c and k_cos.c), off by less than 2**-57.

The result is off by less than one unit in the last place, which tests/test_tape.py measures. Beyond `LIMIT`, where k
has too many digits, and for infinities and NaN, the C library is asked. Without a fused multiply-add there is no
kernel.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport cos, fabs, floor, fma, rint, sin

from fastgd._types cimport ElementaryKernels, strided_fn

cdef extern from *:
    """
    #ifdef __FP_FAST_FMA
    #define FASTGD_FAST_FMA 1
    #else
    #define FASTGD_FAST_FMA 0
    #endif
    """
    bint FASTGD_FAST_FMA

cdef extern from "strided.h" nogil:
    strided_fn strided_cast(char, char) noexcept
    strided_fn strided_copy(Py_ssize_t) noexcept
    strided_fn strided_where(Py_ssize_t) noexcept

cdef double LIMIT = 1e6
cdef double TINY = 2.0**-27     # sin x = x below

cdef struct Reduced:
    double high, low, half      # r = high + low; half = k / 2


cdef inline Reduced reduce(double x) noexcept nogil:
    cdef double k = rint(x * 0.6366197723675814)
    cdef double first = fma(-k, 1.5707963267948966, x)
    cdef double product = k * 6.123233995736766e-17, high = first - product, back = high - first
    cdef double low = (first - (high - back)) - (product + back)
    low -= fma(k, 6.123233995736766e-17, -product)
    return Reduced(high, fma(-k, -1.4973849048591698e-33, low), 0.5 * k)


cdef inline double sine_near_zero(double x, double low) noexcept nogil:
    cdef double z = x * x, v = z * x, r = fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08)
    r = fma(z, r, 2.75573137070700676789e-06)
    r = fma(z, r, -1.98412698298579493134e-04)
    r = fma(z, r, 8.33333333332248946124e-03)
    return x - ((z * (0.5 * low - v * r) - low) + v * 1.66666666666666324348e-01)


cdef inline double cosine_near_zero(double x, double low) noexcept nogil:
    cdef double z = x * x, half = 0.5 * z, w = 1.0 - half
    cdef double r = fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09)
    r = fma(z, r, -2.75573143513906633035e-07)
    r = fma(z, r, 2.48015872894767294178e-05)
    r = fma(z, r, -1.38888888888741095749e-03)
    r = fma(z, r, 4.16666666666666019037e-02)
    return w + (((1.0 - w) - half) + (z * (z * r) - x * low))


cdef inline bint is_odd(double whole) noexcept nogil:
    return 0.5 * whole != floor(0.5 * whole)


cdef inline double sine(double x) noexcept nogil:
    cdef Reduced r = reduce(x)
    cdef double whole = floor(r.half), s = sine_near_zero(r.high, r.low), c = cosine_near_zero(r.high, r.low)
    cdef double y = s if whole == r.half else c
    y = -y if is_odd(whole) else y
    return x if fabs(x) < TINY else y


cdef inline double cosine(double x) noexcept nogil:
    cdef Reduced r = reduce(x)
    cdef double s = sine_near_zero(r.high, r.low), c = cosine_near_zero(r.high, r.low)
    cdef double y = c if floor(r.half) == r.half else s
    return -y if is_odd(floor(r.half + 0.5)) else y


cdef inline bint are_near(const char *x, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """Whether no element is beyond `LIMIT` or NaN."""
    cdef Py_ssize_t i, far = 0
    if step == sizeof(double):
        for i in range(n):
            far += 0 if fabs((<const double *> x)[i]) <= LIMIT else 1
    else:
        for i in range(n):
            far += 0 if fabs((<const double *> (x + i * step))[0]) <= LIMIT else 1
    return far == 0


cdef inline double wave(double x, const bint is_sine) noexcept nogil:
    return sine(x) if is_sine else cosine(x)


cdef inline double wave_anywhere(double x, const bint is_sine) noexcept nogil:
    """Of the C library, where `wave` is not good enough."""
    if fabs(x) <= LIMIT:
        return wave(x, is_sine)
    return sin(x) if is_sine else cos(x)


cdef inline void waves(
    char **args, const Py_ssize_t *n, const Py_ssize_t *steps, const bint is_sine
) noexcept nogil:
    """`is_sine` is a literal: sine or cosine."""
    cdef const char *x = args[0]
    cdef char *y = args[1]
    cdef Py_ssize_t i, from_x = steps[0], from_y = steps[1]
    if not are_near(x, from_x, n[0]):
        for i in range(n[0]):
            (<double *> (y + i * from_y))[0] = wave_anywhere((<const double *> (x + i * from_x))[0], is_sine)
    elif from_x == sizeof(double) and from_y == sizeof(double):
        for i in range(n[0]):
            (<double *> y)[i] = wave((<const double *> x)[i], is_sine)
    else:
        for i in range(n[0]):
            (<double *> (y + i * from_y))[0] = wave((<const double *> (x + i * from_x))[0], is_sine)


cdef void sin_f64(char **args, const Py_ssize_t *n, const Py_ssize_t *steps, void *data) noexcept nogil:
    waves(args, n, steps, True)


cdef void cos_f64(char **args, const Py_ssize_t *n, const Py_ssize_t *steps, void *data) noexcept nogil:
    waves(args, n, steps, False)


cdef ElementaryKernels kernels
kernels.cast, kernels.copy, kernels.where = strided_cast, strided_copy, strided_where
if FASTGD_FAST_FMA:
    kernels.sin_f64, kernels.cos_f64 = sin_f64, cos_f64

table = PyCapsule_New(&kernels, "fastgd.ElementaryKernels", NULL)
