/*
 * pfsd._core: the hot paths of the store.
 *
 * next_cut(data, start=0) -> int             where the next content-defined chunk ends (FastCDC)
 * rank(key) -> int                           how many levels of a tree a key ends nodes of
 * next_boundary(keys, start, level) -> int   where the next run of a level ends
 * weigh(keys, start) -> int                  what keys count for in the length of a run
 * divide(keys, end, limit, ...) -> list      where a run that is too long is cut into nodes
 * decode_node, encode_node                   a tree node's bytes and its parts
 * add_summaries(values), measure_entry(value)  the sums that a tree keeps
 *
 * Malformed data raises ValueError, which the callers turn into the store's own error.
 * No function keeps state between calls. Both hashes are part of the on-disk format: a change of any constant
 * here is a new format version (ARCHITECTURE.md, "Formats").
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* ---- content-defined chunking -------------------------------------------------------------------------- */

enum {
    MIN_CHUNK = 256 * 1024,
    AVG_CHUNK = 1024 * 1024,
    MAX_CHUNK = 4096 * 1024,
};

/* Normalised chunking (FastCDC, level 2): before the average a cut needs 22 zero bits, after it 18, where 20
 * would give the average by itself. The bits are the topmost ones, which depend on the 64 bytes last seen. */
static const uint64_t MASK_BEFORE = ~0ULL << (64 - 22);
static const uint64_t MASK_AFTER = ~0ULL << (64 - 18);

static uint64_t gear[256];

/* splitmix64: a fixed sequence of well mixed words (Steele, Lea, Flood 2014). */
static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static void init_gear(void)
{
    uint64_t state = 0x70667364; /* "pfsd" */
    for (int i = 0; i < 256; i++)
        gear[i] = splitmix64(&state);
}

/* Length of the chunk that begins at `data`, or 0 when `size` bytes do not decide it. */
static size_t cut(const uint8_t *data, size_t size)
{
    if (size <= MIN_CHUNK)
        return 0;
    size_t average = size < AVG_CHUNK ? size : AVG_CHUNK;
    size_t end = size < MAX_CHUNK ? size : MAX_CHUNK;
    uint64_t hash = 0;
    size_t i = MIN_CHUNK;
    for (; i < average; i++) {
        hash = (hash << 1) + gear[data[i]];
        if (!(hash & MASK_BEFORE))
            return i + 1;
    }
    for (; i < end; i++) {
        hash = (hash << 1) + gear[data[i]];
        if (!(hash & MASK_AFTER))
            return i + 1;
    }
    return end == MAX_CHUNK ? MAX_CHUNK : 0;
}

PyDoc_STRVAR(next_cut_doc,
"next_cut(data, start=0, /)\n--\n\n"
"The offset in data where the chunk that begins at start ends, or 0 when the data ends before that is decided.\n\n"
"Whether and where a chunk ends depends only on its own bytes. Raises ValueError when start is outside data.");

static PyObject *next_cut(PyObject *Py_UNUSED(self), PyObject *args)
{
    Py_buffer data;
    Py_ssize_t start = 0;
    if (!PyArg_ParseTuple(args, "y*|n:next_cut", &data, &start))
        return NULL;
    if (start < 0 || start > data.len) {
        PyBuffer_Release(&data);
        PyErr_SetString(PyExc_ValueError, "start is outside the data");
        return NULL;
    }
    size_t length;
    Py_BEGIN_ALLOW_THREADS
    length = cut((const uint8_t *)data.buf + start, (size_t)(data.len - start));
    Py_END_ALLOW_THREADS
    assert(length <= (size_t)(data.len - start));
    PyBuffer_Release(&data);
    return PyLong_FromSize_t(length ? (size_t)start + length : 0);
}

/* ---- tree shape ---------------------------------------------------------------------------------------- */

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

/* ---- nodes ---------------------------------------------------------------------------------------------- */

enum {
    VARINT_BYTES = 10, /* longest unsigned LEB128 integer of 64 bits */
    HASH_BYTES = 32,
    NODE_HEAD = 4, /* signature and level */
};
static const uint8_t SIGNATURE[] = {'P', 'T', 1};

/* Reads the integer at *at, which is not behind end, and moves *at past it; false when it is torn or too large. */
static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        uint64_t bits = byte & 0x7f;
        if (shift == 63 && bits > 1)
            return false;
        *value |= bits << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Writes an integer at `at`, which has room for VARINT_BYTES; returns where it ends. */
static uint8_t *write_varint(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

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

/* ---- sums ----------------------------------------------------------------------------------------------- */

enum { SUMS = 3 };

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

/* ---- module -------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"next_cut", next_cut, METH_VARARGS, next_cut_doc},
    {"rank", rank, METH_O, rank_doc},
    {"next_boundary", next_boundary, METH_VARARGS, next_boundary_doc},
    {"weigh", weigh, METH_VARARGS, weigh_doc},
    {"divide", divide, METH_VARARGS, divide_doc},
    {"decode_node", decode_node, METH_O, decode_node_doc},
    {"encode_node", encode_node, METH_VARARGS, encode_node_doc},
    {"add_summaries", add_summaries, METH_O, add_summaries_doc},
    {"measure_entry", measure_entry, METH_O, measure_entry_doc},
    {NULL, NULL, 0, NULL},
};

static int exec_module(PyObject *module)
{
    init_gear();
    return PyModule_AddIntConstant(module, "MIN_CHUNK", MIN_CHUNK) < 0 ||
           PyModule_AddIntConstant(module, "AVG_CHUNK", AVG_CHUNK) < 0 ||
           PyModule_AddIntConstant(module, "MAX_CHUNK", MAX_CHUNK) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pfsd._core",
    .m_doc = "The hot paths of the store, in C.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
