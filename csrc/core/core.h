/*
 * What the parts of pfsd._core give to the module.
 */
#ifndef CORE_H
#define CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

/* Functions of chunks' ends, of the shape of trees, of their nodes' bytes, of the sums they keep, and of entries. */
extern PyMethodDef chunk_methods[], shape_methods[], node_methods[], sum_methods[], entry_methods[];

enum {
    MIN_CHUNK = 256 * 1024,
    AVG_CHUNK = 1024 * 1024,
    MAX_CHUNK = 4096 * 1024,
};

enum {
    HASH_BYTES = 32,
    SUMS = 4, /* bytes, files, directories, hard links */
};

/* The sums as a tuple of Python's. */
PyObject *sums_tuple(const uint64_t *sums);

/* Fills the table of the rolling hash, once. */
void init_gear(void);

#endif
