/*
 * Offers requests to a Python function before pyfuse3 gets them: those that it has no handlers for, and those that can
 * be answered at once, which need none of its tasks.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "answers.h"

#include <errno.h>
#include <string.h>

static PyObject *offered[REQUEST_KINDS]; /* by opcode, a function or NULL */
static PyObject *settler;                /* takes in what held.c has answered, or NULL */

/* A function that raises takes the request as well: it is answered with EIO, and the exception is shown. */
static int offer(const struct fuse_in_header *request, size_t size)
{
    PyObject *function, *taken;
    int is_taken;

    if (settler && held_news()) {
        PyObject *settled = PyObject_CallNoArgs(settler);

        if (!settled)
            PyErr_WriteUnraisable(settler);
        Py_XDECREF(settled);
    }
    if (size < sizeof *request || request->opcode >= REQUEST_KINDS || !(function = offered[request->opcode]))
        return 0;
    taken = PyObject_CallFunction(function, "KKIIy#", (unsigned long long)request->unique,
                                  (unsigned long long)request->nodeid, request->uid, request->gid,
                                  (const char *)(request + 1), (Py_ssize_t)(size - sizeof *request));
    is_taken = taken ? PyObject_IsTrue(taken) : -1;
    Py_XDECREF(taken);
    if (is_taken < 0) {
        PyErr_WriteUnraisable(function);
        taking_reply(request->unique, EIO, NULL, 0);
    }
    return is_taken != 0;
}

static void *leave(void)
{
    return PyEval_SaveThread();
}

static void come_back(void *state)
{
    PyEval_RestoreThread(state);
}

PyObject *offering_set(PyObject *self, PyObject *arguments)
{
    unsigned kind;
    PyObject *function;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "IO:offer", &kind, &function))
        return NULL;
    if (kind >= REQUEST_KINDS) {
        PyErr_SetString(PyExc_ValueError, "there are no such requests");
        return NULL;
    }
    Py_XSETREF(offered[kind], function == Py_None ? NULL : Py_NewRef(function));
    taking_leave = leave;
    taking_return = come_back;
    taking_offer = offer;
    Py_RETURN_NONE;
}

PyObject *offering_settle(PyObject *self, PyObject *function)
{
    (void)self;
    Py_XSETREF(settler, function == Py_None ? NULL : Py_NewRef(function));
    Py_RETURN_NONE;
}

PyObject *offering_reply(PyObject *self, PyObject *arguments)
{
    unsigned long long unique;
    int error;
    Py_buffer body;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "Kiy*:reply", &unique, &error, &body))
        return NULL;
    taking_reply(unique, error, body.buf, (size_t)body.len);
    PyBuffer_Release(&body);
    Py_RETURN_NONE;
}
