/*
 * Answers about files of open commits, as the kernel takes them: see `linux/fuse.h`.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "answers.h"

#define SECOND_NS 1000000000
#define BLOCK 4096

static void fill_time(int64_t time_ns, uint64_t *seconds, uint32_t *rest)
{
    int64_t whole = time_ns / SECOND_NS - (time_ns % SECOND_NS < 0);

    *seconds = (uint64_t)whole;
    *rest = (uint32_t)(time_ns - whole * SECOND_NS);
}

static void fill_timeout(double timeout, uint64_t *seconds, uint32_t *rest)
{
    *seconds = (uint64_t)timeout;
    *rest = (uint32_t)((timeout - (double)*seconds) * SECOND_NS);
}

/* From a `Shown` of fuse/pfsfuse/repository/opennames.py; 0, and an exception, where it is none. */
static int fill_attributes(PyObject *shown, unsigned long long number, struct fuse_attr *attr)
{
    unsigned long long size;
    long long written, read, changed;

    if (!PyArg_ParseTuple(shown, "II(II)KLLLI", &attr->mode, &attr->nlink, &attr->uid, &attr->gid, &size, &written,
                          &read, &changed, &attr->rdev))
        return 0;
    attr->ino = number;
    attr->size = size;
    attr->blocks = size / 512 + !!(size % 512);
    attr->blksize = BLOCK;
    fill_time(read, &attr->atime, &attr->atimensec);
    fill_time(written, &attr->mtime, &attr->mtimensec);
    fill_time(changed, &attr->ctime, &attr->ctimensec);
    return 1;
}

PyObject *packing_entry(PyObject *self, PyObject *arguments)
{
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } answer = {0};
    unsigned long long number;
    double name_timeout, timeout;
    PyObject *shown;
    int is_opened = 0;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "KddO!|p:entry", &number, &name_timeout, &timeout, &PyTuple_Type, &shown,
                          &is_opened) ||
        !fill_attributes(shown, number, &answer.entry.attr))
        return NULL;
    answer.entry.nodeid = answer.open.fh = number;
    fill_timeout(name_timeout, &answer.entry.entry_valid, &answer.entry.entry_valid_nsec);
    fill_timeout(timeout, &answer.entry.attr_valid, &answer.entry.attr_valid_nsec);
    return PyBytes_FromStringAndSize((const char *)&answer, is_opened ? sizeof answer : sizeof answer.entry);
}

PyObject *packing_no_entry(PyObject *self, PyObject *timeout)
{
    struct fuse_entry_out answer = {0};
    double seconds = PyFloat_AsDouble(timeout);

    (void)self;
    if (PyErr_Occurred())
        return NULL;
    fill_timeout(seconds, &answer.entry_valid, &answer.entry_valid_nsec);
    return PyBytes_FromStringAndSize((const char *)&answer, sizeof answer);
}

PyObject *packing_attributes(PyObject *self, PyObject *arguments)
{
    struct fuse_attr_out answer = {0};
    unsigned long long number;
    double timeout;
    PyObject *shown;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "KdO!:attributes", &number, &timeout, &PyTuple_Type, &shown) ||
        !fill_attributes(shown, number, &answer.attr))
        return NULL;
    fill_timeout(timeout, &answer.attr_valid, &answer.attr_valid_nsec);
    return PyBytes_FromStringAndSize((const char *)&answer, sizeof answer);
}
