/* The sums that a tree keeps, of bytes, files, directories and hard links. */
#include "core.h"

#include "varints.h"

PyObject *sums_tuple(const uint64_t *sums)
{
    return Py_BuildValue("KKKK", (unsigned long long)sums[0], (unsigned long long)sums[1], (unsigned long long)sums[2],
                         (unsigned long long)sums[3]);
}

/* Reads the sums of a value above level 0. The last one stands there alone with a hash behind it, or is 0. */
static bool read_sums(const uint8_t *at, const uint8_t *end, uint64_t *sums)
{
    for (int i = 0; i < SUMS - 1; i++)
        if (!read_varint(&at, end, &sums[i]))
            return false;
    sums[SUMS - 1] = 0;
    return at == end || (read_varint(&at, end, &sums[SUMS - 1]) && end - at == HASH_BYTES);
}

PyDoc_STRVAR(add_summaries_doc,
"add_summaries(values, /)\n--\n\n"
"The four sums over values of nodes above level 0; raises ValueError when one is malformed.");

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

PyMethodDef sum_methods[] = {
    {"add_summaries", add_summaries, METH_O, add_summaries_doc},
    {NULL, NULL, 0, NULL},
};
