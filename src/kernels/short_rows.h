/* Second moments of rows so short that all sums stay in registers: whole rows in a vector, or one row in two.

With z the rows of a vector, less the shift and times the root of the weight, and turned(z, k) the same with each row
turned round by k places, z * turned(z, k) holds the products of all columns that are k apart, or d - k: those of all
pairs for k = 0 ... d / 2, in as many multiplications and no more shuffles than that. Of longer rows the halves are
turned each by itself, and the products of one with the other are taken element by element of the second.

The file is included once for each type of X, REAL, and of the sums, LANE. PLACE is an integer of LANE's size, WIDTH how
many a vector has, LIMIT the longest rows that are turned as a whole, LOAD reads a vector of X, SUFFIX ends the names. */

#define PASTE_(name, suffix) name##suffix
#define PASTE(name, suffix) PASTE_(name, suffix)
#define NAMED(name) PASTE(name, SUFFIX)
#define VECTOR NAMED(vector_)
#define SHORT NAMED(Short_)

#ifndef FASTGD_SHORT_ROWS
#define FASTGD_HALF 8               /* elements in a half of a row that takes two vectors, */
#define FASTGD_STAGED 8             /* and such rows that are stored before their elements are taken */
#define FASTGD_STAGED_AHEAD 8192    /* bytes between rows in use and those asked for, with these of double */
#define FASTGD_SHORT_SUMS 176
#define EACH(k, count) _Pragma("GCC unroll 16") for (int k = 0; k < (count); k++)
/* Turning takes shuffles by places in a register, and halves take 22 registers for sums. */
#if defined(__AVX2__) && !defined(__clang__)
#define FASTGD_SHORT_ROWS 1
#define SHUFFLED(z, places) __builtin_shuffle(z, places)
#else
#define FASTGD_SHORT_ROWS 0
#define SHUFFLED(z, places) ((void) (places), (z))      /* nothing is called */
#endif
#if defined(__AVX512F__)
#define FASTGD_SPLITS 1
#else
#define FASTGD_SPLITS 0
#endif
#endif

typedef LANE VECTOR __attribute__((vector_size(WIDTH * sizeof(LANE)), aligned(sizeof(LANE)), may_alias));
typedef PLACE NAMED(places_) __attribute__((vector_size(WIDTH * sizeof(LANE)), aligned(sizeof(LANE))));
typedef LANE NAMED(half_) __attribute__((vector_size(FASTGD_HALF * sizeof(LANE)), aligned(sizeof(LANE)), may_alias));
typedef PLACE NAMED(half_places_) __attribute__((vector_size(FASTGD_HALF * sizeof(LANE))));

typedef struct {
    LANE origin[2 * FASTGD_HALF];       /* the shift, as often as there are rows in a vector */
    PLACE turned[LIMIT / 2][WIDTH];     /* from where lanes come when rows are turned by 1, 2, ... places */
    PLACE spread[WIDTH];                /* to which row of its vector a lane belongs */
    Py_ssize_t d, rows;                 /* columns, and rows in a vector */
} SHORT;

static void NAMED(prepare_)(SHORT *how, Py_ssize_t d, Py_ssize_t rows, const double *shift) {
    how->d = d;
    how->rows = rows;
    for (Py_ssize_t l = 0; l < 2 * FASTGD_HALF; l++)
        how->origin[l] = d <= LIMIT ? (LANE) shift[l % d] : l < d ? (LANE) shift[l] : 0;
    for (Py_ssize_t l = 0; l < WIDTH && d <= LIMIT; l++) {
        how->spread[l] = (PLACE) (l / d);
        for (Py_ssize_t k = 1; k <= d / 2; k++)
            how->turned[k - 1][l] = (PLACE) ((l / d * d + (l % d + k) % d) % WIDTH);
    }
}

static CYTHON_INLINE void NAMED(flush_)(const LANE *lanes, int count, double *sums) {
    for (int l = 0; l < count; l++)
        sums[l] += lanes[l];
}

/* One value for each row of a vector, in all of its lanes. */
static CYTHON_INLINE VECTOR NAMED(spread_)(const LANE *values, NAMED(places_) spread, const int alone) {
    if (alone)
        return (VECTOR) {0} + values[0];
    return (VECTOR) SHUFFLED(*(const VECTOR *) values, spread);
}

/* sums_out[k] = z times z turned by k places, for k up to the literal `turns`; then z times the target, and z times the
   root. A literal NULL for `root` is a root of one. */
static CYTHON_INLINE void NAMED(add_turned_)(
    const REAL *x, Py_ssize_t step, Py_ssize_t count, const SHORT *how, const LANE *target, const LANE *root,
    double *sums_out, const int turns
) {
    const int alone = turns > WIDTH / 4;        /* one row fills the vector */
    const VECTOR origin = *(const VECTOR *) how->origin;
    const NAMED(places_) spread = *(const NAMED(places_) *) how->spread;
    NAMED(places_) turned[LIMIT / 2];
    VECTOR sums[LIMIT / 2 + 3];
    EACH(k, turns)
        turned[k] = *(const NAMED(places_) *) how->turned[k];
    EACH(k, turns + 3)
        sums[k] = (VECTOR) {0};
    for (Py_ssize_t i = 0; i < count; i += how->rows) {
        VECTOR z = LOAD(x + i * step) - origin, scaled = z;
        if (root) {
            VECTOR r = NAMED(spread_)(root + i, spread, alone);
            z *= r;
            scaled = z * r;
        }
        sums[0] += z * z;
        EACH(k, turns)
            sums[k + 1] += z * SHUFFLED(z, turned[k]);
        sums[turns + 1] += z * NAMED(spread_)(target + i, spread, alone);
        sums[turns + 2] += scaled;
    }
    EACH(k, turns + 3)
        NAMED(flush_)((const LANE *) &sums[k], WIDTH, sums_out + k * WIDTH);
}

