/* Loops over strided elements, as NumPy's ufuncs have them, for what is no ufunc: conversions, copies, choices.

   They are C because one text makes them for all pairs of types, and a table finds them by their characters. */
#ifndef FASTGD_STRIDED_H
#define FASTGD_STRIDED_H

#include <Python.h>
#include <stdint.h>

typedef void (*strided_loop)(char **, const Py_ssize_t *, const Py_ssize_t *, void *);

typedef struct { uint64_t low, high; } strided_16;

/* What is written may be what is read at the same place, but nothing that another element is computed from. */
#if defined(__clang__)
#define STRIDED_APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define STRIDED_APART _Pragma("GCC ivdep")
#endif

/* Elements that are next to each other, in a loop that the compiler vectorises; one that is repeated; and the rest. */
#define STRIDED_UNARY(NAME, FROM, TO, VALUE)                                                                          \
    static void NAME(char **args, const Py_ssize_t *n, const Py_ssize_t *steps, void *Py_UNUSED(data))                \
    {                                                                                                                 \
        const char *x = args[0];                                                                                      \
        char *y = args[1];                                                                                            \
        Py_ssize_t i, count = *n, sx = steps[0], sy = steps[1];                                                       \
        if (sx == sizeof(FROM) && sy == sizeof(TO))                                                                   \
            STRIDED_APART                                                                                             \
            for (i = 0; i < count; i++) { FROM v = ((const FROM *) x)[i]; ((TO *) y)[i] = VALUE; }                    \
        else if (sx == 0 && sy == sizeof(TO)) {                                                                       \
            FROM v = *(const FROM *) x;                                                                               \
            TO to = VALUE;                                                                                            \
            STRIDED_APART                                                                                             \
            for (i = 0; i < count; i++) ((TO *) y)[i] = to;                                                           \
        }                                                                                                             \
        else                                                                                                          \
            for (i = 0; i < count; i++) { FROM v = *(const FROM *) (x + i * sx); *(TO *) (y + i * sy) = VALUE; }      \
    }

/* Bits of the one or the other, so that no branch is to be predicted. */
#define STRIDED_CHOSEN(TYPE, C, V, W) (((V) & (TYPE) -(TYPE) ((C) != 0)) | ((W) & (TYPE) ~(TYPE) -(TYPE) ((C) != 0)))

#define STRIDED_CHOICE(NAME, TYPE)                                                                                    \
    static void NAME(char **args, const Py_ssize_t *n, const Py_ssize_t *steps, void *Py_UNUSED(data))                \
    {                                                                                                                 \
        const char *c = args[0], *x = args[1], *y = args[2];                                                          \
        char *out = args[3];                                                                                          \
        Py_ssize_t i, count = *n, sc = steps[0], sx = steps[1], sy = steps[2], so = steps[3], size = sizeof(TYPE);    \
        if (sc == 1 && so == size && sx == size && sy == size)                                                        \
            STRIDED_APART                                                                                             \
            for (i = 0; i < count; i++)                                                                               \
                ((TYPE *) out)[i] = STRIDED_CHOSEN(TYPE, c[i], ((const TYPE *) x)[i], ((const TYPE *) y)[i]);         \
        else if (sc == 1 && so == size && sx == size && sy == 0) {                                                    \
            TYPE w = *(const TYPE *) y;                                                                               \
            STRIDED_APART                                                                                             \
            for (i = 0; i < count; i++) ((TYPE *) out)[i] = STRIDED_CHOSEN(TYPE, c[i], ((const TYPE *) x)[i], w);     \
        }                                                                                                             \
        else if (sc == 1 && so == size && sx == 0 && sy == size) {                                                    \
            TYPE v = *(const TYPE *) x;                                                                               \
            STRIDED_APART                                                                                             \
            for (i = 0; i < count; i++) ((TYPE *) out)[i] = STRIDED_CHOSEN(TYPE, c[i], v, ((const TYPE *) y)[i]);     \
        }                                                                                                             \
        else                                                                                                          \
            for (i = 0; i < count; i++) {                                                                             \
                TYPE v = *(const TYPE *) (x + i * sx), w = *(const TYPE *) (y + i * sy);                              \
                *(TYPE *) (out + i * so) = c[i * sc] ? v : w;                                                         \
            }                                                                                                         \
    }

