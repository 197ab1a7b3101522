"""Update rules: one pass over a parameter, its gradient and its state, all of them in place.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. With p a parameter's element, g its
gradient's, t the number of steps so far, this one included, and everything after `<-` as the lines before left it, one
step is (PyTorch's order of operations, in which alone rounding errors agree)

    all         g <- sign g + weight_decay p

    sgd         b <- keep b + take g                            take is 1 at the first step
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
A step writes lines that it has just read, so stores that go past the caches would gain nothing.

A gradient that is not finite must not reach parameters and state. To look at all of a large one first is to read it
twice, which takes a fifth to a third of a step. So the loops look at each element as they use it, and write nothing
where it is not finite.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport fabs, fabsf, sqrt, sqrtf

from fastgd._types cimport Stretch, Update, UpdateKernels, real

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
#
# Each returns whether the gradient was finite, counted so that the loop vectorises; what was not is left as it was,
# unless it `passes`.

cdef inline bint descend(const Update *rule, const Stretch *at, real *p, const bint decays) noexcept nogil:
    """sgd without momentum."""
    cdef real rate = <real> rule.rate, d
    cdef const real *g = <const real *> at.g
    cdef Py_ssize_t n = at.n, i
    cdef int passes = rule.passes, bad = 0, fine
    for i in range(n):
        fine = is_finite(g[i]) | passes
        bad |= not fine
        d = slope(rule, g[i], p[i], decays)
        p[i] = p[i] - rate * d if fine else p[i]
    return not bad


cdef inline bint roll(
    const Update *rule, const Stretch *at, real *p, const bint decays, const bint nesterov
) noexcept nogil:
    """sgd with momentum."""
    cdef real rate = <real> rule.rate, keep = <real> rule.keep, take = <real> rule.take, d, velocity
    cdef const real *g = <const real *> at.g
    cdef real *b = <real *> at.state[0]
    cdef Py_ssize_t n = at.n, i
    cdef int passes = rule.passes, bad = 0, fine
    for i in range(n):
        fine = is_finite(g[i]) | passes
        bad |= not fine
        d = slope(rule, g[i], p[i], decays)
        velocity = keep * b[i] + take * d
        b[i] = velocity if fine else b[i]
        d = d + keep * velocity if nesterov else velocity
        p[i] = p[i] - rate * d if fine else p[i]
    return not bad


cdef inline bint adapt(
    const Update *rule, const Stretch *at, real *p, const bint decays, const bint takes_maximum
) noexcept nogil:
    """adam."""
    cdef real rate = <real> rule.rate, take = <real> rule.take, eps = <real> rule.eps, scale = <real> rule.scale
    cdef real keep_square = <real> rule.keep_square, take_square = <real> rule.take_square
    cdef real shrink = <real> rule.shrink, d, mean, square
    cdef const real *g = <const real *> at.g
    cdef real *m = <real *> at.state[0]
    cdef real *v = <real *> at.state[1]
    cdef real *u = <real *> at.state[2]
    cdef Py_ssize_t n = at.n, i
    cdef int passes = rule.passes, bad = 0, fine
    for i in range(n):
        fine = is_finite(g[i]) | passes
        bad |= not fine
        d = slope(rule, g[i], p[i], decays)
        mean = m[i] + take * (d - m[i])
        square = keep_square * v[i] + take_square * d * d
        m[i] = mean if fine else m[i]
        v[i] = square if fine else v[i]
        if takes_maximum:
            square = u[i] if u[i] > square else square      # what is no number stays in v
            u[i] = square if fine else u[i]
        p[i] = shrink * p[i] - rate * mean / (scale * root(square) + eps) if fine else p[i]
    return not bad


cdef inline bint accumulate(const Update *rule, const Stretch *at, real *p, const bint decays) noexcept nogil:
    """adagrad."""
    cdef real rate = <real> rule.rate, eps = <real> rule.eps, d, total
    cdef const real *g = <const real *> at.g
    cdef real *s = <real *> at.state[0]
    cdef Py_ssize_t n = at.n, i
    cdef int passes = rule.passes, bad = 0, fine
    for i in range(n):
        fine = is_finite(g[i]) | passes
        bad |= not fine
        d = slope(rule, g[i], p[i], decays)
        total = s[i] + d * d
        s[i] = total if fine else s[i]
        p[i] = p[i] - rate * d / (root(total) + eps) if fine else p[i]
    return not bad


cdef inline bint normalise(
    const Update *rule, const Stretch *at, real *p, const bint decays, const bint centred, const bint rolls
) noexcept nogil:
    """rmsprop."""
    cdef real rate = <real> rule.rate, keep = <real> rule.keep, eps = <real> rule.eps
    cdef real keep_square = <real> rule.keep_square, take_square = <real> rule.take_square, d, square, mean
    cdef const real *g = <const real *> at.g
    cdef real *v = <real *> at.state[0]
    cdef real *b = <real *> at.state[1]
    cdef real *a = <real *> at.state[2]
    cdef Py_ssize_t n = at.n, i
    cdef int passes = rule.passes, bad = 0, fine
    for i in range(n):
        fine = is_finite(g[i]) | passes
        bad |= not fine
        d = slope(rule, g[i], p[i], decays)
        square = keep_square * v[i] + take_square * d * d
        v[i] = square if fine else v[i]
        if centred:
            mean = a[i] + take_square * (d - a[i])
            a[i] = mean if fine else a[i]
            square -= mean * mean
            square = 0 if square < 0 else square
        d /= root(square) + eps
        if rolls:
            d = keep * b[i] + d
            b[i] = d if fine else b[i]
        p[i] = p[i] - rate * d if fine else p[i]
    return not bad


# ---- which of them -------------------------------------------------------------------------------------------------

cdef inline bint sgd(const Update *rule, const Stretch *at, real *p) noexcept nogil:
    if not rule.rolls:
        if rule.weight_decay == 0:
            return descend(rule, at, p, False)
        return descend(rule, at, p, True)
    if rule.weight_decay == 0:
        if rule.nesterov:
            return roll(rule, at, p, False, True)
        return roll(rule, at, p, False, False)
    if rule.nesterov:
        return roll(rule, at, p, True, True)
    return roll(rule, at, p, True, False)


cdef inline bint adam(const Update *rule, const Stretch *at, real *p) noexcept nogil:
    if rule.weight_decay == 0:
        if rule.takes_maximum:
            return adapt(rule, at, p, False, True)
        return adapt(rule, at, p, False, False)
    if rule.takes_maximum:
        return adapt(rule, at, p, True, True)
    return adapt(rule, at, p, True, False)


cdef inline bint adagrad(const Update *rule, const Stretch *at, real *p) noexcept nogil:
    if rule.weight_decay == 0:
        return accumulate(rule, at, p, False)
    return accumulate(rule, at, p, True)


cdef inline bint rmsprop_as(const Update *rule, const Stretch *at, real *p, const bint decays) noexcept nogil:
    if rule.centred:
        if rule.rolls:
            return normalise(rule, at, p, decays, True, True)
        return normalise(rule, at, p, decays, True, False)
    if rule.rolls:
        return normalise(rule, at, p, decays, False, True)
    return normalise(rule, at, p, decays, False, False)


cdef inline bint rmsprop(const Update *rule, const Stretch *at, real *p) noexcept nogil:
    if rule.weight_decay == 0:
        return rmsprop_as(rule, at, p, False)
    return rmsprop_as(rule, at, p, True)


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

cdef bint sgd_f32(const Update *rule, const Stretch *at) noexcept nogil:
    return sgd(rule, at, <float *> at.p)


cdef bint sgd_f64(const Update *rule, const Stretch *at) noexcept nogil:
    return sgd(rule, at, <double *> at.p)


cdef bint adam_f32(const Update *rule, const Stretch *at) noexcept nogil:
    return adam(rule, at, <float *> at.p)


cdef bint adam_f64(const Update *rule, const Stretch *at) noexcept nogil:
    return adam(rule, at, <double *> at.p)


cdef bint adagrad_f32(const Update *rule, const Stretch *at) noexcept nogil:
    return adagrad(rule, at, <float *> at.p)


cdef bint adagrad_f64(const Update *rule, const Stretch *at) noexcept nogil:
    return adagrad(rule, at, <double *> at.p)


cdef bint rmsprop_f32(const Update *rule, const Stretch *at) noexcept nogil:
    return rmsprop(rule, at, <float *> at.p)


cdef bint rmsprop_f64(const Update *rule, const Stretch *at) noexcept nogil:
    return rmsprop(rule, at, <double *> at.p)


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
