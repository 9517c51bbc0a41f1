/*
 * fuse._noflush: closing a file that was opened for reading makes no request.
 *
 * Only the answer to open can say so (FOPEN_NOFLUSH, Linux 5.16), and pyfuse3 does not hand that flag on to libfuse.
 * This library defines libfuse's own fuse_reply_open, which sets the flag and calls libfuse's. Imported with
 * RTLD_GLOBAL before pyfuse3 is, it is the one that pyfuse3 calls; imported later, it does nothing.
 *
 * An older libfuse ignores the flag, and so does an older kernel.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 11)
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>

typedef int reply_open(fuse_req_t request, const struct fuse_file_info *info);

static reply_open *libfuse_reply_open; /* set once, when the module is imported */

int fuse_reply_open(fuse_req_t request, const struct fuse_file_info *info)
{
    struct fuse_file_info answer = *info;

    answer.noflush = (info->flags & O_ACCMODE) == O_RDONLY;
    return libfuse_reply_open(request, &answer);
}

/* The library is asked for by the address of something else in it: its name has a version that pyfuse3 chose. */
static reply_open *find_in_libfuse(void)
{
    Dl_info found;
    void *library;

    if (!dladdr((void *)fuse_version, &found))
        return NULL;
    library = dlopen(found.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    return library ? (reply_open *)dlsym(library, "fuse_reply_open") : NULL; /* it stays open, as it is in use */
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fuse._noflush",
    .m_doc = "Spares the request that closing a file makes.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__noflush(void)
{
    libfuse_reply_open = find_in_libfuse();
    if (!libfuse_reply_open) {
        PyErr_SetString(PyExc_ImportError, "libfuse has no fuse_reply_open");
        return NULL;
    }
    return PyModule_Create(&definition);
}
