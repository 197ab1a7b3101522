"""Optimisers' steps on memory that the caller owns, over the kernels of src/kernels/updates.pyx.

`fastgd.optim` builds on three classes: `Parameter`, one array with its state; `Group`, the options of some parameters
in a form that needs no look-up; and `Stepper`, whose `step` is all that runs between the caller and the kernels. It
trusts nothing that can have changed since the step before: where parameters lie and whether they may be written, the
kind, shape and place of each gradient.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport pow, sqrt
from libc.string cimport memcpy, memset

from fastgd._types cimport Stretch, Update, UpdateKernels, finite_fn, update_rule_fn

import numpy as np

cnp.import_array()

cdef enum:
    SHORT = 1 << 13         # elements below which releasing the GIL costs more than it frees
    PIECE = 1 << 21         # elements between two looks at Ctrl-C
    TILE = 1 << 11          # elements that are copied before they are used, if they are not contiguous
    CHECK_FIRST = 1 << 18   # bytes of gradients that are read again from a near cache
    LINE = 64               # bytes of a cache line
    AXES = 64               # that an array can have
    STATES = 3

SGD, ADAM, ADAGRAD, RMSPROP = range(4)

cdef UpdateKernels *kernels


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <UpdateKernels *> PyCapsule_GetPointer(table, "fastgd.UpdateKernels")


cdef inline update_rule_fn kernel_of(int rule, bint is_float) noexcept nogil:
    if rule == 0:
        return kernels.sgd_f32 if is_float else kernels.sgd_f64
    if rule == 1:
        return kernels.adam_f32 if is_float else kernels.adam_f64
    if rule == 2:
        return kernels.adagrad_f32 if is_float else kernels.adagrad_f64
    return kernels.rmsprop_f32 if is_float else kernels.rmsprop_f64


# ---- arrays that are not contiguous ----------------------------------------------------------------------------------

cdef struct Grid:
    # Elements in the order of a parameter's axes from the longest stride to the shortest.
    char *start
    Py_ssize_t itemsize
    int ndim
    Py_ssize_t shape[AXES]
    Py_ssize_t strides[AXES]    # in bytes, of any sign


cdef inline void copy_element(char *target, const char *source, Py_ssize_t itemsize) noexcept nogil:
    if itemsize == 4:
        memcpy(target, source, 4)
    else:
        memcpy(target, source, 8)


cdef void copy_tile(const Grid *grid, Py_ssize_t first, Py_ssize_t count, char *tile, bint back) noexcept nogil:
    """Elements first to first + count to a contiguous tile, or back from there."""
    cdef Py_ssize_t index[AXES]
    cdef Py_ssize_t k, length, step = grid.strides[grid.ndim - 1]
    cdef int axis
    cdef char *element = grid.start
    for axis in range(grid.ndim - 1, -1, -1):
        index[axis] = first % grid.shape[axis]
        first //= grid.shape[axis]
        element += index[axis] * grid.strides[axis]
    while count > 0:
        axis = grid.ndim - 1
        length = min(count, grid.shape[axis] - index[axis])
        for k in range(length):
            if back:
                copy_element(element + k * step, tile + k * grid.itemsize, grid.itemsize)
            else:
                copy_element(tile + k * grid.itemsize, element + k * step, grid.itemsize)
        tile += length * grid.itemsize
        count -= length
        element += length * step
        index[axis] += length
        while axis > 0 and index[axis] == grid.shape[axis]:
            element += grid.strides[axis - 1] - index[axis] * grid.strides[axis]
            index[axis] = 0
            axis -= 1
            index[axis] += 1


cdef Grid *new_grid() except NULL:
    cdef Grid *grid = <Grid *> PyMem_RawMalloc(sizeof(Grid))
    if grid == NULL:
        raise MemoryError()
    return grid


# ---- what is done to one parameter -----------------------------------------------------------------------------------

cdef struct Job:
    # A step of one parameter; it owns nothing.
    Update rule
    update_rule_fn kernel
    finite_fn finite
    char *p
    const char *g
    char *state[STATES]         # NULL where the rule has none
    Py_ssize_t itemsize
    const Grid *p_grid          # NULL: contiguous
    const Grid *g_grid
    char *p_tile
    char *g_tile


cdef inline void *place_in(char *array, Py_ssize_t offset) noexcept nogil:
    return NULL if array == NULL else <void *> (array + offset)


cdef inline bint update_stretch(const Job *job, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Whether the gradient was finite. What is not contiguous goes through a tile."""
    cdef Py_ssize_t offset = first * job.itemsize
    cdef Stretch at
    cdef bint fine
    cdef int k
    at.n = count
    at.g = job.g + offset
    at.p = job.p + offset
    for k in range(STATES):
        at.state[k] = place_in(job.state[k], offset)
    if job.g_grid != NULL:
        copy_tile(job.g_grid, first, count, job.g_tile, False)
        at.g = job.g_tile
    if job.p_grid != NULL:
        copy_tile(job.p_grid, first, count, job.p_tile, False)
        at.p = job.p_tile
    fine = job.kernel(&job.rule, &at)
    if job.p_grid != NULL:
        copy_tile(job.p_grid, first, count, job.p_tile, True)
    return fine


