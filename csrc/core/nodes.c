/* The bytes of tree nodes. */
#include "core.h"

#include <assert.h>
#include <string.h>

#include "varints.h"

enum { NODE_HEAD = 4 }; /* signature and level */
static const uint8_t SIGNATURE[] = {'P', 'T', 1};

/* Reads `length | bytes` at *at; NULL with an error set when it is torn. */
static PyObject *read_bytes(const uint8_t **at, const uint8_t *end)
{
    uint64_t size;
    if (!read_varint(at, end, &size) || size > (uint64_t)(end - *at)) {
        PyErr_SetString(PyExc_ValueError, "a tree node's length is wrong");
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)*at, (Py_ssize_t)size);
    *at += size;
    return bytes;
}

/* Fills the two lists, which have `count` free places; false with an error set when the data is malformed. */
static bool read_pairs(const uint8_t *at, const uint8_t *end, Py_ssize_t count, PyObject *keys, PyObject *values)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = read_bytes(&at, end);
        if (!key)
            return false;
        PyList_SET_ITEM(keys, i, key);
        PyObject *value = read_bytes(&at, end);
        if (!value)
            return false;
        PyList_SET_ITEM(values, i, value);
    }
    if (at != end)
        PyErr_SetString(PyExc_ValueError, "a tree node's length is wrong");
    return at == end;
}

PyDoc_STRVAR(decode_node_doc,
"decode_node(data, /)\n--\n\n"
"The level, the keys and the values of the tree node with these bytes; raises ValueError when they are not one.");

static PyObject *decode_node(PyObject *Py_UNUSED(self), PyObject *arg)
{
    Py_buffer data;
    if (PyObject_GetBuffer(arg, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    const uint8_t *at = data.buf, *end = at + data.len;
    PyObject *keys = NULL, *values = NULL, *result = NULL;
    uint64_t count;
    if (data.len < NODE_HEAD || memcmp(at, SIGNATURE, sizeof SIGNATURE) != 0) {
        PyErr_SetString(PyExc_ValueError, "a tree node does not begin with its signature");
        goto done;
    }
    at += NODE_HEAD;
    /* each pair takes two bytes or more, so the data bounds the memory that a count can ask for */
    if (!read_varint(&at, end, &count) || count > (uint64_t)(end - at) / 2) {
        PyErr_SetString(PyExc_ValueError, "a tree node's length is wrong");
        goto done;
    }
    keys = PyList_New((Py_ssize_t)count);
    values = PyList_New((Py_ssize_t)count);
    if (keys && values && read_pairs(at, end, (Py_ssize_t)count, keys, values))
        result = Py_BuildValue("iOO", ((const uint8_t *)data.buf)[NODE_HEAD - 1], keys, values);
done:
    Py_XDECREF(keys);
    Py_XDECREF(values);
    PyBuffer_Release(&data);
    return result;
}

/* Whether both are lists of bytes of one length; adds up the room that their encoding takes at most. */
static bool pairs_room(PyObject *keys, PyObject *values, size_t *room)
{
    if (PyList_GET_SIZE(keys) != PyList_GET_SIZE(values)) {
        PyErr_SetString(PyExc_ValueError, "a node needs as many values as keys");
        return false;
    }
    *room = NODE_HEAD + VARINT_BYTES;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = PyList_GET_ITEM(keys, i), *value = PyList_GET_ITEM(values, i);
        if (!PyBytes_Check(key) || !PyBytes_Check(value)) {
            PyErr_SetString(PyExc_TypeError, "keys and values have to be bytes");
            return false;
        }
        size_t sizes = (size_t)PyBytes_GET_SIZE(key) + (size_t)PyBytes_GET_SIZE(value) + 2 * VARINT_BYTES;
        if (__builtin_add_overflow(*room, sizes, room) || *room > PY_SSIZE_T_MAX) {
            PyErr_NoMemory();
            return false;
        }
    }
    return true;
}

static uint8_t *write_bytes(uint8_t *at, PyObject *bytes)
{
    Py_ssize_t size = PyBytes_GET_SIZE(bytes);
    at = write_varint(at, (uint64_t)size);
    memcpy(at, PyBytes_AS_STRING(bytes), (size_t)size);
    return at + size;
}

PyDoc_STRVAR(encode_node_doc,
"encode_node(level, keys, values, /)\n--\n\n"
"The bytes of a tree node; raises ValueError when there are not as many values as keys.");

static PyObject *encode_node(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned char level;
    PyObject *keys, *values;
    size_t room;
    if (!PyArg_ParseTuple(args, "bO!O!:encode_node", &level, &PyList_Type, &keys, &PyList_Type, &values) ||
        !pairs_room(keys, values, &room))
        return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    if (!result)
        return NULL;
    uint8_t *start = (uint8_t *)PyBytes_AS_STRING(result), *at = start;
    memcpy(at, SIGNATURE, sizeof SIGNATURE);
    at[NODE_HEAD - 1] = level;
    at = write_varint(at + NODE_HEAD, (uint64_t)PyList_GET_SIZE(keys));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys); i++) {
        at = write_bytes(at, PyList_GET_ITEM(keys, i));
        at = write_bytes(at, PyList_GET_ITEM(values, i));
    }
    assert((size_t)(at - start) <= room);
    _PyBytes_Resize(&result, at - start); /* leaves NULL and an error when it fails */
    return result;
}

PyMethodDef node_methods[] = {
    {"decode_node", decode_node, METH_O, decode_node_doc},
    {"encode_node", encode_node, METH_VARARGS, encode_node_doc},
    {NULL, NULL, 0, NULL},
};
