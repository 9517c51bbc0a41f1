/*
 * The command that a runner runs: its processes, its pipes and its end.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "frames.h"
#include "start.h"

enum phase {
    IDLE,
    RUNNING, /* the command's process has not been seen to end */
    ENDING,  /* all its processes are gone; output that was left in the pipes is being sent */
};

struct command {
    enum phase phase;
    pid_t pid;         /* also its process group and session */
    int wait_status;   /* from ENDING on */
    int report;        /* read end of the pipe that tells why it could not start */
    int input;         /* write end of its standard input, -1 when closed */
    off_t fed;         /* how much of runner.stdin_file went there */
    int outputs[2];    /* read ends of its standard output and error, -1 when closed */
    size_t left[2];    /* from ENDING on: what of them is still to be sent */
    uint64_t cpu_microseconds;
    uint64_t max_rss;
};

struct runner {
    struct client client;
    int signals;
    pid_t parent;
    int next_output;  /* which of the two outputs is read first in the next round */
    int stdin_file;   /* memory file of the STDIN frames, -1 before the first */
    int stdin_errno;  /* why it could not be kept */
    char **environment; /* what a command's entries are laid over; NULL: nothing */
    int may_enclose;
    int is_first; /* of a PID namespace: process 1, which all others there are below */
    int encloses; /* ENCLOSE has come: commands have no rights with which they could undo it */
    struct command command;
};

/* Keeps bytes for the standard input of the next command. */
void gather_stdin(struct runner *r, const uint8_t *data, size_t size);

void drop_stdin(struct runner *r);

/* Makes the pipes and the process. What fails is told to the client. */
void spawn(struct runner *r, struct start *s);

/* Queues up to `limit` bytes of one output, if there are any now. */
size_t take_output(struct runner *r, int which, size_t limit);

/* Gives the command what its standard input takes now. */
void feed(struct runner *r);

/* From RUNNING to ENDING. */
void finish(struct runner *r);

/* In ENDING, with no reply queued: queues the next. */
void queue_last_replies(struct runner *r);

void close_command(struct runner *r);

#endif
