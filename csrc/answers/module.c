/*
 * pfsfuse._answers: what pyfuse3 can't say to the kernel.
 *
 * This library defines functions of libfuse, which add to an answer and call libfuse's own. Imported with RTLD_GLOBAL
 * before pyfuse3 is, they are the ones that pyfuse3 calls; imported later, it does nothing.
 *
 * Closing a file that was opened for reading makes no request. Only the answer to open can say so (FOPEN_NOFLUSH, Linux
 * 5.16). An older libfuse ignores the flag, and so does an older kernel.
 *
 * A directory of an immutable tree is listed by the kernel itself once it has read it (FOPEN_CACHE_DIR).
 *
 * Named pipes that are several nodes for the kernel, and so several pipes, can have one inode number for programs: the
 * one that is given as their st_rdev, which no pipe has.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "answers.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

/* Set once, when the module is imported. */
static int (*libfuse_reply_open)(fuse_req_t, const struct fuse_file_info *);
static int (*libfuse_reply_entry)(fuse_req_t, const struct fuse_entry_param *);
static int (*libfuse_reply_attr)(fuse_req_t, const struct stat *, double);

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

    if (info->fh & TREE_LISTING) {
        answer.cache_readdir = 1;
        answer.keep_cache = 0;
    } else {
        answer.noflush = (info->flags & O_ACCMODE) == O_RDONLY;
    }
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

/* The library is asked for by the address of something else in it: its name has a version that pyfuse3 chose. It stays
 * open, as it is in use. */
static void *open_libfuse(void)
{
    Dl_info found;

    return dladdr((void *)fuse_version, &found) ? dlopen(found.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
}

/* --- what the Python code says */

static PyObject *done(int failed)
{
    return PyBool_FromLong(!failed);
}

static PyObject *claims(PyObject *self, PyObject *inode)
{
    uint64_t number = PyLong_AsUnsignedLongLong(inode);

    (void)self;
    return PyErr_Occurred() ? NULL : PyBool_FromLong(ready_claim(number) != 1);
}

static PyObject *opens(PyObject *self, PyObject *inode)
{
    uint64_t number = PyLong_AsUnsignedLongLong(inode);

    (void)self;
    return PyErr_Occurred() ? NULL : done(ready_open(number));
}

static PyObject *lists(PyObject *self, PyObject *inode)
{
    uint64_t number = PyLong_AsUnsignedLongLong(inode);

    (void)self;
    return PyErr_Occurred() ? NULL : done(ready_list(number));
}

static PyObject *offers(PyObject *self, PyObject *arguments)
{
    unsigned long long inode;
    Py_buffer data;
    int failed;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "Ky*", &inode, &data))
        return NULL;
    failed = data.len ? ready_offer(inode, data.buf, (size_t)data.len) : -1;
    PyBuffer_Release(&data);
    return done(failed);
}

static PyObject *holds(PyObject *self, PyObject *arguments)
{
    unsigned long long inode, file_size, start, size, offset;
    int pack;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "KKKKiK", &inode, &file_size, &start, &size, &pack, &offset))
        return NULL;
    return done(ready_range(inode, file_size, start, size, pack, offset));
}

static PyObject *drop(PyObject *self, PyObject *arguments)
{
    unsigned long long inode, parent;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "KK", &inode, &parent))
        return NULL;
    ready_drop(inode, parent);
    Py_RETURN_NONE;
}

static PyObject *take_pack(PyObject *self, PyObject *descriptor)
{
    int number = PyObject_AsFileDescriptor(descriptor);

    (void)self;
    return number < 0 ? NULL : PyLong_FromLong(ready_pack(number));
}

static PyObject *drop_pack(PyObject *self, PyObject *pack)
{
    long number = PyLong_AsLong(pack);

    (void)self;
    if (PyErr_Occurred())
        return NULL;
    ready_drop_pack((int)number);
    Py_RETURN_NONE;
}

static PyObject *requests(PyObject *self, PyObject *unused)
{
    PyObject *counts = PyDict_New();

    (void)self, (void)unused;
    for (unsigned kind = 0; counts && kind < REQUEST_KINDS; kind++) {
        unsigned long long times = taking_asked(kind);
        PyObject *key = times ? PyLong_FromUnsignedLong(kind) : NULL;
        PyObject *count = key ? PyLong_FromUnsignedLongLong(times) : NULL;

        if (times && (!count || PyDict_SetItem(counts, key, count) < 0))
            Py_CLEAR(counts);
        Py_XDECREF(key);
        Py_XDECREF(count);
    }
    return counts;
}

