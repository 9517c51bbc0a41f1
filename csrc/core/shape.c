/* The shape of trees: which keys end nodes, and where runs that are too long are cut. */
#include "core.h"

#include <stdbool.h>
#include <stdint.h>

/* One level of a tree per this many zero bits: nodes of 128 entries on average. */
enum { RANK_BITS = 7 };

PyDoc_STRVAR(rank_doc,
"rank(key, /)\n--\n\n"
"How many levels of a tree this key ends nodes of: n or more with probability 128 ** -n, at most 9.");

static int rank_of(const uint8_t *key, Py_ssize_t size)
{
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a, 64 bits */
    for (Py_ssize_t i = 0; i < size; i++)
        hash = (hash ^ key[i]) * 0x100000001b3ULL;
    hash ^= hash >> 33; /* MurmurHash3's finaliser spreads short keys over all bits */
    hash *= 0xff51afd7ed558ccdULL;
    hash ^= hash >> 33;
    hash *= 0xc4ceb9fe1a85ec53ULL;
    hash ^= hash >> 33;
    return (hash ? __builtin_ctzll(hash) : 63) / RANK_BITS;
}

static PyObject *rank(PyObject *Py_UNUSED(self), PyObject *arg)
{
    Py_buffer key;
    if (PyObject_GetBuffer(arg, &key, PyBUF_SIMPLE) < 0)
        return NULL;
    int levels = rank_of(key.buf, key.len);
    PyBuffer_Release(&key);
    return PyLong_FromLong(levels);
}

PyDoc_STRVAR(next_boundary_doc,
"next_boundary(keys, start, level, /)\n--\n\n"
"The index after the first key from start on whose rank is above level, or 0 when there is none.\n\n"
"Raises ValueError when start is outside the list.");

static PyObject *next_boundary(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *keys;
    Py_ssize_t start;
    int level;
    if (!PyArg_ParseTuple(args, "O!ni:next_boundary", &PyList_Type, &keys, &start, &level))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(keys);
    if (start < 0 || start > count) {
        PyErr_SetString(PyExc_ValueError, "start is outside the list");
        return NULL;
    }
    for (Py_ssize_t i = start; i < count; i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        if (!PyBytes_Check(key)) {
            PyErr_SetString(PyExc_TypeError, "a key has to be bytes");
            return NULL;
        }
        if (rank_of((const uint8_t *)PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) > level)
            return PyLong_FromSsize_t(i + 1);
    }
    return PyLong_FromLong(0);
}

/* What a key counts for: its length, and what its place in a node costs whatever its length. */
enum { LEAST_WEIGHT = 256 };

static size_t weight_of(PyObject *key)
{
    size_t size = (size_t)PyBytes_GET_SIZE(key);
    return size > LEAST_WEIGHT ? size : LEAST_WEIGHT;
}

static bool all_bytes(PyObject *keys, Py_ssize_t start, Py_ssize_t end)
{
    for (Py_ssize_t i = start; i < end; i++)
        if (!PyBytes_Check(PyList_GET_ITEM(keys, i))) {
            PyErr_SetString(PyExc_TypeError, "a key has to be bytes");
            return false;
        }
    return true;
}

PyDoc_STRVAR(weigh_doc,
"weigh(keys, start, /)\n--\n\n"
"The sum over the keys from start on of their lengths, each 256 or more.");

static PyObject *weigh(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *keys;
    Py_ssize_t start;
    if (!PyArg_ParseTuple(args, "O!n:weigh", &PyList_Type, &keys, &start))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(keys);
    if (start < 0 || start > count) {
        PyErr_SetString(PyExc_ValueError, "start is outside the list");
        return NULL;
    }
    if (!all_bytes(keys, start, count))
        return NULL;
    size_t total = 0;
    for (Py_ssize_t i = start; i < count; i++)
        total += weight_of(PyList_GET_ITEM(keys, i));
    return PyLong_FromSize_t(total);
}

/* How many bits two keys have in common, from the first on. */
static size_t common_bits(PyObject *one, PyObject *other)
{
    const uint8_t *a = (const uint8_t *)PyBytes_AS_STRING(one), *b = (const uint8_t *)PyBytes_AS_STRING(other);
    size_t size = (size_t)PyBytes_GET_SIZE(one), i = 0;
    if ((size_t)PyBytes_GET_SIZE(other) < size)
        size = (size_t)PyBytes_GET_SIZE(other);
    while (i < size && a[i] == b[i])
        i++;
    size_t differing = i < size ? (size_t)__builtin_clz((unsigned)(a[i] ^ b[i])) - 24 : 0;
    return 8 * i + differing;
}