cdef bint update_piece(const Job *job, Py_ssize_t first, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t length = stop - first, count
    cdef bint fine = True
    if job.p_grid != NULL or job.g_grid != NULL:
        length = min(length, TILE)
    while first < stop:
        count = min(stop - first, length)
        fine &= update_stretch(job, first, count)
        first += count
    return fine


cdef Py_ssize_t finite_piece(const Job *job, Py_ssize_t first, Py_ssize_t stop) noexcept nogil:
    """Where the first element of the gradient is that is not finite, or `stop`."""
    cdef Py_ssize_t count, found
    while first < stop:
        count = stop - first
        if job.g_grid == NULL:
            return first + job.finite(job.g + first * job.itemsize, count)
        count = min(count, <Py_ssize_t> TILE)
        copy_tile(job.g_grid, first, count, job.g_tile, False)
        found = job.finite(job.g_tile, count)
        first += found
        if found < count:
            return first
    return stop


cdef class Parameter:
    """One array that is updated in place, and its state, which lies in memory as it does.

    Parameters
    ----------
    array : ndarray of native float32 or float64, aligned, writable, no element of it twice
    owner : object
        The tensor whose memory it is, if it is a PyTorch tensor's; else None.
    name : str
        What errors call it.
    slots : tuple of int
        Which of the kernels' states it has.
    """

    cdef readonly cnp.ndarray array
    cdef readonly object owner
    cdef readonly str name
    cdef readonly dict states       # slot -> ndarray of the array's shape
    cdef public Py_ssize_t steps
    cdef tuple order                # its axes from the longest stride to the shortest
    cdef Py_ssize_t size
    cdef Py_ssize_t itemsize
    cdef bint is_float
    cdef bint in_c_order
    cdef char *data
    cdef char *state[STATES]
    cdef Grid *p_grid
    cdef Grid *g_grid
    cdef object gradient            # of the step under way
    cdef const char *g
    cdef bint g_is_dense
    cdef object seen                # the tensor that was the last gradient, its memory, and where that is
    cdef cnp.ndarray seen_view
    cdef object seen_place

    def __cinit__(self):
        self.p_grid = self.g_grid = NULL
        memset(self.state, 0, sizeof(self.state))

    def __init__(self, cnp.ndarray array not None, owner, str name not None, tuple slots not None):
        self.array = array
        self.owner = owner
        self.name = name
        self.size = cnp.PyArray_SIZE(array)
        self.itemsize = cnp.PyArray_ITEMSIZE(array)
        self.is_float = self.itemsize == 4
        self.data = <char *> cnp.PyArray_DATA(array)
        self.order = tuple(sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis)))
        self.in_c_order = cnp.PyArray_IS_C_CONTIGUOUS(array)
        if not array.transpose(self.order).flags.c_contiguous:
            self.p_grid = new_grid()
            self.lay_out(array, self.p_grid)
        self.states = {}
        for slot in slots:
            self.add_state(slot)

    def __dealloc__(self):
        PyMem_RawFree(self.p_grid)
        PyMem_RawFree(self.g_grid)

    cdef int lay_out(self, cnp.ndarray array, Grid *grid) except -1:
        cdef int axis, k = 0
        grid.start = <char *> cnp.PyArray_DATA(array)
        grid.itemsize = self.itemsize
        grid.ndim = cnp.PyArray_NDIM(array)
        for axis in self.order:
            grid.shape[k] = cnp.PyArray_DIM(array, axis)
            grid.strides[k] = cnp.PyArray_STRIDE(array, axis)
            k += 1
        return 0

    cdef int add_state(self, int slot) except -1:
        """Zeros, as far from the start of a cache line as the parameter is, so that both are read in whole lines."""
        cdef Py_ssize_t nbytes = self.size * self.itemsize
        memory = np.zeros(nbytes + LINE, np.uint8)
        start = (<Py_ssize_t> self.data - <Py_ssize_t> memory.ctypes.data) & (LINE - 1)
        flat = memory[start : start + nbytes].view(self.array.dtype)
        inverse = np.argsort(self.order).astype(int) if self.order else ()
        state = flat.reshape([self.array.shape[axis] for axis in self.order]).transpose(inverse)
        self.states[slot] = state
        self.state[slot] = <char *> cnp.PyArray_DATA(state)
        return 0

    cdef int check_place(self) except -1:
        """Raise unless the parameter is where it was, and may be written."""
        cdef bint moved = <char *> cnp.PyArray_DATA(self.array) != self.data
        if self.size == 0:
            return 0
        if self.owner is not None:
            moved |= <size_t> self.owner.data_ptr() != <size_t> self.data
        if moved or cnp.PyArray_SIZE(self.array) != self.size:
            raise ValueError(f"parameter {self.name} has got other memory since the optimiser was made; make a new one")
        if not cnp.PyArray_ISWRITEABLE(self.array):
            raise ValueError(f"parameter {self.name} has become read-only")
        return 0

    cdef int take(self, object gradient) except -1:
        """Look at the gradient of the next step, and keep it until `drop`."""
        cdef cnp.ndarray g
        cdef int axis
        if type(gradient) is not cnp.ndarray:
            gradient = self.view_of(gradient)
        g = gradient
        if (
            cnp.PyArray_TYPE(g) != <int> (cnp.NPY_FLOAT if self.is_float else cnp.NPY_DOUBLE)
            or cnp.PyArray_NDIM(g) != cnp.PyArray_NDIM(self.array)
            or not (cnp.PyArray_ISALIGNED(g) and cnp.PyArray_ISNOTSWAPPED(g))
        ):
            refuse_gradient(g, self)
        for axis in range(cnp.PyArray_NDIM(g)):
            if cnp.PyArray_DIM(g, axis) != cnp.PyArray_DIM(self.array, axis):
                refuse_gradient(g, self)
        self.g = <const char *> cnp.PyArray_DATA(g)
        self.g_is_dense = True
        if not (self.in_c_order and cnp.PyArray_IS_C_CONTIGUOUS(g)):
            self.g_is_dense = g.transpose(self.order).flags.c_contiguous
            if not self.g_is_dense:
                if self.g_grid == NULL:
                    self.g_grid = new_grid()
                self.lay_out(g, self.g_grid)
        self.gradient = gradient
        return 0

    cdef object view_of(self, object gradient):
        """The gradient's memory as an array. That of a tensor is remembered: PyTorch's own way takes a microsecond."""
        from fastgd import _buffers
        if gradient is self.seen and gradient is not None and gradient.data_ptr() == self.seen_place:
            return self.seen_view
        view = _buffers.gradient_view(gradient, f"gradient {self.name}", self.array)
        if _buffers.is_tensor(gradient):
            self.seen, self.seen_view, self.seen_place = gradient, view, gradient.data_ptr()
        return view

    cdef void drop(self) noexcept:
        self.gradient = None
        self.g = NULL

    cdef void fill_job(self, Job *job, int rule) noexcept:
        cdef int k
        job.kernel = kernel_of(rule, self.is_float)
        job.finite = kernels.finite_f32 if self.is_float else kernels.finite_f64
        job.p = self.data
        job.g = self.g
        job.itemsize = self.itemsize
        job.p_grid = self.p_grid
        job.g_grid = NULL if self.g_is_dense else self.g_grid
        for k in range(STATES):
            job.state[k] = self.state[k]

    cdef tuple index_of(self, Py_ssize_t place):
        """The index of the element that comes at this place in memory order."""
        shape = [self.array.shape[axis] for axis in self.order]
        found = dict(zip(self.order, map(int, np.unravel_index(place, shape)), strict=True))
        return tuple(found[axis] for axis in range(self.array.ndim))


