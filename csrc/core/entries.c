/* Entries of directories, as `pfsd.trees.entries` lays them out: where their parts are, and what they are without attributes. */
#include "core.h"

#include <string.h>

#include "varints.h"

enum { FILE_ENTRY = 1, DIR_ENTRY = 2, SYMLINK_ENTRY = 3, SPECIAL_ENTRY = 4 };
enum { MODE = 1, OWNER = 2, TIME = 3, XATTRS = 4, LINK = 5, LINKS_BELOW = 6, PLAIN_ROOT = 7 };
enum { LINK_BYTES = 8, ANY_EXECUTE = 0111, PLAIN_EXECUTABLE = 0755 };

/* The parts of an entry. Pointers lead into its bytes. */
struct entry {
    int kind;
    uint64_t size, files, directories; /* of a symbolic link, `size` is its target's length */
    const uint8_t *attributes;         /* where they begin; the end of the entry where it has none */
    bool has_mode, has_owner, has_time;
    uint64_t mode, uid, gid, time;     /* the time still in its zigzag form */
    const uint8_t *xattrs, *link, *plain; /* NULL where there is none */
    uint64_t links;
};

/* Moves *at past so many bytes; false when there are fewer. */
static bool skip(const uint8_t **at, const uint8_t *end, uint64_t count)
{
    if (count > (uint64_t)(end - *at))
        return false;
    *at += count;
    return true;
}

static bool read_file(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    uint64_t count, size;
    if (!read_varint(at, end, &entry->size) || *at == end)
        return false;
    uint8_t form = *(*at)++;
    if (!read_varint(at, end, &count) || form > 1)
        return false;
    entry->files = 1;
    if (form == 1)
        return skip(at, end, HASH_BYTES);
    for (; count; count--)
        if (!skip(at, end, HASH_BYTES) || !read_varint(at, end, &size))
            return false;
    return true;
}

static bool read_dir(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    return skip(at, end, HASH_BYTES) && read_varint(at, end, &entry->size) && read_varint(at, end, &entry->files) &&
           read_varint(at, end, &entry->directories) && entry->directories < UINT64_MAX;
}

static bool read_symlink(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    entry->files = 1;
    return read_varint(at, end, &entry->size) && skip(at, end, entry->size);
}

static bool read_special(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    uint64_t device;
    entry->files = 1;
    return skip(at, end, 1) && read_varint(at, end, &device);
}

static bool read_xattrs(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    uint64_t count, size;
    entry->xattrs = *at;
    if (!read_varint(at, end, &count))
        return false;
    for (count = count > (uint64_t)(end - *at) ? UINT64_MAX : 2 * count; count; count--)
        if (count == UINT64_MAX || !read_varint(at, end, &size) || !skip(at, end, size))
            return false;
    return true;
}

/* Reads the attribute of a tag, whose value begins at *at. */
static bool read_attribute(int tag, const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    switch (tag) {
    case MODE:
        entry->has_mode = true;
        return read_varint(at, end, &entry->mode) && entry->mode <= 07777;
    case OWNER:
        entry->has_owner = true;
        return read_varint(at, end, &entry->uid) && read_varint(at, end, &entry->gid) && entry->uid < UINT32_MAX &&
               entry->gid < UINT32_MAX;
    case TIME:
        entry->has_time = true;
        return read_varint(at, end, &entry->time);
    case XATTRS:
        return read_xattrs(at, end, entry);
    case LINK:
        entry->link = *at;
        return entry->kind != DIR_ENTRY && skip(at, end, LINK_BYTES);
    case LINKS_BELOW:
        return entry->kind == DIR_ENTRY && read_varint(at, end, &entry->links) && entry->links;
    case PLAIN_ROOT:
        entry->plain = *at;
        return entry->kind == DIR_ENTRY && skip(at, end, HASH_BYTES);
    default:
        return false;
    }
}

/* Whether these bytes are an entry. */
static bool read_entry(const uint8_t *at, Py_ssize_t size, struct entry *entry)
{
    static bool (*const readers[])(const uint8_t **, const uint8_t *, struct entry *) = {
        [FILE_ENTRY] = read_file, [DIR_ENTRY] = read_dir, [SYMLINK_ENTRY] = read_symlink, [SPECIAL_ENTRY] = read_special,
    };
    const uint8_t *end = at + size;
    *entry = (struct entry){0};
    if (!size || *at < FILE_ENTRY || *at > SPECIAL_ENTRY)
        return false;
    entry->kind = *at++;
    if (!readers[entry->kind](&at, end, entry))
        return false;
    entry->attributes = at;
    for (int last = 0; at < end;) {
        int tag = *at++;
        if (tag <= last || !read_attribute(tag, &at, end, entry))
            return false;
        last = tag;
    }
    return true;
}

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
    long long time = (long long)(entry.time >> 1) ^ -(long long)(entry.time & 1);
    unsigned long long size = entry.kind == DIR_ENTRY ? 0 : entry.size;
    PyObject *result = PyTuple_New(7);
    PyObject *items[] = {
        PyLong_FromLong(entry.kind),
        PyLong_FromUnsignedLongLong(size),
        entry.has_mode ? PyLong_FromUnsignedLongLong(entry.mode) : Py_NewRef(Py_None),
        entry.has_owner ? PyLong_FromUnsignedLongLong(entry.uid) : Py_NewRef(Py_None),
        entry.has_owner ? PyLong_FromUnsignedLongLong(entry.gid) : Py_NewRef(Py_None),
        entry.has_time ? PyLong_FromLongLong(time) : Py_NewRef(Py_None),
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
