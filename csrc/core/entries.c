/* Entries of directories: what is told of them, and what they are without attributes. */
#include "core.h"

#include <string.h>

#include "entryparts.h"

enum { ANY_EXECUTE = 0111, PLAIN_EXECUTABLE = 0755 };

static bool buffer_entry(PyObject *arg, Py_buffer *value, struct entry *entry)
{
    if (PyObject_GetBuffer(arg, value, PyBUF_SIMPLE) < 0)
        return false;
    if (read_entry(value->buf, value->len, entry))
        return true;
    PyBuffer_Release(value);
    PyErr_SetString(PyExc_ValueError, "a directory entry can't be decoded");
    return false;
}

PyDoc_STRVAR(measure_entry_doc,
"measure_entry(value, /)\n--\n\n"
"Bytes, files, directories and hard links that a directory entry adds; raises ValueError when it is malformed.");

static PyObject *measure_entry(PyObject *Py_UNUSED(self), PyObject *arg)
{
    Py_buffer value;
    struct entry entry;
    if (!buffer_entry(arg, &value, &entry))
        return NULL;
    uint64_t sums[SUMS] = {
        entry.kind == FILE_ENTRY || entry.kind == DIR_ENTRY ? entry.size : 0,
        entry.files,
        entry.directories + (entry.kind == DIR_ENTRY),
        entry.links + (entry.link != NULL),
    };
    PyBuffer_Release(&value);
    return sums_tuple(sums);
}

PyDoc_STRVAR(entry_end_doc,
"entry_end(value, /)\n--\n\n"
"Where the attributes of a directory entry begin: its length where it has none; raises ValueError for a malformed one.");

static PyObject *entry_end(PyObject *Py_UNUSED(self), PyObject *arg)
{
    Py_buffer value;
    struct entry entry;
    if (!buffer_entry(arg, &value, &entry))
        return NULL;
    Py_ssize_t end = entry.attributes - (const uint8_t *)value.buf;
    PyBuffer_Release(&value);
    return PyLong_FromSsize_t(end);
}

PyDoc_STRVAR(stat_entry_doc,
"stat_entry(value, /)\n--\n\n"
"Kind, size, mode, user, group, time in nanoseconds, and the link, of a directory entry, for `stat`.\n\n"
"Each but the first two is None where it is not kept. Raises ValueError when the entry is malformed.");

static PyObject *stat_entry(PyObject *Py_UNUSED(self), PyObject *arg)
{
    Py_buffer value;
    struct entry entry;
    if (!buffer_entry(arg, &value, &entry))
        return NULL;
    PyObject *link = entry.link ? PyBytes_FromStringAndSize((const char *)entry.link, LINK_BYTES) : Py_NewRef(Py_None);
    PyBuffer_Release(&value);
    if (!link)
        return NULL;
    unsigned long long size = entry.kind == DIR_ENTRY ? 0 : entry.size;
    PyObject *result = PyTuple_New(7);
    PyObject *items[] = {
        PyLong_FromLong(entry.kind),
        PyLong_FromUnsignedLongLong(size),
        entry.has_mode ? PyLong_FromUnsignedLongLong(entry.mode) : Py_NewRef(Py_None),
        entry.has_owner ? PyLong_FromUnsignedLongLong(entry.uid) : Py_NewRef(Py_None),
        entry.has_owner ? PyLong_FromUnsignedLongLong(entry.gid) : Py_NewRef(Py_None),
        entry.has_time ? PyLong_FromLongLong(time_of(&entry)) : Py_NewRef(Py_None),
        link,
    };
    bool good = result != NULL;
    for (int i = 0; i < 7; i++)
        good = good && items[i];
    for (int i = 0; i < 7; i++)
        if (good)
            PyTuple_SET_ITEM(result, i, items[i]);
        else
            Py_XDECREF(items[i]);
    if (!good)
        Py_CLEAR(result);
    return result;
}

