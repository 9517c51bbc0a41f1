/*
 * Lists of directories of immutable trees, as the kernel takes them with the attributes of what they hold.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "answers.h"

#include "../core/entryparts.h"

#include <string.h>
#include <sys/stat.h>

#define SECOND_NS 1000000000
#define BLOCK 4096
#define FOREVER 1000000 /* seconds; as in fuse/pfsfuse/kernel/inodes.py */

/* What all of a list is shown with, where entries keep nothing else. */
struct shown {
    int64_t time_ns;
    unsigned uid, gid;
    int with_owners;
    unsigned file_mode, directory_mode, symlink_mode;
};

static void fill_attributes(struct fuse_attr *attr, const struct entry *entry, const struct shown *shown)
{
    int64_t time_ns = entry->has_time ? time_of(entry) : shown->time_ns;
    int64_t seconds = time_ns / SECOND_NS - (time_ns % SECOND_NS < 0);

    attr->size = entry->kind == DIR_ENTRY ? 0 : entry->size;
    attr->blocks = attr->size / 512 + !!(attr->size % 512);
    attr->atime = attr->mtime = attr->ctime = (uint64_t)seconds;
    attr->atimensec = attr->mtimensec = attr->ctimensec = (uint32_t)(time_ns - seconds * SECOND_NS);
    if (entry->kind == FILE_ENTRY)
        attr->mode = S_IFREG | (entry->has_mode ? (uint32_t)entry->mode : shown->file_mode);
    else if (entry->kind == DIR_ENTRY)
        attr->mode = S_IFDIR | (entry->has_mode ? (uint32_t)entry->mode : shown->directory_mode);
    else
        attr->mode = S_IFLNK | shown->symlink_mode;
    attr->nlink = 1;
    attr->uid = entry->has_owner && shown->with_owners ? (uint32_t)entry->uid : shown->uid;
    attr->gid = entry->has_owner && shown->with_owners ? (uint32_t)entry->gid : shown->gid;
    attr->blksize = BLOCK;
}

/* Writes an entry at `at`, which is zeros; the bytes that it takes, or 0 where it is none that is listed here. */
static size_t write_entry(char *at, PyObject *key, PyObject *value, uint64_t number, uint64_t offset,
                          const struct shown *shown)
{
    struct fuse_direntplus *out = (void *)at;
    struct entry entry;

    if (!read_entry((const uint8_t *)PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), &entry) ||
        entry.kind == SPECIAL_ENTRY || entry.link)
        return 0;
    out->entry_out.nodeid = number;
    out->entry_out.entry_valid = out->entry_out.attr_valid = FOREVER;
    fill_attributes(&out->entry_out.attr, &entry, shown);
    out->entry_out.attr.ino = out->dirent.ino = number;
    out->dirent.off = offset;
    out->dirent.namelen = (uint32_t)PyBytes_GET_SIZE(key);
    out->dirent.type = (out->entry_out.attr.mode & S_IFMT) >> 12;
    memcpy(out->dirent.name, PyBytes_AS_STRING(key), out->dirent.namelen);
    return FUSE_DIRENTPLUS_SIZE(out);
}

static size_t room_of(PyObject *key)
{
    return FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + (size_t)PyBytes_GET_SIZE(key));
}

/* The pair of bytes at an index of a list; NULL, and an exception, where there is none. */
static PyObject *pair_at(PyObject *pairs, Py_ssize_t at)
{
    PyObject *pair = at < PyList_GET_SIZE(pairs) ? PyList_GET_ITEM(pairs, at) : NULL;

    if (pair && PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && PyBytes_Check(PyTuple_GET_ITEM(pair, 0)) &&
        PyBytes_Check(PyTuple_GET_ITEM(pair, 1)))
        return pair;
    PyErr_SetString(PyExc_TypeError, "an entry is a pair of bytes");
    return NULL;
}

/* The bytes that so many entries take; 0, and an exception, where they are not there. */
static size_t measure(PyObject *pairs, Py_ssize_t first, Py_ssize_t count)
{
    size_t size = 0;

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = pair_at(pairs, first + i);

        if (!pair)
            return 0;
        size += room_of(PyTuple_GET_ITEM(pair, 0));
    }
    return size;
}

PyObject *listing_list(PyObject *self, PyObject *arguments)
{
    PyObject *pairs, *numbers, *result;
    Py_ssize_t first, count;
    unsigned long long offset;
    long long time_ns;
    struct shown shown;
    size_t size;
    char *at;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "O!nO!KLIIp(III)", &PyList_Type, &pairs, &first, &PyList_Type, &numbers, &offset,
                          &time_ns, &shown.uid, &shown.gid, &shown.with_owners, &shown.file_mode,
                          &shown.directory_mode, &shown.symlink_mode))
        return NULL;
    shown.time_ns = time_ns;
    count = PyList_GET_SIZE(numbers);
    if (first < 0) {
        PyErr_SetString(PyExc_ValueError, "no list begins there");
        return NULL;
    }
    size = measure(pairs, first, count);
    if (PyErr_Occurred() || !(result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)))
        return NULL;
    at = memset(PyBytes_AS_STRING(result), 0, size);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyList_GET_ITEM(pairs, first + i);
        uint64_t number = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(numbers, i));
        size_t written = write_entry(at, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), number,
                                     offset + (uint64_t)i + 1, &shown);

        if (!written || PyErr_Occurred()) {
            Py_DECREF(result);
            return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
        }
        at += written;
    }
    return result;
}
