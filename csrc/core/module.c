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
 * entry_end(value), stat_entry(value)        the parts of a directory's entry
 * plain_entry(value), plain_values(level, values)  entries, and the values of nodes, without attributes
 *
 * Malformed data raises ValueError, which the callers turn into the store's own error.
 * No function keeps state between calls. Both hashes are part of the on-disk format: a change of any constant
 * in these files is a new format version (ARCHITECTURE.md, "Formats").
 */
#include "core.h"

static int exec_module(PyObject *module)
{
    init_gear();
    PyMethodDef *parts[] = {chunk_methods, shape_methods, node_methods, sum_methods, entry_methods};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (PyModule_AddFunctions(module, parts[i]) < 0)
            return -1;
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
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