/* The entry at `value` as plain bytes; the object itself where it is plain. */
static PyObject *plain_of(PyObject *value)
{
    struct entry entry;
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(value);
    Py_ssize_t size = PyBytes_GET_SIZE(value);
    if (!read_entry(start, size, &entry)) {
        PyErr_SetString(PyExc_ValueError, "a directory entry can't be decoded");
        return NULL;
    }
    Py_ssize_t head = entry.attributes - start;
    bool is_executable = entry.kind == FILE_ENTRY && entry.has_mode && (entry.mode & ANY_EXECUTE);
    if (head == size)
        return Py_NewRef(value);
    uint8_t mark[1 + VARINT_BYTES] = {MODE};
    Py_ssize_t marked = is_executable ? write_varint(mark + 1, PLAIN_EXECUTABLE) - mark : 0;
    if (head + marked == size && !memcmp(entry.attributes, mark, (size_t)marked))
        return Py_NewRef(value);
    PyObject *result = PyBytes_FromStringAndSize(NULL, head + marked);
    if (!result)
        return NULL;
    uint8_t *out = (uint8_t *)PyBytes_AS_STRING(result);
    memcpy(out, start, (size_t)head);
    memcpy(out + head, mark, (size_t)marked);
    if (entry.plain)
        memcpy(out + 1, entry.plain, HASH_BYTES);
    return result;
}

PyDoc_STRVAR(plain_entry_doc,
"plain_entry(value, /)\n--\n\n"
"A directory entry without attributes but whether it can be executed; raises ValueError when it is malformed.");

static PyObject *plain_entry(PyObject *Py_UNUSED(self), PyObject *value)
{
    if (PyBytes_Check(value))
        return plain_of(value);
    PyErr_SetString(PyExc_TypeError, "an entry has to be bytes");
    return NULL;
}

/* A value above level 0 as the plain tree has it; the object itself where that is the same. */
static PyObject *plain_child(PyObject *value)
{
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(value), *end = start + PyBytes_GET_SIZE(value);
    const uint8_t *at = start + HASH_BYTES;
    uint64_t sum;
    bool good = end - start > HASH_BYTES;
    for (int i = 0; good && i < SUMS - 1; i++)
        good = read_varint(&at, end, &sum);
    if (good && at == end)
        return Py_NewRef(value);
    Py_ssize_t size = at - start;
    if (!good || !read_varint(&at, end, &sum) || end - at != HASH_BYTES) {
        PyErr_SetString(PyExc_ValueError, "a tree node's sums can't be decoded");
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize((const char *)start, size);
    if (result)
        memcpy(PyBytes_AS_STRING(result), at, HASH_BYTES);
    return result;
}

PyDoc_STRVAR(plain_values_doc,
"plain_values(level, values, /)\n--\n\n"
"The values that a node of a directory's tree has when nothing below it has attributes; None where they are the same.\n\n"
"Raises ValueError when one is malformed.");

static PyObject *plain_values(PyObject *Py_UNUSED(self), PyObject *args)
{
    int level;
    PyObject *values;
    if (!PyArg_ParseTuple(args, "iO!:plain_values", &level, &PyList_Type, &values))
        return NULL;
    PyObject *result = PyList_New(PyList_GET_SIZE(values));
    bool differs = false;
    for (Py_ssize_t i = 0; result && i < PyList_GET_SIZE(values); i++) {
        PyObject *value = PyList_GET_ITEM(values, i), *plain = NULL;
        if (!PyBytes_Check(value))
            PyErr_SetString(PyExc_TypeError, "a value has to be bytes");
        else
            plain = level ? plain_child(value) : plain_of(value);
        if (!plain) {
            Py_CLEAR(result);
            break;
        }
        differs = differs || plain != value;
        PyList_SET_ITEM(result, i, plain);
    }
    if (result && !differs) {
        Py_DECREF(result);
        Py_RETURN_NONE;
    }
    return result;
}

PyMethodDef entry_methods[] = {
    {"measure_entry", measure_entry, METH_O, measure_entry_doc},
    {"entry_end", entry_end, METH_O, entry_end_doc},
    {"stat_entry", stat_entry, METH_O, stat_entry_doc},
    {"plain_entry", plain_entry, METH_O, plain_entry_doc},
    {"plain_values", plain_values, METH_VARARGS, plain_values_doc},
    {NULL, NULL, 0, NULL},
};