/* The same of rows in two halves a and b: sums of a and then of b times itself turned by up to four places, of a times
   the first elements of b, as many as the literal `rest` says, 4 or 8; of a and b times the target, and the root. */
static CYTHON_INLINE void NAMED(add_halves_)(
    const REAL *x, Py_ssize_t step, Py_ssize_t count, const SHORT *how, const LANE *target, const LANE *root,
    double *sums_out, const int rest
) {
    const NAMED(half_places_) turned[4] = {
        {1, 2, 3, 4, 5, 6, 7, 0}, {2, 3, 4, 5, 6, 7, 0, 1}, {3, 4, 5, 6, 7, 0, 1, 2}, {4, 5, 6, 7, 0, 1, 2, 3}
    };
    const NAMED(half_) left = *(const NAMED(half_) *) how->origin;
    const NAMED(half_) right = *(const NAMED(half_) *) (how->origin + FASTGD_HALF);
    NAMED(half_) sums[22];
    LANE staged[2 * FASTGD_HALF * FASTGD_STAGED] __attribute__((aligned(64)));
    EACH(k, 22)
        sums[k] = (NAMED(half_)) {0};
    for (Py_ssize_t start = 0; start < count; start += FASTGD_STAGED) {
        Py_ssize_t some = count - start < FASTGD_STAGED ? count - start : FASTGD_STAGED;
        for (Py_ssize_t i = 0; i < some; i++) {
            NAMED(half_) a = HALF_LOAD(x + (start + i) * step) - left;
            NAMED(half_) b = HALF_LOAD(x + (start + i) * step + FASTGD_HALF) - right;
            if (root) {
                a *= root[start + i];
                b *= root[start + i];
            }
            *(NAMED(half_) *) (staged + 2 * FASTGD_HALF * i) = a;
            *(NAMED(half_) *) (staged + 2 * FASTGD_HALF * i + FASTGD_HALF) = b;
        }
        for (Py_ssize_t i = 0; i < some; i++) {
            if (sizeof(REAL) == sizeof(double))     /* their products take as long as memory does */
                EACH(k, 2)
                    __builtin_prefetch((const char *) (x + (start + i) * step) + FASTGD_STAGED_AHEAD + 64 * k, 0, 2);
            const LANE *row = staged + 2 * FASTGD_HALF * i, *second = row + FASTGD_HALF;
            const NAMED(half_) a = *(const NAMED(half_) *) row, b = *(const NAMED(half_) *) second;
            sums[0] += a * a;
            sums[5] += b * b;
            EACH(k, 4)
                sums[k + 1] += a * SHUFFLED(a, turned[k]);
            EACH(k, rest < FASTGD_HALF ? rest - 1 : 4)
                sums[k + 6] += b * SHUFFLED(b, turned[k]);
            EACH(k, rest)
                sums[k + 10] += a * second[k];
            sums[18] += a * target[start + i];
            sums[19] += b * target[start + i];
            sums[20] += a * (root ? root[start + i] : 1);
            sums[21] += b * (root ? root[start + i] : 1);
        }
    }
    EACH(k, 22)
        NAMED(flush_)((const LANE *) &sums[k], FASTGD_HALF, sums_out + k * FASTGD_HALF);
}

#define TURNED(turns) \
    case turns: \
        if (2 * (turns) <= LIMIT) \
            NAMED(add_turned_)(x, step, count, how, target, root, sums_out, turns); \
        break;

static CYTHON_INLINE void NAMED(add_some_)(
    const REAL *x, Py_ssize_t step, Py_ssize_t count, const SHORT *how, const LANE *target, const LANE *root,
    double *sums_out
) {
    if (how->d > LIMIT && FASTGD_SPLITS) {
        if (how->d > FASTGD_HALF + 4)
            NAMED(add_halves_)(x, step, count, how, target, root, sums_out, FASTGD_HALF);
        else if (LIMIT < FASTGD_HALF + 4)
            NAMED(add_halves_)(x, step, count, how, target, root, sums_out, 4);
    } else
        switch (how->d / 2) {
            TURNED(0)
            TURNED(1)
            TURNED(2)
            TURNED(3)
            TURNED(4)
            TURNED(5)
            TURNED(6)
        }
}

/* Add `count` rows, whole vectors of them, to the sums; `root` is NULL where all rows have the same weight of one. */
static void NAMED(add_short_)(
    const REAL *x, Py_ssize_t step, Py_ssize_t count, const SHORT *how, const LANE *target, const LANE *root,
    double *sums_out
) {
    if (root == NULL)
        NAMED(add_some_)(x, step, count, how, target, NULL, sums_out);
    else
        NAMED(add_some_)(x, step, count, how, target, root, sums_out);
}

#undef VECTOR
#undef SHORT
#undef TURNED
#undef REAL
#undef LANE
#undef PLACE
#undef WIDTH
#undef LIMIT
#undef LOAD
#undef HALF_LOAD
#undef SUFFIX
