/*
 * What the parts of pfsd._core give to the module.
 */
#ifndef CORE_H
#define CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Functions of chunks' ends, of the shape of trees, of their nodes' bytes, and of the sums they keep. */
extern PyMethodDef chunk_methods[], shape_methods[], node_methods[], sum_methods[];

enum {
    MIN_CHUNK = 256 * 1024,
    AVG_CHUNK = 1024 * 1024,
    MAX_CHUNK = 4096 * 1024,
};

/* Fills the table of the rolling hash, once. */
void init_gear(void);

#endif