def refuse_gradient(cnp.ndarray g not None, Parameter parameter not None):
    """Raise what is wrong with a gradient that does not fit its parameter."""
    name, array = f"gradient {parameter.name}", parameter.array
    if g.dtype != array.dtype:
        raise TypeError(f"{name} must have dtype {array.dtype}, as its parameter has, got {g.dtype}")
    if (<object> g).shape != (<object> array).shape:
        raise ValueError(
            f"{name} must have shape {(<object> array).shape}, as its parameter has, got {(<object> g).shape}"
        )
    raise ValueError(f"{name} must be aligned to its elements")


# ---- options ---------------------------------------------------------------------------------------------------------

cdef class Group:
    """Options of some parameters, as numbers.

    Parameters
    ----------
    rule : int
        SGD, ADAM, ADAGRAD or RMSPROP.
    """

    cdef readonly int rule
    cdef object schedule            # step -> lr; None: lr is fixed
    cdef double lr
    cdef double weight_decay
    cdef double lr_decay
    cdef double beta1
    cdef double beta2
    cdef bint decoupled
    cdef Update base                # what does not change from step to step

    def __init__(self, int rule):
        self.rule = rule

    def configure(self, dict options not None):
        """Take options over; `fastgd.optim` has checked them."""
        get = options.get
        lr = options["lr"]
        self.schedule = lr if callable(lr) else None
        self.lr = 0.0 if callable(lr) else lr
        self.weight_decay = get("weight_decay", 0.0)
        self.lr_decay = get("lr_decay", 0.0)
        self.beta1, self.beta2 = get("betas", (0.0, 0.0))
        self.decoupled = get("decoupled", False)
        self.base.sign = -1.0 if get("maximize", False) else 1.0
        self.base.weight_decay = 0.0 if self.decoupled else self.weight_decay
        self.base.shrink = 1.0
        self.base.keep = get("momentum", 0.0)
        self.base.rolls = self.base.keep != 0
        self.base.take = 1.0 - (self.beta1 if self.rule == 1 else get("dampening", 0.0))
        self.base.keep_square = self.beta2 if self.rule == 1 else get("alpha", 0.0)
        self.base.take_square = 1.0 - self.base.keep_square
        self.base.eps = get("eps", 0.0)
        self.base.nesterov = get("nesterov", False)
        self.base.takes_maximum = get("amsgrad", False)
        self.base.centred = get("centered", False)

    cdef double rate(self, Py_ssize_t steps) except -1.0:
        """lr of the step after so many."""
        if self.schedule is None:
            return self.lr
        from fastgd._validation import as_number
        return as_number(self.schedule(steps), f"lr({steps})", least=0.0)

    cdef void prepare(self, Update *rule, double lr, Py_ssize_t t) noexcept nogil:
        """The coefficients of a parameter's step number t, from 1 on."""
        memcpy(rule, &self.base, sizeof(Update))
        rule.rate = lr
        if self.rule == 0 and t == 1:
            rule.take = 1.0
        elif self.rule == 1:
            rule.rate = lr / (1.0 - pow(self.beta1, <double> t))
            rule.scale = 1.0 / sqrt(1.0 - pow(self.beta2, <double> t))
            if self.decoupled:
                rule.shrink = 1.0 - lr * self.weight_decay
        elif self.rule == 2:
            rule.rate = lr / (1.0 + (t - 1) * self.lr_decay)


