/*
 * pfsd._core: the hot paths of the store.
 *
 * next_cut(data, start=0) -> int   where the next content-defined chunk ends (FastCDC)
 * rank(key) -> int                 how many levels of a tree a key ends nodes of
 *
 * No function keeps state between calls. Both hashes are part of the on-disk format: a change of any constant
 * here is a new format version (ARCHITECTURE.md, "Formats").
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <assert.h>
#include <stdint.h>

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

static PyObject *rank(PyObject *Py_UNUSED(self), PyObject *arg)
{
    Py_buffer key;
    if (PyObject_GetBuffer(arg, &key, PyBUF_SIMPLE) < 0)
        return NULL;
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a, 64 bits */
    const uint8_t *bytes = key.buf;
    for (Py_ssize_t i = 0; i < key.len; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
    PyBuffer_Release(&key);
    hash ^= hash >> 33; /* MurmurHash3's finaliser spreads short keys over all bits */
    hash *= 0xff51afd7ed558ccdULL;
    hash ^= hash >> 33;
    hash *= 0xc4ceb9fe1a85ec53ULL;
    hash ^= hash >> 33;
    return PyLong_FromLong((hash ? __builtin_ctzll(hash) : 63) / RANK_BITS);
}

/* ---- module -------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"next_cut", next_cut, METH_VARARGS, next_cut_doc},
    {"rank", rank, METH_O, rank_doc},
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
