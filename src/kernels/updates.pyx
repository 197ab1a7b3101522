"""Update rules: one pass over a parameter, its gradient and its state, all of them in place.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. With p a parameter's element, g its
gradient's, t the number of steps so far, this one included, and everything after `<-` as the lines before left it, one
step is (PyTorch's order of operations, in which alone rounding errors agree)

    all         g <- sign g + weight_decay p

    sgd         b <- keep b + take g                            b <- g at its first step
                g <- b, or with nesterov g + keep b
                p <- p - rate g

    adam        p <- shrink p                                   AdamW's decay; 1 in Adam
                m <- m + take (g - m)
                v <- keep_square v + take_square g^2
                u <- max(u, v) with a maximum, else v
                p <- p - rate m / (scale sqrt(u) + eps)

    adagrad     s <- s + g^2
                p <- p - rate g / (sqrt(s) + eps)

    rmsprop     v <- keep_square v + take_square g^2
                a <- a + take_square (g - a)                    if it is centred
                g <- g / (sqrt(v - a^2) + eps)                  a = 0 if it is not; a difference below zero is zero
                b <- keep b + g,  g <- b                        with momentum
                p <- p - rate g

The caller computes the coefficients in double, bias corrections among them: of adam, rate = lr / (1 - beta1^t) and
scale = 1 / sqrt(1 - beta2^t). They and all arithmetic are rounded to the elements' precision.

The options of a rule are literals after inlining, which is why this module is compiled with ``CYTHON_INLINE`` meaning
``always_inline`` (see setup.py): each combination is a loop of its own, without branches, that the compiler vectorises.
A step reads and writes lines that it has just read, so stores that go past the caches would gain nothing.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport fabs, fabsf, sqrt, sqrtf

from fastgd._types cimport Update, UpdateKernels, real

cdef enum:
    LOOK = 256      # elements that are looked at for what is not finite before it is asked whether there was any


cdef inline real root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef inline bint is_finite(real x) noexcept nogil:
    if real is float:
        return fabsf(x) <= FLT_MAX
    else:
        return fabs(x) <= DBL_MAX


cdef inline real slope(const Update *rule, real g, real p, const bint decays) noexcept nogil:
    """The gradient of what is to be made small, with its penalty."""
    if decays:
        return <real> rule.sign * g + <real> rule.weight_decay * p
    return <real> rule.sign * g


# ---- one loop for each rule ----------------------------------------------------------------------------------------

cdef inline void descend(
    const Update *rule, const real *g, real *p, Py_ssize_t n, const bint decays
) noexcept nogil:
    """sgd without momentum."""
    cdef real rate = <real> rule.rate
    cdef Py_ssize_t i
    for i in range(n):
        p[i] -= rate * slope(rule, g[i], p[i], decays)


cdef inline void roll(
    const Update *rule, const real *g, real *p, real *b, Py_ssize_t n, const bint decays, const bint nesterov,
    const bint starts
) noexcept nogil:
    """sgd with momentum."""
    cdef real rate = <real> rule.rate, keep = <real> rule.keep, take = <real> rule.take, d, velocity
    cdef Py_ssize_t i
    for i in range(n):
        d = slope(rule, g[i], p[i], decays)
        velocity = d if starts else keep * b[i] + take * d
        b[i] = velocity
        p[i] -= rate * (d + keep * velocity if nesterov else velocity)


cdef inline void adapt(
    const Update *rule, const real *g, real *p, void *const *state, Py_ssize_t n, const bint decays,
    const bint takes_maximum
) noexcept nogil:
    """adam."""
    cdef real rate = <real> rule.rate, take = <real> rule.take, eps = <real> rule.eps, scale = <real> rule.scale
    cdef real keep_square = <real> rule.keep_square, take_square = <real> rule.take_square
    cdef real shrink = <real> rule.shrink, d, mean, square
    cdef real *m = <real *> state[0]
    cdef real *v = <real *> state[1]
    cdef real *u = <real *> state[2]
    cdef Py_ssize_t i
    for i in range(n):
        d = slope(rule, g[i], p[i], decays)
        mean = m[i] + take * (d - m[i])
        square = keep_square * v[i] + take_square * d * d
        m[i] = mean
        v[i] = square
        if takes_maximum:
            square = u[i] if u[i] > square else square      # what is no number stays in v
            u[i] = square
        p[i] = shrink * p[i] - rate * mean / (scale * root(square) + eps)


cdef inline void accumulate(
    const Update *rule, const real *g, real *p, real *s, Py_ssize_t n, const bint decays
) noexcept nogil:
    """adagrad."""
    cdef real rate = <real> rule.rate, eps = <real> rule.eps, d, total
    cdef Py_ssize_t i
    for i in range(n):
        d = slope(rule, g[i], p[i], decays)
        total = s[i] + d * d
        s[i] = total
        p[i] -= rate * d / (root(total) + eps)


cdef inline void normalise(
    const Update *rule, const real *g, real *p, void *const *state, Py_ssize_t n, const bint decays,
    const bint centred, const bint rolls
) noexcept nogil:
    """rmsprop."""
    cdef real rate = <real> rule.rate, keep = <real> rule.keep, eps = <real> rule.eps
    cdef real keep_square = <real> rule.keep_square, take_square = <real> rule.take_square, d, square, mean
    cdef real *v = <real *> state[0]
    cdef real *b = <real *> state[1]
    cdef real *a = <real *> state[2]
    cdef Py_ssize_t i
    for i in range(n):
        d = slope(rule, g[i], p[i], decays)
        square = keep_square * v[i] + take_square * d * d
        v[i] = square
        if centred:
            mean = a[i] + take_square * (d - a[i])
            a[i] = mean
            square -= mean * mean
            square = 0 if square < 0 else square
        if rolls:
            d = keep * b[i] + d / (root(square) + eps)
            b[i] = d
            p[i] -= rate * d
        else:
            p[i] -= rate * d / (root(square) + eps)


# ---- which of them -------------------------------------------------------------------------------------------------

cdef inline void sgd(const Update *rule, const real *g, real *p, void *const *state, Py_ssize_t n) noexcept nogil:
    cdef real *b = <real *> state[0]
    if not rule.rolls:
        if rule.weight_decay == 0:
            descend(rule, g, p, n, False)
        else:
            descend(rule, g, p, n, True)
    elif rule.starts:
        if rule.nesterov:
            roll(rule, g, p, b, n, True, True, True)
        else:
            roll(rule, g, p, b, n, True, False, True)
    elif rule.weight_decay == 0:
        if rule.nesterov:
            roll(rule, g, p, b, n, False, True, False)
        else:
            roll(rule, g, p, b, n, False, False, False)
    elif rule.nesterov:
        roll(rule, g, p, b, n, True, True, False)
    else:
        roll(rule, g, p, b, n, True, False, False)


cdef inline void adam(const Update *rule, const real *g, real *p, void *const *state, Py_ssize_t n) noexcept nogil:
    if rule.weight_decay == 0:
        if rule.takes_maximum:
            adapt(rule, g, p, state, n, False, True)
        else:
            adapt(rule, g, p, state, n, False, False)
    elif rule.takes_maximum:
        adapt(rule, g, p, state, n, True, True)
    else:
        adapt(rule, g, p, state, n, True, False)


cdef inline void adagrad(const Update *rule, const real *g, real *p, void *const *state, Py_ssize_t n) noexcept nogil:
    if rule.weight_decay == 0:
        accumulate(rule, g, p, <real *> state[0], n, False)
    else:
        accumulate(rule, g, p, <real *> state[0], n, True)


cdef inline void rmsprop_as(
    const Update *rule, const real *g, real *p, void *const *state, Py_ssize_t n, const bint decays
) noexcept nogil:
    if rule.centred:
        if rule.rolls:
            normalise(rule, g, p, state, n, decays, True, True)
        else:
            normalise(rule, g, p, state, n, decays, True, False)
    elif rule.rolls:
        normalise(rule, g, p, state, n, decays, False, True)
    else:
        normalise(rule, g, p, state, n, decays, False, False)


cdef inline void rmsprop(const Update *rule, const real *g, real *p, void *const *state, Py_ssize_t n) noexcept nogil:
    if rule.weight_decay == 0:
        rmsprop_as(rule, g, p, state, n, False)
    else:
        rmsprop_as(rule, g, p, state, n, True)


cdef inline Py_ssize_t finite(const real *g, Py_ssize_t n) noexcept nogil:
    """How many elements from the first on are finite."""
    cdef Py_ssize_t start = 0, stop, i
    cdef int beyond             # counted so that the loop vectorises
    while start < n:
        stop = min(start + LOOK, n)
        beyond = 0
        for i in range(start, stop):
            beyond |= not is_finite(g[i])
        if beyond:
            while is_finite(g[start]):
                start += 1
            return start
        start = stop
    return n


# ---- the kernels of the table --------------------------------------------------------------------------------------

cdef void sgd_f32(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    sgd(rule, <const float *> g, <float *> p, state, n)


cdef void sgd_f64(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    sgd(rule, <const double *> g, <double *> p, state, n)


cdef void adam_f32(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    adam(rule, <const float *> g, <float *> p, state, n)


cdef void adam_f64(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    adam(rule, <const double *> g, <double *> p, state, n)


cdef void adagrad_f32(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    adagrad(rule, <const float *> g, <float *> p, state, n)


cdef void adagrad_f64(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    adagrad(rule, <const double *> g, <double *> p, state, n)


cdef void rmsprop_f32(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    rmsprop(rule, <const float *> g, <float *> p, state, n)


cdef void rmsprop_f64(const Update *rule, const void *g, void *p, void *const *state, Py_ssize_t n) noexcept nogil:
    rmsprop(rule, <const double *> g, <double *> p, state, n)


cdef Py_ssize_t finite_f32(const void *g, Py_ssize_t n) noexcept nogil:
    return finite(<const float *> g, n)


cdef Py_ssize_t finite_f64(const void *g, Py_ssize_t n) noexcept nogil:
    return finite(<const double *> g, n)


cdef UpdateKernels kernels = UpdateKernels(
    sgd_f32=sgd_f32, sgd_f64=sgd_f64, adam_f32=adam_f32, adam_f64=adam_f64, adagrad_f32=adagrad_f32,
    adagrad_f64=adagrad_f64, rmsprop_f32=rmsprop_f32, rmsprop_f64=rmsprop_f64, finite_f32=finite_f32,
    finite_f64=finite_f64,
)

table = PyCapsule_New(&kernels, "fastgd.UpdateKernels", NULL)
