/* Content-defined chunking. */
#include "core.h"

#include <assert.h>
#include <stdint.h>

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

void init_gear(void)
{
    uint64_t state = 0x70667364; /* "pfsd" */
    for (int i = 0; i < 256; i++)
        gear[i] = splitmix64(&state);
}

/* The bytes that a hash depends on: older ones have been shifted out. */
enum { WINDOW = 64, LANE = 4096, LANES = 4 };

/* The hash of the window that ends before `end`. */
static uint64_t window(const uint8_t *end)
{
    uint64_t hash = 0;
    for (const uint8_t *at = end - WINDOW; at < end; at++)
        hash = (hash << 1) + gear[*at];
    return hash;
}

/* `found`, or the first place of those where one of four hashes, apart by a lane, has none of the mask's bits: they are
 * rare, so the loop that calls this is kept free of it. */
static __attribute__((noinline, cold)) size_t first(size_t found, size_t at, uint64_t mask, uint64_t a, uint64_t b,
                                                    uint64_t c)
{
    size_t here = !(a & mask) ? at : !(b & mask) ? at + LANE : !(c & mask) ? at + 2 * LANE : at + 3 * LANE;

    return here < found ? here : found;
}

/* The first i in [start, end) at which the hash, which is `hash` before `start`, has none of the mask's bits, or `end`.
 * Each hash waits for the one before: four parts of the data at a time keep the processor busy meanwhile. */
static size_t search(const uint8_t *data, size_t start, size_t end, uint64_t mask, uint64_t *hash)
{
    uint64_t a = *hash;
    size_t i = start;
    for (; end - i >= LANES * LANE; i += LANES * LANE) {
        const uint8_t *at = data + i;
        uint64_t b = window(at + LANE), c = window(at + 2 * LANE), d = window(at + 3 * LANE);
        size_t found = end;
        for (size_t n = 0; n < LANE; n++) {
            a = (a << 1) + gear[at[n]];
            b = (b << 1) + gear[at[n + LANE]];
            c = (c << 1) + gear[at[n + 2 * LANE]];
            d = (d << 1) + gear[at[n + 3 * LANE]];
            if (!((a & mask) && (b & mask) && (c & mask) && (d & mask)))
                found = first(found, i + n, mask, a, b, c);
        }
        if (found < end)
            return found;
        a = d;
    }
    for (; i < end; i++) {
        a = (a << 1) + gear[data[i]];
        if (!(a & mask))
            return i;
    }
    *hash = a;
    return end;
}

/* Length of the chunk that begins at `data`, or 0 when `size` bytes do not decide it. */
static size_t cut(const uint8_t *data, size_t size)
{
    if (size <= MIN_CHUNK)
        return 0;
    size_t average = size < AVG_CHUNK ? size : AVG_CHUNK;
    size_t end = size < MAX_CHUNK ? size : MAX_CHUNK;
    uint64_t hash = 0;
    size_t found = search(data, MIN_CHUNK, average, MASK_BEFORE, &hash);
    if (found < average)
        return found + 1;
    found = search(data, average, end, MASK_AFTER, &hash);
    if (found < end)
        return found + 1;
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

PyMethodDef chunk_methods[] = {
    {"next_cut", next_cut, METH_VARARGS, next_cut_doc},
    {NULL, NULL, 0, NULL},
};