STRIDED_UNARY(strided_copy_1, uint8_t, uint8_t, v)
STRIDED_UNARY(strided_copy_2, uint16_t, uint16_t, v)
STRIDED_UNARY(strided_copy_4, uint32_t, uint32_t, v)
STRIDED_UNARY(strided_copy_8, uint64_t, uint64_t, v)
STRIDED_UNARY(strided_copy_16, strided_16, strided_16, v)

STRIDED_CHOICE(strided_where_1, uint8_t)
STRIDED_CHOICE(strided_where_2, uint16_t)
STRIDED_CHOICE(strided_where_4, uint32_t)
STRIDED_CHOICE(strided_where_8, uint64_t)
static void strided_where_16(char **args, const Py_ssize_t *n, const Py_ssize_t *steps, void *Py_UNUSED(data))
{
    for (Py_ssize_t i = 0; i < *n; i++)
        *(strided_16 *) (args[3] + i * steps[3]) = *(const strided_16 *) (
            args[0][i * steps[0]] ? args[1] + i * steps[1] : args[2] + i * steps[2]
        );
}

/* From each type: to bool, int, long, long long, float and double. */
#define STRIDED_CASTS(NAME, FROM)                                                                                     \
    STRIDED_UNARY(NAME##_to_bool, FROM, uint8_t, v != 0)                                                              \
    STRIDED_UNARY(NAME##_to_int, FROM, int, (int) v)                                                                  \
    STRIDED_UNARY(NAME##_to_long, FROM, long, (long) v)                                                               \
    STRIDED_UNARY(NAME##_to_longlong, FROM, long long, (long long) v)                                                 \
    STRIDED_UNARY(NAME##_to_float, FROM, float, (float) v)                                                            \
    STRIDED_UNARY(NAME##_to_double, FROM, double, (double) v)                                                         \
    static strided_loop NAME##_to(char to)                                                                            \
    {                                                                                                                 \
        switch (to) {                                                                                                 \
        case '?': return NAME##_to_bool;                                                                              \
        case 'i': return NAME##_to_int;                                                                               \
        case 'l': return NAME##_to_long;                                                                              \
        case 'q': return NAME##_to_longlong;                                                                          \
        case 'f': return NAME##_to_float;                                                                             \
        case 'd': return NAME##_to_double;                                                                            \
        default: return NULL;                                                                                         \
        }                                                                                                             \
    }

STRIDED_CASTS(strided_bool, uint8_t)
STRIDED_CASTS(strided_int, int)
STRIDED_CASTS(strided_long, long)
STRIDED_CASTS(strided_longlong, long long)
STRIDED_CASTS(strided_float, float)
STRIDED_CASTS(strided_double, double)

/* The loop that converts from one of NumPy's type characters to another; NULL if there is none. */
static strided_loop strided_cast(char from, char to)
{
    switch (from) {
    case '?': return strided_bool_to(to);
    case 'i': return strided_int_to(to);
    case 'l': return strided_long_to(to);
    case 'q': return strided_longlong_to(to);
    case 'f': return strided_float_to(to);
    case 'd': return strided_double_to(to);
    default: return NULL;
    }
}

/* The loop that copies elements of so many bytes; NULL if there is none. */
static strided_loop strided_copy(Py_ssize_t size)
{
    switch (size) {
    case 1: return strided_copy_1;
    case 2: return strided_copy_2;
    case 4: return strided_copy_4;
    case 8: return strided_copy_8;
    case 16: return strided_copy_16;
    default: return NULL;
    }
}

/* The loop that chooses between elements of so many bytes; NULL if there is none. */
static strided_loop strided_where(Py_ssize_t size)
{
    switch (size) {
    case 1: return strided_where_1;
    case 2: return strided_where_2;
    case 4: return strided_where_4;
    case 8: return strided_where_8;
    case 16: return strided_where_16;
    default: return NULL;
    }
}

#endif