PyObject *offering_set(PyObject *self, PyObject *arguments);
PyObject *offering_settle(PyObject *self, PyObject *function);
PyObject *offering_reply(PyObject *self, PyObject *arguments);
PyObject *packing_entry(PyObject *self, PyObject *arguments);
PyObject *packing_no_entry(PyObject *self, PyObject *timeout);
PyObject *packing_attributes(PyObject *self, PyObject *arguments);
PyObject *held_hold(PyObject *self, PyObject *inode);
PyObject *held_tell(PyObject *self, PyObject *unused);
PyObject *held_end(PyObject *self, PyObject *unused);
PyObject *held_event(PyObject *self, PyObject *unused);
PyObject *listing_list(PyObject *self, PyObject *arguments);

static PyMethodDef methods[] = {
    {"offer", offering_set, METH_VARARGS,
     "offer(opcode, function): call function(unique, node, user, group, body) for each such request, or, with None, no\n"
     "function any more. A true value says that it is going to be answered with reply."},
    {"entry", packing_entry, METH_VARARGS,
     "entry(inode, name_seconds, seconds, shown, is_opened=False) -> bytes: what a name stands for, and for how long;\n"
     "with a handle, which is the inode's number, where it is opened."},
    {"no_entry", packing_no_entry, METH_O, "no_entry(seconds) -> bytes: that a name stands for nothing."},
    {"attributes", packing_attributes, METH_VARARGS, "attributes(inode, seconds, shown) -> bytes"},
    {"settle_with", offering_settle, METH_O,
     "settle_with(function): call it before each request where there is news; with None, nothing any more."},
    {"hold", held_hold, METH_O,
     "hold(inode): a new empty file, open once: writes that leave it small, flushes and its close need not be asked for."},
    {"news", held_tell, METH_NOARGS,
     "news() -> list: of each file that was written, flushed or closed so: inode, offset, bytes, time in ns, whether it\n"
     "was flushed, whether it was closed."},
    {"let_go", held_end, METH_NOARGS, "let_go() -> list: the same; from here on all is asked for."},
    {"news_event", held_event, METH_NOARGS, "news_event() -> int: a descriptor that can be read while there is news."},
    {"reply", offering_reply, METH_VARARGS, "reply(unique, error, body): answer a request; error is an errno value or 0."},
    {"list", listing_list, METH_VARARGS,
     "list(pairs, first, numbers, offset, time_ns, uid, gid, with_owners, modes): what READDIRPLUS is answered of entries\n"
     "from the first on, one for each number; None where one of them is special, linked or malformed."},
    {"requests", requests, METH_NOARGS, "requests() -> dict: how many requests of each opcode the kernel has made."},
    {"opens", opens, METH_O, "opens(inode): a file may be opened for reading without asking Python."},
    {"claims", claims, METH_O,
     "claims(inode) -> bool: nothing may be offered to a file any more. False where it may be opened already."},
    {"offers", offers, METH_VARARGS,
     "offers(inode, data): likewise, and the kernel is to be given all of it when it is opened first."},
    {"lists", lists, METH_O, "lists(inode): the kernel has all of a directory, which may be opened again likewise."},
    {"holds", holds, METH_VARARGS,
     "holds(inode, file_size, start, size, pack, offset): that range of a file lies, verified, in a pack."},
    {"drop", drop, METH_VARARGS, "drop(inode, parent): the kernel has forgotten an inode of that directory."},
    {"take_pack", take_pack, METH_O, "take_pack(descriptor) -> int: the number of a pack, or -1."},
    {"drop_pack", drop_pack, METH_O, "drop_pack(pack): read nothing from it any more."},
    {NULL, NULL, 0, NULL},
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
    }
    if (!libfuse_reply_open || !libfuse_reply_entry || !libfuse_reply_attr || taking_init(library)) {
        PyErr_SetString(PyExc_ImportError, "libfuse lacks a function that is stood in for");
        return NULL;
    }
    return PyModule_Create(&definition);
}
