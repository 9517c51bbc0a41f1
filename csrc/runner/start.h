/*
 * The child's side of starting a command: from the fork to its program.
 */
#ifndef START_H
#define START_H

#include <sys/types.h>

/* What a child that could not start tells its parent. At most PIPE_BUF bytes, so written at once. */
struct start_report {
    int error;
    char text[1020];
};

struct start {
    const char *directory;
    char **arguments, **environment;
    int fds[3];
    int report;
    pid_t runner;
    int encloses;
};

/* Becomes the command, or tells through s->report why it can't. */
_Noreturn void be_child(const struct start *s);

#endif