struct gap {
    size_t common; /* bits of the keys on both sides */
    size_t before; /* weight of the keys before it */
    Py_ssize_t left, right; /* the gaps around it that have fewer bits in common: -1, or `count`, where there is none */
};

/* Fills `left` and `right` of the gaps, in time that grows with their count: each is passed over once from each side. */
static void find_regions(struct gap *gaps, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t left = i - 1;
        while (left >= 0 && gaps[left].common >= gaps[i].common)
            left = gaps[left].left;
        gaps[i].left = left;
    }
    for (Py_ssize_t i = count - 1; i >= 0; i--) {
        Py_ssize_t right = i + 1;
        while (right < count && gaps[right].common >= gaps[i].common)
            right = gaps[right].right;
        gaps[i].right = right;
    }
}

/* Whether the run is cut at a gap: where the keys around it that have in common what its two sides have are too many
 * for a node. Where some of those may lie outside of what is at hand, it is cut where it was. */
static bool is_cut(const struct gap *gap, Py_ssize_t count, const struct gap *gaps, size_t total, size_t limit,
                   bool open_left, bool open_right, bool was_cut)
{
    size_t first = gap->left < 0 ? 0 : gaps[gap->left].before;
    size_t last = gap->right == count ? total : gaps[gap->right].before;
    bool is_open = (gap->left < 0 && open_left) || (gap->right == count && open_right);
    return last - first > limit || (is_open && was_cut);
}

PyDoc_STRVAR(divide_doc,
"divide(keys, end, limit, open_left, open_right, cuts, /)\n--\n\n"
"Where a run, or a part of one, the first end keys of a list, is cut into nodes: ascending indexes, the last is end.\n\n"
"open_left and open_right say that the run goes on there beyond the list, which holds more than limit there of what\n"
"did not change; cuts, ascending, are where the run was cut before.");

static PyObject *divide(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *keys, *cuts, *result = NULL;
    Py_ssize_t end, limit;
    int open_left, open_right;
    if (!PyArg_ParseTuple(args, "O!nnppO!:divide", &PyList_Type, &keys, &end, &limit, &open_left, &open_right,
                          &PyList_Type, &cuts))
        return NULL;
    if (end < 1 || end > PyList_GET_SIZE(keys) || limit < 0) {
        PyErr_SetString(PyExc_ValueError, "end is outside the list, or the limit is negative");
        return NULL;
    }
    if (!all_bytes(keys, 0, end))
        return NULL;
    size_t total = 0;
    for (Py_ssize_t i = 0; i < end; i++)
        total += weight_of(PyList_GET_ITEM(keys, i));
    if (total <= (size_t)limit)
        return Py_BuildValue("[n]", end);
    Py_ssize_t count = end - 1, cut_at = 0;
    struct gap *gaps = PyMem_New(struct gap, (size_t)count + 1);
    if (!gaps)
        return PyErr_NoMemory();
    size_t before = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        before += weight_of(PyList_GET_ITEM(keys, i));
        gaps[i].before = before;
        gaps[i].common = common_bits(PyList_GET_ITEM(keys, i), PyList_GET_ITEM(keys, i + 1));
    }
    find_regions(gaps, count);
    result = PyList_New(0);
    for (Py_ssize_t i = 0; result && i <= count; i++) {
        bool was_cut = false;
        while (cut_at < PyList_GET_SIZE(cuts)) {
            Py_ssize_t cut = PyLong_AsSsize_t(PyList_GET_ITEM(cuts, cut_at));
            if (cut == -1 && PyErr_Occurred()) {
                Py_CLEAR(result);
                goto done;
            }
            if (cut > i + 1)
                break;
            was_cut = cut == i + 1;
            cut_at++;
        }
        if (i < count && !is_cut(&gaps[i], count, gaps, total, (size_t)limit, open_left, open_right, was_cut))
            continue;
        PyObject *index = PyLong_FromSsize_t(i + 1);
        if (!index || PyList_Append(result, index) < 0)
            Py_CLEAR(result);
        Py_XDECREF(index);
    }
done:
    PyMem_Free(gaps);
    return result;
}

PyMethodDef shape_methods[] = {
    {"rank", rank, METH_O, rank_doc},
    {"next_boundary", next_boundary, METH_VARARGS, next_boundary_doc},
    {"weigh", weigh, METH_VARARGS, weigh_doc},
    {"divide", divide, METH_VARARGS, divide_doc},
    {NULL, NULL, 0, NULL},
};
