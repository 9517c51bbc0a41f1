/* The sums that a tree keeps, of bytes, files and directories. */
#include "core.h"

#include "varints.h"

enum { SUMS = 3, HASH_BYTES = 32 };

static bool read_sums(const uint8_t *at, const uint8_t *end, uint64_t *sums)
{
    for (int i = 0; i < SUMS; i++)
        if (!read_varint(&at, end, &sums[i]))
            return false;
    return at == end;
}

static PyObject *sums_tuple(const uint64_t *sums)
{
    return Py_BuildValue("KKK", (unsigned long long)sums[0], (unsigned long long)sums[1],
                         (unsigned long long)sums[2]);
}

PyDoc_STRVAR(add_summaries_doc,
"add_summaries(values, /)\n--\n\n"
"The three sums over values of nodes above level 0; raises ValueError when one is malformed.");

static PyObject *add_summaries(PyObject *Py_UNUSED(self), PyObject *values)
{
    if (!PyList_Check(values)) {
        PyErr_SetString(PyExc_TypeError, "a list is needed");
        return NULL;
    }
    uint64_t total[SUMS] = {0}, sums[SUMS];
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(values); i++) {
        PyObject *value = PyList_GET_ITEM(values, i);
        if (!PyBytes_Check(value)) {
            PyErr_SetString(PyExc_TypeError, "a value has to be bytes");
            return NULL;
        }
        const uint8_t *at = (const uint8_t *)PyBytes_AS_STRING(value);
        Py_ssize_t size = PyBytes_GET_SIZE(value);
        bool good = size >= HASH_BYTES && read_sums(at + HASH_BYTES, at + size, sums);
        for (int j = 0; good && j < SUMS; j++)
            good = !__builtin_add_overflow(total[j], sums[j], &total[j]);
        if (!good) {
            PyErr_SetString(PyExc_ValueError, "a tree node's sums can't be decoded");
            return NULL;
        }
    }
    return sums_tuple(total);
}

enum { FILE_ENTRY = 1, DIR_ENTRY = 2 };

static bool read_measure(const uint8_t *at, Py_ssize_t size, uint64_t *sums)
{
    const uint8_t *end = at + size;
    if (size > 0 && at[0] == FILE_ENTRY) {
        at++;
        sums[1] = 1;
        sums[2] = 0;
        return read_varint(&at, end, &sums[0]);
    }
    if (size > 1 + HASH_BYTES && at[0] == DIR_ENTRY)
        return read_sums(at + 1 + HASH_BYTES, end, sums) && !__builtin_add_overflow(sums[2], 1, &sums[2]);
    return false;
}

PyDoc_STRVAR(measure_entry_doc,
"measure_entry(value, /)\n--\n\n"
"Bytes, files and directories that a directory entry adds; raises ValueError when it is malformed.");

static PyObject *measure_entry(PyObject *Py_UNUSED(self), PyObject *arg)
{
    Py_buffer value;
    if (PyObject_GetBuffer(arg, &value, PyBUF_SIMPLE) < 0)
        return NULL;
    uint64_t sums[SUMS];
    bool good = read_measure(value.buf, value.len, sums);
    PyBuffer_Release(&value);
    if (good)
        return sums_tuple(sums);
    PyErr_SetString(PyExc_ValueError, "a directory entry can't be decoded");
    return NULL;
}

PyMethodDef sum_methods[] = {
    {"add_summaries", add_summaries, METH_O, add_summaries_doc},
    {"measure_entry", measure_entry, METH_O, measure_entry_doc},
    {NULL, NULL, 0, NULL},
};
