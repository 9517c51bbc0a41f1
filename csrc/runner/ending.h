/*
 * How pfs-runner ends: for which reasons, with what status, and in what words.
 */
#ifndef ENDING_H
#define ENDING_H

#include <signal.h>

enum {
    MALFORMED_STATUS = 2,
    USAGE_STATUS = 64,
};

enum { PARENT_DIED = SIGUSR1 }; /* what the kernel sends when the parent has ended */

/* Why serving a connection ended; CONTINUE: it has not. */
enum end { CONTINUE, CLIENT_GONE, STOPPED, MALFORMED, FAILED };

/* One line on standard error. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

/* Says that the system refused something, and why: errno. */
enum end failed(const char *what);

/* Closes a descriptor that may be -1, and makes it that. */
void close_fd(int *fd);

#endif
