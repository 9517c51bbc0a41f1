/*
 * pfsfuse._answers: what pyfuse3 can't say to the kernel.
 *
 * This library defines functions of libfuse, which add to an answer and call libfuse's own. Imported with RTLD_GLOBAL
 * before pyfuse3 is, they are the ones that pyfuse3 calls; imported later, it does nothing.
 *
 * Closing a file that was opened for reading makes no request. Only the answer to open can say so (FOPEN_NOFLUSH, Linux
 * 5.16). An older libfuse ignores the flag, and so does an older kernel.
 *
 * Named pipes that are several nodes for the kernel, and so several pipes, can have one inode number for programs: the
 * one that is given as their st_rdev, which no pipe has.
 *
 * It also counts what the kernel asks, by kind of request, before libfuse takes it apart.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 11)
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/stat.h>

#define KINDS 64

/* Set once, when the module is imported. */
static int (*libfuse_reply_open)(fuse_req_t, const struct fuse_file_info *);
static int (*libfuse_reply_entry)(fuse_req_t, const struct fuse_entry_param *);
static int (*libfuse_reply_attr)(fuse_req_t, const struct stat *, double);
static void (*libfuse_session_process_buf)(struct fuse_session *, const struct fuse_buf *);

/* Requests by their opcode. One thread serves the mount. */
static unsigned long long asked[KINDS];

static void show_number(struct stat *status)
{
    if (S_ISFIFO(status->st_mode) && status->st_rdev) {
        status->st_ino = status->st_rdev;
        status->st_rdev = 0;
    }
}

int fuse_reply_open(fuse_req_t request, const struct fuse_file_info *info)
{
    struct fuse_file_info answer = *info;

    answer.noflush = (info->flags & O_ACCMODE) == O_RDONLY;
    return libfuse_reply_open(request, &answer);
}

int fuse_reply_entry(fuse_req_t request, const struct fuse_entry_param *entry)
{
    struct fuse_entry_param answer = *entry;

    show_number(&answer.attr);
    return libfuse_reply_entry(request, &answer);
}

int fuse_reply_attr(fuse_req_t request, const struct stat *status, double timeout)
{
    struct stat answer = *status;

    show_number(&answer);
    return libfuse_reply_attr(request, &answer, timeout);
}

/* Only what is written is so large that it comes through a pipe, where its header can't be seen. */
void fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buffer)
{
    unsigned kind = FUSE_WRITE;

    if (!(buffer->flags & FUSE_BUF_IS_FD))
        kind = ((const struct fuse_in_header *)buffer->mem)->opcode;
    if (kind < KINDS)
        asked[kind]++;
    libfuse_session_process_buf(session, buffer);
}

static PyObject *requests(PyObject *module, PyObject *unused)
{
    PyObject *counts = PyDict_New();

    (void)module, (void)unused;
    for (unsigned kind = 0; counts && kind < KINDS; kind++) {
        PyObject *key, *count = NULL;

        if (!asked[kind])
            continue;
        key = PyLong_FromUnsignedLong(kind);
        if (key)
            count = PyLong_FromUnsignedLongLong(asked[kind]);
        if (!count || PyDict_SetItem(counts, key, count) < 0)
            Py_CLEAR(counts);
        Py_XDECREF(key);
        Py_XDECREF(count);
    }
    return counts;
}

/* The library is asked for by the address of something else in it: its name has a version that pyfuse3 chose. It stays
 * open, as it is in use. */
static void *open_libfuse(void)
{
    Dl_info found;

    return dladdr((void *)fuse_version, &found) ? dlopen(found.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
}

static PyMethodDef methods[] = {
    {"requests", requests, METH_NOARGS, "How many requests of each opcode the kernel has made."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pfsfuse._answers",
    .m_doc = "Says to the kernel what pyfuse3 can't.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__answers(void)
{
    void *library = open_libfuse();

    if (library) {
        *(void **)&libfuse_reply_open = dlsym(library, "fuse_reply_open");
        *(void **)&libfuse_reply_entry = dlsym(library, "fuse_reply_entry");
        *(void **)&libfuse_reply_attr = dlsym(library, "fuse_reply_attr");
        *(void **)&libfuse_session_process_buf = dlsym(library, "fuse_session_process_buf");
    }
    if (!libfuse_reply_open || !libfuse_reply_entry || !libfuse_reply_attr || !libfuse_session_process_buf) {
        PyErr_SetString(PyExc_ImportError, "libfuse lacks a function that takes or answers requests");
        return NULL;
    }
    return PyModule_Create(&definition);
}