# ---- structures of parameters ----------------------------------------------------------------------------------------

def flatten(value, str path, list leaves not None):
    """Add (path, leaf) for each leaf of nested lists, tuples and dicts, and return their structure: None of a leaf."""
    if isinstance(value, dict):
        return tuple(value), tuple([flatten(value[key], f"{path}[{key!r}]", leaves) for key in value])
    if isinstance(value, (list, tuple)):
        return None, tuple([flatten(part, f"{path}[{k}]", leaves) for k, part in enumerate(value)])
    leaves.append((path, value))
    return None


cdef int flatten_like(tuple structure, value, list leaves, str path) except -1:
    """Add the leaves of a value that has to have this structure."""
    cdef tuple parts
    if structure is None:
        leaves.append(value)
        return 0
    keys, parts = structure
    if keys is None:
        if not isinstance(value, (list, tuple)) or len(value) != len(parts):
            raise ValueError(f"{path} must be a list or tuple of {len(parts)}, as the parameters are, got {shown(value)}")
        for k in range(len(parts)):
            flatten_like(parts[k], value[k], leaves, f"{path}[{k}]")
        return 0
    if not isinstance(value, dict) or len(value) != len(keys) or not all([key in value for key in keys]):
        raise ValueError(f"{path} must be a dict of {', '.join(map(repr, keys))}, got {shown(value)}")
    for k in range(len(parts)):
        flatten_like(parts[k], value[keys[k]], leaves, f"{path}[{keys[k]!r}]")
    return 0


