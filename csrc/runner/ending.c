/* See ending.h. */
#define _GNU_SOURCE
#include "ending.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 1, 2))) void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("pfs-runner: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

enum end failed(const char *what)
{
    complain("%s: %s", what, strerror(errno));
    return FAILED;
}

void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
