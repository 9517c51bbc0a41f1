/*
 * Small new files while programs write them: writes, flushes and closes are answered here, and Python is told of them
 * together, before it gets any other request, or soon.
 *
 * What is told says where it belongs, so that what Python does to a file meanwhile does no harm. A file is left to
 * Python once it becomes large, or a request is made about it that could make it so.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "answers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MOST_HELD 64
/* Closing a larger file waits until it is sent. As in fuse/pfsfuse/opencommits/sending.py. */
#define SMALL_BYTES (64u << 10)

struct held {
    uint64_t inode; /* 0: free */
    char *data;     /* what Python was not told of, from `start` on */
    uint32_t size, room;
    uint64_t start;
    int64_t time_ns; /* of the last write */
    int is_flushed, is_closed, is_left;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct held all[MOST_HELD];
static unsigned count;    /* of them in use */
static int has_news;
static int is_announced;  /* the event is raised, and nobody has looked since */
static int news_fd = -1;

static struct held *find(uint64_t inode)
{
    for (unsigned at = 0; count && at < MOST_HELD; at++)
        if (all[at].inode == inode && !all[at].is_closed && !all[at].is_left)
            return &all[at];
    return NULL;
}

static void announce(void)
{
    uint64_t one = 1;

    __atomic_store_n(&has_news, 1, __ATOMIC_RELEASE);
    if (!is_announced && news_fd >= 0)
        is_announced = write(news_fd, &one, sizeof one) > 0;
}

static int make_room(struct held *file, uint32_t size)
{
    uint32_t room = file->room ? file->room : 512;
    char *data;

    while (room < size)
        room *= 2;
    if (room == file->room)
        return 0;
    data = realloc(file->data, room);
    if (!data)
        return -1;
    file->data = data;
    file->room = room;
    return 0;
}

/* Where there is no memory, Python is to say so. */
static int take_write(struct held *file, const struct fuse_write_in *write, const char *data)
{
    struct timespec now;

    if (write->offset > SMALL_BYTES || write->size > SMALL_BYTES - write->offset)
        return 0;
    if ((file->size && write->offset != file->start + file->size) || make_room(file, file->size + write->size))
        return 0;
    if (!file->size)
        file->start = write->offset;
    memcpy(file->data + file->size, data, write->size);
    file->size += write->size;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    file->time_ns = now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
    return 1;
}

static int answer_write(struct held *file, const struct fuse_in_header *request, const char *body, size_t size)
{
    const struct fuse_write_in *write = (const void *)body;
    struct fuse_write_out answer = {0};

    if (size < sizeof *write || size - sizeof *write < write->size || !write->size ||
        !take_write(file, write, body + sizeof *write))
        return 0;
    announce();
    answer.size = write->size;
    taking_reply(request->unique, 0, &answer, sizeof answer);
    return 1;
}

static int answer_held(struct held *file, const struct fuse_in_header *request, const char *body, size_t size)
{
    switch (request->opcode) {
    case FUSE_WRITE:
        return answer_write(file, request, body, size);
    case FUSE_FLUSH:
        file->is_flushed = 1;
        break;
    case FUSE_RELEASE:
        file->is_closed = 1;
        break;
    default:
        return 0;
    }
    announce();
    taking_reply(request->unique, 0, NULL, 0);
    return 1;
}

/* Whether a request leaves a file as small as it is. */
static int is_harmless(const struct fuse_in_header *request, const char *body, size_t size)
{
    const struct fuse_setattr_in *change = (const void *)body;

    switch (request->opcode) {
    case FUSE_GETATTR:
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR:
    case FUSE_SETXATTR:
    case FUSE_READ:
    case FUSE_FSYNC:
    case FUSE_FORGET:
        return 1;
    case FUSE_SETATTR:
        return size >= sizeof *change && !(change->valid & FATTR_SIZE);
    default:
        return 0;
    }
}

static void leave(struct held *file)
{
    file->is_left = 1;
    announce();
}

int held_answer(const char *message, size_t size)
{
    const struct fuse_in_header *request = (const void *)message;
    const char *body = message + sizeof *request;
    struct held *file;
    int is_answered = 0;

    if (size < sizeof *request || !__atomic_load_n(&count, __ATOMIC_RELAXED))
        return 0;
    size -= sizeof *request;
    pthread_mutex_lock(&lock);
    if ((file = find(request->nodeid))) {
        is_answered = answer_held(file, request, body, size);
        if (!is_answered && !is_harmless(request, body, size))
            leave(file);
    }
    if (request->opcode == FUSE_COPY_FILE_RANGE) /* which names two files */
        for (unsigned at = 0; at < MOST_HELD; at++)
            if (all[at].inode)
                leave(&all[at]);
    pthread_mutex_unlock(&lock);
    return is_answered;
}

int held_news(void)
{
    return __atomic_load_n(&has_news, __ATOMIC_ACQUIRE);
}

/* --- what the Python code says */

PyObject *held_hold(PyObject *self, PyObject *inode)
{
    uint64_t number = PyLong_AsUnsignedLongLong(inode);
    unsigned at = 0;

    (void)self;
    if (PyErr_Occurred())
        return NULL;
    pthread_mutex_lock(&lock);
    if (news_fd < 0)
        news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    while (at < MOST_HELD && all[at].inode)
        at++;
    if (at < MOST_HELD && news_fd >= 0) {
        all[at] = (struct held){.inode = number};
        __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&lock);
    Py_RETURN_NONE;
}

static void drop(struct held *file)
{
    free(file->data);
    *file = (struct held){0};
    __atomic_fetch_sub(&count, 1, __ATOMIC_RELAXED);
}

/* What is there of a file that Python does not know; NULL where there is nothing, or with an exception. */
static PyObject *news_of(struct held *file)
{
    PyObject *told = NULL;

    if (file->size || file->is_flushed || file->is_closed)
        told = Py_BuildValue("(KKy#Lii)", (unsigned long long)file->inode, (unsigned long long)file->start,
                             file->size ? file->data : "", (Py_ssize_t)file->size, (long long)file->time_ns,
                             file->is_flushed, file->is_closed);
    if (told) {
        file->size = 0;
        file->is_flushed = 0;
    }
    return told;
}

/* Tells all news, and holds nothing any more where `ends`. Where memory is short, what is not told stays. */
static PyObject *tell(int ends)
{
    PyObject *list = PyList_New(0);
    uint64_t times;

    if (!list)
        return NULL;
    pthread_mutex_lock(&lock);
    if (is_announced && news_fd >= 0 && read(news_fd, &times, sizeof times) > 0)
        is_announced = 0;
    __atomic_store_n(&has_news, 0, __ATOMIC_RELEASE);
    for (unsigned at = 0; count && at < MOST_HELD && !PyErr_Occurred(); at++) {
        struct held *file = &all[at];
        PyObject *told = file->inode ? news_of(file) : NULL;

        if (told && PyList_Append(list, told) < 0) {
            Py_CLEAR(told);
            break;
        }
        Py_XDECREF(told);
        if (file->inode && !PyErr_Occurred() && (ends || file->is_closed || file->is_left))
            drop(file);
    }
    pthread_mutex_unlock(&lock);
    if (PyErr_Occurred())
        Py_CLEAR(list);
    return list;
}

PyObject *held_tell(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return tell(0);
}

PyObject *held_end(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return tell(1);
}

PyObject *held_event(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    pthread_mutex_lock(&lock);
    if (news_fd < 0)
        news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_unlock(&lock);
    return news_fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(news_fd);
}