cdef str shown(value):
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(repr, value)) or 'nothing'}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (list, tuple)) else "")


# ---- the step --------------------------------------------------------------------------------------------------------

cdef class Stepper:
    """Parameters, their groups, and `step`.

    Parameters
    ----------
    parameters : list of Parameter
    groups : list of Group
    members : list of int
        Which group each parameter is of.
    structure : tuple or None
        Of the gradients; see `flatten`.
    check : int
        0: gradients are not looked at. 1: those of few bytes are before anything is changed, others on the way. 2: all
        are before anything is changed.
    """

    cdef readonly Py_ssize_t steps      # that were completed
    cdef list parameters
    cdef list groups
    cdef list members
    cdef tuple structure
    cdef int check
    cdef bint is_flat                   # the gradients are to be a list or tuple of arrays
    cdef bint busy
    cdef double *rates                  # one for each group
    cdef char *tiles
    cdef Py_ssize_t *starts             # where the parameters' memory lies, by ascending starts,
    cdef Py_ssize_t *stops              # and where that of the first so many ends at the latest
    cdef tuple tensors
    cdef object bump                    # tells PyTorch that tensors have changed

    def __cinit__(self):
        self.rates = NULL
        self.tiles = NULL
        self.starts = self.stops = NULL

    def __init__(
        self, list parameters not None, list groups not None, list members not None, tuple structure, int check
    ):
        cdef Py_ssize_t n = len(parameters)
        self.parameters, self.groups, self.members = parameters, groups, members
        self.structure = structure
        self.check = check
        self.is_flat = structure is not None and structure[0] is None and all([s is None for s in structure[1]])
        self.rates = <double *> allocate(len(groups) * sizeof(double))
        self.tiles = <char *> allocate(2 * TILE * sizeof(double))
        self.starts = <Py_ssize_t *> allocate((n + 1) * sizeof(Py_ssize_t))
        self.stops = <Py_ssize_t *> allocate((n + 1) * sizeof(Py_ssize_t))
        spans = sorted([span((<Parameter> parameter).array) for parameter in parameters])
        reach = 0
        for k, (start, stop) in enumerate(spans):
            self.starts[k] = start
            self.stops[k] = reach = max(reach, stop)
        self.tensors = tuple([(<Parameter> p).owner for p in parameters if (<Parameter> p).owner is not None])
        if self.tensors:
            from torch.autograd.graph import increment_version
            self.bump = increment_version

    def __dealloc__(self):
        PyMem_RawFree(self.rates)
        PyMem_RawFree(self.tiles)
        PyMem_RawFree(self.starts)
        PyMem_RawFree(self.stops)

    def go_to(self, Py_ssize_t steps):
        """Count steps from here on."""
        self.steps = steps

    def step(self, grads=None):
        """Update every parameter once, in place.

        Parameters
        ----------
        grads : array or list, tuple or dict of arrays, optional
            Gradients, in the structure of the parameters, each of its parameter's shape and dtype. With groups, a list
            of as many such structures. None takes those that PyTorch has left in the parameters' `grad`; a parameter
            that has none there is left alone, as PyTorch does.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit its parameter, or shares memory with one, or holds a NaN or an infinity; or if a
            parameter was moved or made read-only. Nothing was changed then, except that of large gradients with elements
            that are not finite all others were used (see `check_finite`); the message says so.
        """
        if self.busy:
            raise RuntimeError("this optimiser is in the midst of a step")
        self.busy = True
        try:
            self.take_all(grads)
            self.update_all()
        finally:
            for parameter in self.parameters:
                (<Parameter> parameter).drop()
            self.busy = False

    cdef int take_all(self, grads) except -1:
        cdef Py_ssize_t k
        cdef list items
        cdef Parameter parameter
        cdef bint some = False
        if self.is_flat and type(grads) is list and len(grads) == len(self.parameters):
            items = grads
        elif grads is None:
            items = [gradient_left_in(parameter) for parameter in self.parameters]
        else:
            items = []
            flatten_like(self.structure, grads, items, "grads")
        for k in range(len(self.parameters)):
            parameter = self.parameters[k]
            parameter.check_place()
            if grads is None and items[k] is None:
                continue
            parameter.take(items[k])
            self.check_clear(parameter)
            some = True
        if not some and self.parameters:
            raise ValueError("no parameter has a gradient: was backward() called?")
        return 0

    cdef int check_clear(self, Parameter parameter) except -1:
        """Raise if a gradient shares memory with a parameter."""
        cdef Py_ssize_t low = 0, high = len(self.parameters), middle, start, stop
        cdef cnp.ndarray g = parameter.gradient
        start = <Py_ssize_t> parameter.g
        stop = start + parameter.size * parameter.itemsize
        if not parameter.g_is_dense:
            start, stop = span(g)
        while low < high:               # the parameters that start before the gradient ends
            middle = (low + high) // 2
            if self.starts[middle] < stop:
                low = middle + 1
            else:
                high = middle
        if low > 0 and self.stops[low - 1] > start:
            for other in self.parameters:
                if share(g, (<Parameter> other).array):
                    raise ValueError(f"gradient {parameter.name} shares memory with parameter {other.name}")
        return 0

    cdef int update_all(self) except -1:
        cdef Py_ssize_t k, nbytes = 0
        cdef Parameter parameter, bad = None
        cdef Job job
        cdef bint first
        job.p_tile = self.tiles
        job.g_tile = self.tiles + TILE * sizeof(double)
        for k in range(len(self.groups)):
            self.rates[k] = (<Group> self.groups[k]).rate(self.steps)
        for parameter in self.parameters:
            nbytes += parameter.size * parameter.itemsize
        first = self.check == 2 or self.check == 1 and nbytes <= CHECK_FIRST
        if first:
            self.check_all(&job)
        bad = self.update_each(&job, first or not self.check)
        self.steps += 1
        if self.bump is not None:
            self.bump(self.tensors)
        if bad is not None:
            bad.fill_job(&job, 0)
            refuse_nonfinite(
                bad, finite_piece(&job, 0, bad.size), "the step left such elements alone, and all others have made it"
            )
        return 0

    cdef Parameter update_each(self, Job *job, bint passes):
        """The first parameter of which the gradient was not finite, unless it `passes`."""
        cdef Py_ssize_t k, t = -1, since = 0
        cdef int member, before = -1
        cdef Parameter parameter, bad = None
        cdef Group group
        for k in range(len(self.parameters)):
            parameter = self.parameters[k]
            if parameter.g == NULL:
                continue
            member = self.members[k]
            group = self.groups[member]
            if member != before or parameter.steps + 1 != t:
                t = parameter.steps + 1
                before = member
                group.prepare(&job.rule, self.rates[member], t)
                job.rule.passes = passes
            parameter.fill_job(job, group.rule)
            if not self.update(parameter, job, &since) and not passes and bad is None:
                bad = parameter
            parameter.steps = t
        return bad

    cdef int check_all(self, Job *job) except -1:
        """Raise if any gradient is not finite."""
        cdef Parameter parameter
        cdef Py_ssize_t first, stop, found
        for parameter in self.parameters:
            if parameter.g == NULL:
                continue
            parameter.fill_job(job, 0)
            first = 0
            while first < parameter.size:
                stop = min(parameter.size, first + PIECE)
                if stop - first < SHORT:
                    found = finite_piece(job, first, stop)
                else:
                    with nogil:
                        found = finite_piece(job, first, stop)
                    PyErr_CheckSignals()
                if found < stop:
                    refuse_nonfinite(parameter, found, "nothing was changed")
                first = stop
        return 0

    cdef int update(self, Parameter parameter, Job *job, Py_ssize_t *since) except -1:
        """Whether the gradient of one parameter was finite. `since` counts elements since the last look at Ctrl-C."""
        cdef Py_ssize_t first = 0, stop
        cdef bint fine = True
        while first < parameter.size:
            stop = min(parameter.size, first + PIECE)
            if stop - first < SHORT:
                fine &= update_piece(job, first, stop)
            else:
                with nogil:
                    fine &= update_piece(job, first, stop)
            since[0] += stop - first + LINE
            if since[0] > PIECE // 2:
                since[0] = 0
                PyErr_CheckSignals()
            first = stop
        return fine

    def __reduce__(self):
        raise TypeError("an optimiser is tied to the memory of its parameters: pickle its state_dict()")


cdef void *allocate(size_t nbytes) except NULL:
    cdef void *memory = PyMem_RawMalloc(nbytes)
    if memory == NULL:
        raise MemoryError()
    return memory


def refuse_nonfinite(Parameter parameter not None, Py_ssize_t place, str outcome not None):
    """Raise ValueError that names the gradient and the index of its element at this place in memory order."""
    index = parameter.index_of(place)
    value = np.asarray(parameter.gradient)[index]
    where = ", ".join(map(str, index))
    raise ValueError(
        f"gradient {parameter.name} holds {value} at index {where if len(index) == 1 else f'({where})'}; {outcome}"
    )


cdef object gradient_left_in(Parameter parameter):
    if parameter.owner is None:
        raise TypeError(
            f"parameter {parameter.name} is no PyTorch tensor, which would have its gradient in `grad`: call step(grads)"
        )
    return parameter.owner.grad


def span(cnp.ndarray array not None) -> tuple[int, int]:
    """The addresses between which an array's elements lie."""
    cdef Py_ssize_t start = <Py_ssize_t> cnp.PyArray_DATA(array), reach, axis
    cdef Py_ssize_t stop = start + cnp.PyArray_ITEMSIZE(array)
    if cnp.PyArray_SIZE(array) == 0:
        return start, start
    for axis in range(cnp.PyArray_NDIM(array)):
        reach = (cnp.PyArray_DIM(array, axis) - 1) * cnp.PyArray_STRIDE(array, axis)
        if reach < 0:
            start += reach
        else:
            stop += reach
    return start, stop


def share(cnp.ndarray a not None, cnp.ndarray b not None) -> bool:
    """Whether arrays have memory in common; True also where that is hard to tell."""
    try:
        return bool(np.shares_memory(a, b, max_work=100_000))
    except np.exceptions.TooHardError:
        return True
